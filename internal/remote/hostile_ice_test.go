package remote

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/stun/v4"
	"github.com/pion/transport/v5/vnet"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// tap is a shared port without a network that keeps what is sent.
type tap struct {
	*testSocket
	mu     sync.Mutex
	checks []time.Time
	to     map[netip.AddrPort]int // checks
}

func (s *tap) send(b []byte, to netip.AddrPort) (int, error) {
	if isSTUN(b, stun.BindingRequest) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.checks = append(s.checks, time.Now())
		s.to[to]++
	}
	return len(b), nil
}

// busiest is the most checks in any second.
func (s *tap) busiest() (most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := 0
	for i, at := range s.checks {
		for at.Sub(s.checks[from]) >= time.Second {
			from++
		}
		most = max(most, i-from+1)
	}
	return most
}

// newTap is a tap and the mux on it.
func newTap(t *testing.T) (*udpMux, *tap) {
	in := &testSocket{in: make(chan testDatagram), taken: make(chan struct{}), closed: make(chan struct{})}
	s := &tap{testSocket: in, to: map[netip.AddrPort]int{}}
	return newUDPMux(s, false, testLogger(t), again), s
}

// seen is how often which addresses were checked.
func (s *tap) seen() (all int, to map[netip.AddrPort]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.checks), maps.Clone(s.to)
}

// withTap runs f with a peer behind the shared port, in a bubble.
func withTap(t *testing.T, f func(t *testing.T, w *world, s *tap)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var s *tap
		w.api.mux, s = newTap(t)
		w.peer = w.newPeer("bot", "mallory")
		w.seen = record(w.peer)
		defer w.close()
		f(t, w, s)
	})
}

// restarting is an offer of one connection with ICE credentials of its own.
func restarting(n int, lines ...string) string {
	text := offerText(opusLine + "a=sendrecv\na=msid:s t\n" + strings.Join(lines, "\n"))
	return strings.ReplaceAll(text, "abcd\r\n", fmt.Sprintf("abcd%d\r\n", n))
}

// TestAMemberCannotEndTheProcessWithACandidate: one line did, from a member
// that was connected to nothing.
func TestAMemberCannotEndTheProcessWithACandidate(t *testing.T) {
	lines := []string{
		"candidate:1 1 udp 2130706431 evil.example.invalid 53 typ host",
		"candidate:2 1 udp 2130706431 .invalid 53 typ host",
		"candidate:3 1 udp 2130706431 evil.local 53 typ host",
		"candidate:4 1 tcp 2130706431 evil.invalid 53 typ host tcptype passive",
		"candidate:5 1 udp 2130706431 fe80::1%.invalid 53 typ host",
		"candidate:6 1 udp 2130706431 10.9.0.1 53 typ srflx raddr evil.invalid rport 1",
	}
	for _, trickled := range []bool{true, false} {
		withTap(t, func(t *testing.T, w *world, s *tap) {
			if trickled {
				w.peer.HandleDirect(offerSignal(t, restarting(0)))
				for _, line := range lines {
					w.peer.HandleDirect(candidate(line, "abcd0"))
				}
			} else {
				w.peer.HandleDirect(offerSignal(t, restarting(0, "a="+strings.Join(lines, "\na="))))
			}
			time.Sleep(5 * time.Second)
			if _, to := s.seen(); len(to) != 1 || to[netip.MustParseAddrPort("10.9.0.1:53")] == 0 {
				t.Errorf("trickled %t: checks went to %v", trickled, to)
			}
			if n := w.dropped(dropName); n != 3 {
				t.Errorf("trickled %t: %v names were dropped", trickled, n)
			}
			if e := seen[ICECandidateError](w.seen); len(e) != 0 {
				t.Errorf("errors: %v", e)
			}
		})
	}
}

// Whatever address pion has of a candidate, a conn of ours takes it.
func TestAConnTakesNoAddressForAnAddress(t *testing.T) {
	m, _ := newTestMux(t)
	c := testConn(t, m, "ours", "10.0.0.1:1")
	for _, to := range []net.Addr{nil, (*net.UDPAddr)(nil), &net.UDPAddr{}, &net.UDPAddr{IP: net.IP{1}}, &net.TCPAddr{}, (*net.TCPAddr)(nil)} {
		if _, err := c.WriteTo(bindingSuccess(), to); err == nil {
			t.Errorf("%#v was written to", to)
		}
	}
	if _, err := c.WriteToAddrPort(bindingSuccess(), netip.AddrPort{}); err == nil {
		t.Error("no address was written to")
	}
	for _, local := range []net.Addr{nil, (*net.UDPAddr)(nil), &net.TCPAddr{}} {
		if _, err := m.connect("late", local, nil, again); err == nil {
			t.Errorf("%#v has a conn", local)
		}
	}
	if len(m.routes) != 0 {
		t.Errorf("%d routes", len(m.routes))
	}
}

// attack has a member restart ICE as often as it may, with as many candidates
// as it may, over as many connections as it may, and looks at what is sent.
func attack(t *testing.T, w *world, s *tap) {
	start := time.Now()
	const offers = 60
	for n := range offers {
		var lines []string
		for i := range 100 {
			lines = append(lines, fmt.Sprintf("a=candidate:%d 1 udp 1 10.9.%d.%d 53 typ host", i, n, i))
		}
		text := restarting(n, lines...)
		if n%7 == 6 { // from a connection of its own
			text = strings.Replace(text, "4611731400430051336", fmt.Sprint(n), 1)
		}
		w.peer.HandleDirect(offerSignal(t, text))
		time.Sleep(offerEvery)
	}
	settle()
	seconds, busiest := time.Since(start).Seconds(), s.busiest()
	all, to := s.seen()
	n := float64(all)
	t.Logf("%.0f checks of %d addresses in %.0f s: %.1f a second, at most %d in one", n, len(to), seconds, n/seconds, busiest)
	if busiest > 2*maxChecks {
		t.Errorf("%d checks in a second", busiest)
	}
	if most := maxChecks*seconds + maxChecks; n > most || n < 20 {
		t.Errorf("%v checks, want at most %v", n, most)
	}
	if testutil.ToFloat64(w.api.metrics.checksDropped) == 0 || w.dropped(dropLimit) == 0 {
		t.Error("what was left out is not counted")
	}
}

func TestAMemberCannotHaveUsSendMoreThanABit(t *testing.T) {
	withTap(t, attack)
}

// Connections with ports of their own are bounded as well.
func TestAMemberCannotHaveUsSendMoreThanABitFromOtherPorts(t *testing.T) {
	run(t, "bot", "mallory", func(t *testing.T, w *world) {
		s := &tap{to: map[netip.AddrPort]int{}}
		w.router.AddChunkFilter(func(c vnet.Chunk) bool {
			_, _ = s.send(c.UserData(), c.DestinationAddr().(*net.UDPAddr).AddrPort())
			return true
		})
		attack(t, w, s)
	})
}

// A member that is there is checked as pion likes, whatever else it has named.
// Who forges requests from many addresses has few of them checked.
func TestAnAddressThatAnsweredIsChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s := newTap(t)
		c := testConn(t, m, "ours", "10.0.0.1:1")
		ask := func(to netip.AddrPort) {
			_, err := c.WriteToAddrPort(bindingRequest("theirs"), to)
			must(t, err)
		}
		for i := range 200 {
			ask(netip.AddrPortFrom(other.Addr(), uint16(2000+i)))
		}
		if n := len(s.checks); n == 0 || n > maxChecks {
			t.Errorf("%d checks at once", n)
		}
		answer(t, c, browser)
		for range 200 {
			time.Sleep(50 * time.Millisecond)
			ask(browser)
		}
		if s.to[browser] != 200 {
			t.Errorf("%d of 200 checks went to the member", s.to[browser])
		}
		time.Sleep(time.Second)
		before := len(s.checks)
		for i := range 500 {
			forged := netip.AddrPortFrom(other.Addr(), uint16(3000+i))
			answer(t, c, forged)
			ask(forged)
		}
		if n := len(s.checks) - before; n == 0 || n > maxProvenChecks {
			t.Errorf("%d checks of forged addresses at once", n)
		}
		must(t, m.Close())
	})
}

// Each of many addresses is checked, however many there are.
func TestABudgetServesAllAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const times, addresses, rounds = 50, 20, 8
		checked := 0
		for range times {
			m, s := newTap(t)
			c := testConn(t, m, "ours", "10.0.0.1:1")
			for range rounds { // as pion does
				for i := range addresses {
					_, _ = c.WriteToAddrPort(bindingRequest("theirs"), netip.AddrPortFrom(other.Addr(), uint16(1+i)))
				}
				time.Sleep(200 * time.Millisecond)
			}
			checked += len(s.to)
			must(t, m.Close())
		}
		if least := times * addresses * 95 / 100; checked < least { // which ones are left out is chance
			t.Errorf("%d of %d addresses were checked, want at least %d", checked, times*addresses, least)
		}
	})
}

// What goes to TURN servers holds checks as well.
func TestChecksAreFoundInWhatARelaySends(t *testing.T) {
	check := bindingRequest("theirs")
	channel := append([]byte{0x40, 0x01, 0, byte(len(check))}, check...)
	data := func(b []byte) []byte {
		m, err := stun.Build(stun.TransactionID, turnSend, stun.RawAttribute{Type: stun.AttrData, Value: b})
		must(t, err)
		return m.Raw
	}
	for name, c := range map[string]struct {
		b    []byte
		want bool
	}{
		"check": {check, true}, "channel data": {channel, true}, "send indication": {data(check), true},
		"answer": {bindingSuccess(), false}, "media in channel data": {[]byte{0x40, 1, 0, 4, 0x80, 0, 0, 0}, false},
		"media in a send indication": {data([]byte{0x80, 0, 0, 0}), false}, "nothing": {nil, false}, "short": {[]byte{0x40}, false},
		"broken send indication": {data(check)[:24], false},
	} {
		if isCheck(c.b) != c.want {
			t.Errorf("%s: taken for a check: %t", name, !c.want)
		}
	}
}
