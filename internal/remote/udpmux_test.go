package remote

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/stun/v4"
)

// testSocket is a mediaSocket without a network.
type testSocket struct {
	in     chan testDatagram
	taken  chan struct{} // follows each of in
	closed chan struct{}
	once   sync.Once
}

type testDatagram struct {
	data []byte
	from netip.AddrPort
}

func newTestMux(t *testing.T) (*udpMux, *testSocket) {
	s := &testSocket{in: make(chan testDatagram), taken: make(chan struct{}), closed: make(chan struct{})}
	m := newUDPMux(s, false, testLogger(t), again)
	t.Cleanup(func() { _ = m.Close() })
	return m, s
}

func (s *testSocket) receive(take func([]byte, netip.AddrPort)) error {
	select {
	case d := <-s.in:
		take(d.data, d.from)
		s.taken <- struct{}{}
		return nil
	case <-s.closed:
		return net.ErrClosed
	}
}

func (s *testSocket) send(b []byte, _ netip.AddrPort) (int, error) { return len(b), nil }

func (s *testSocket) localAddr() *net.UDPAddr { return &net.UDPAddr{IP: net.IPv6unspecified, Port: 1} }
func (s *testSocket) times() *arrivals        { return nil }
func (s *testSocket) stats() socketStats      { return socketStats{} }
func (s *testSocket) close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// again lets a panic go on.
func again(reason any, _ []byte) { panic(reason) }

// arrive has a datagram arrive.
func (s *testSocket) arrive(data []byte, from netip.AddrPort) {
	s.in <- testDatagram{data, from}
	<-s.taken
}

var (
	browser  = netip.MustParseAddrPort("192.0.2.1:1000")
	other    = netip.MustParseAddrPort("192.0.2.1:1001")
	browser6 = netip.MustParseAddrPort("[2001:db8::1]:1000")
)

func testConn(t *testing.T, m *udpMux, ufrag, local string) *muxConn {
	t.Helper()
	c, err := memberMux{m, newCheckBudget(newMetrics(nil)), again}.GetConn(ufrag, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(local)))
	must(t, err)
	if _, ok := c.(ice.AddrPortReaderWriter); !ok {
		t.Fatal("its addresses cost allocations")
	}
	return c.(*muxConn)
}

func bindingRequest(ufrag string) []byte {
	return stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername(ufrag+":theirs")).Raw
}

func bindingSuccess() []byte { return stun.MustBuild(stun.TransactionID, stun.BindingSuccess).Raw }

// answer has a conn answer a request from an address.
func answer(t *testing.T, c *muxConn, to netip.AddrPort) {
	t.Helper()
	_, err := c.WriteToAddrPort(bindingSuccess(), to)
	must(t, err)
}

// got checks what a conn reads next.
func got(t *testing.T, c *muxConn, data []byte, from netip.AddrPort) {
	t.Helper()
	buf := make([]byte, receiveMTU)
	n, addr, err := c.ReadFromAddrPort(buf)
	if err != nil || !bytes.Equal(buf[:n], data) || addr != from {
		t.Fatalf("read %x from %v, %v, not %x from %v", buf[:n], addr, err, data, from)
	}
}

func TestMuxLeadsRequestsByUfragAndTheRestByAddress(t *testing.T) {
	m, s := newTestMux(t)
	alice, bob := testConn(t, m, "alice", "10.0.0.1:1"), testConn(t, m, "bob", "10.0.0.1:1")
	alice6 := testConn(t, m, "alice", "[2001:db8::9]:1")
	for c, from := range map[*muxConn]netip.AddrPort{alice: browser, bob: other, alice6: browser6} {
		request := bindingRequest(c.branch.key.ufrag)
		s.arrive(request, from)
		got(t, c, request, from)
		answer(t, c, from)
		s.arrive([]byte("media"), from)
		got(t, c, []byte("media"), from)
	}
	request := bindingRequest("alice") // from where bob was: her new, peer-reflexive address
	s.arrive(request, other)
	got(t, alice, request, other)
	s.arrive([]byte("bob's"), other)
	got(t, bob, []byte("bob's"), other)
	if n := m.unknown.Load(); n != 0 {
		t.Errorf("%d were for nobody", n)
	}
}

// A page that connects anew may do so from the same port.
func TestMuxAddressGoesToTheConnectionThatAnsweredLast(t *testing.T) {
	m, s := newTestMux(t)
	before, after := testConn(t, m, "before", "10.0.0.1:1"), testConn(t, m, "after", "10.0.0.1:1")
	answer(t, before, browser)
	request := bindingRequest("after")
	s.arrive(request, browser)
	got(t, after, request, browser)
	answer(t, after, browser)
	s.arrive([]byte("hello"), browser)
	got(t, after, []byte("hello"), browser)
	must(t, before.Close()) // takes nothing with it
	s.arrive([]byte("media"), browser)
	got(t, after, []byte("media"), browser)
}

// A member may name another's address as its own, and have us send there.
func TestMuxAddressCannotBeTakenByNamingIt(t *testing.T) {
	m, s := newTestMux(t)
	victim, thief := testConn(t, m, "victim", "10.0.0.1:1"), testConn(t, m, "thief", "10.0.0.1:1")
	_, err := thief.WriteToAddrPort(bindingRequest("x"), browser) // before the victim came
	must(t, err)
	s.arrive(bindingRequest("victim"), browser)
	answer(t, victim, browser)
	for _, data := range [][]byte{bindingRequest("x"), []byte("hello")} {
		_, err := thief.WriteToAddrPort(data, browser)
		must(t, err)
	}
	s.arrive([]byte("media"), browser)
	_, _, err = victim.ReadFromAddrPort(make([]byte, 100)) // the request
	must(t, err)
	got(t, victim, []byte("media"), browser)
}

func TestMuxFindsWhoItAskedFirst(t *testing.T) {
	m, s := newTestMux(t)
	c := testConn(t, m, "ours", "10.0.0.1:1")
	mapped := netip.AddrPortFrom(netip.AddrFrom16(browser.Addr().As16()), browser.Port())
	_, err := c.WriteToAddrPort(bindingRequest("theirs"), mapped)
	must(t, err)
	response := bindingSuccess()
	s.arrive(response, browser)
	got(t, c, response, browser)
}

func TestMuxKeepsNothingOfStrangers(t *testing.T) {
	m, s := newTestMux(t)
	testConn(t, m, "ours", "10.0.0.1:1")
	const each = 1000
	for i := range each {
		from := netip.AddrPortFrom(browser.Addr(), uint16(i+1))
		s.arrive(bindingRequest(fmt.Sprint("unknown", i)), from)
		s.arrive([]byte("media"), from)
	}
	s.arrive(bindingRequest("ours"), browser6) // no candidate of that family
	if len(m.branches) != 1 || len(m.routes) != 0 || m.unknown.Load() != 2*each+1 {
		t.Errorf("%d branches, %d routes, %d unknown", len(m.branches), len(m.routes), m.unknown.Load())
	}
}

// pion keeps every address that it has answered.
func TestMuxBoundsTheAddressesOfAConnection(t *testing.T) {
	m, s := newTestMux(t)
	hostile, victim := testConn(t, m, "hostile", "10.0.0.1:1"), testConn(t, m, "victim", "10.0.0.1:1")
	answer(t, victim, other)
	request, hello := bindingRequest("hostile"), []byte("hello")
	for i := range 3 * maxAddresses {
		to := netip.AddrPortFrom(browser.Addr(), uint16(2000+i))
		if i%2 == 0 {
			answer(t, hostile, to)
		} else if _, err := hostile.WriteToAddrPort(hello, to); err != nil {
			t.Fatal(err)
		}
		s.arrive(request, to)
		if i < maxAddresses {
			got(t, hostile, request, to)
		}
	}
	if n := m.unknown.Load(); n != 2*maxAddresses {
		t.Errorf("%d requests were refused", n)
	}
	answer(t, hostile, other)
	if len(m.routes) != maxAddresses+1 || len(hostile.branch.addresses) != maxAddresses || m.routes[other].branch != victim.branch {
		t.Errorf("%d routes, %d addresses", len(m.routes), len(hostile.branch.addresses))
	}
	first := netip.AddrPortFrom(browser.Addr(), 2000) // goes on
	s.arrive(request, first)
	got(t, hostile, request, first)
	must(t, hostile.Close())
	if len(m.routes) != 1 {
		t.Errorf("%d routes are left", len(m.routes))
	}
}

func TestMuxBoundsWhatWaits(t *testing.T) {
	m, s := newTestMux(t)
	c := testConn(t, m, "ours", "10.0.0.1:1")
	answer(t, c, browser)
	packet := make([]byte, 1200)
	const more = 10
	for range maxQueued/len(packet) + more {
		s.arrive(packet, browser)
	}
	if n := m.overflow.Load(); n != more {
		t.Errorf("%d did not fit", n)
	}
	for range maxQueued / len(packet) {
		got(t, c, packet, browser)
	}
	if cap(c.data) > keptQueue {
		t.Errorf("%d bytes are kept", cap(c.data))
	}
	s.arrive(packet, browser)
	got(t, c, packet, browser)
}

// What came while this process was not run is not put into pion's queues at
// once: those would keep the room for it.
func TestMuxHandsABurstOverInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s := newTestMux(t)
		c := testConn(t, m, "ours", "10.0.0.1:1")
		answer(t, c, browser)
		packet := make([]byte, 1200)
		var handed atomic.Int64
		go func() {
			buf := make([]byte, receiveMTU)
			for {
				n, _, err := c.ReadFromAddrPort(buf)
				if err != nil {
					return
				}
				handed.Add(int64(n))
			}
		}()
		for round := range 3 {
			const burst = 500
			c.mu.Lock() // this process is not run
			for range burst {
				c.data = append(c.data, packet...)
				c.queue = append(c.queue, queuedDatagram{browser, len(c.data)})
			}
			c.arrived.Signal()
			c.mu.Unlock()
			start, all := time.Now(), int64(0)
			for all < burst*int64(len(packet)) {
				synctest.Wait() // until whoever is behind has nothing left to do
				n := handed.Swap(0)
				if n > handOver+int64(len(packet)) {
					t.Fatalf("round %d: %d bytes are handed over at once", round, n)
				}
				if all += n; n == 0 {
					time.Sleep(handOverPause / 2)
				}
			}
			if took := time.Since(start); took > 100*time.Millisecond {
				t.Errorf("round %d: it takes %v", round, took)
			}
			time.Sleep(time.Second)
			// What comes one by one is not held up.
			for range 100 {
				at := time.Now()
				s.arrive(packet, browser)
				synctest.Wait()
				if n := handed.Swap(0); n != int64(len(packet)) || time.Since(at) > 0 {
					t.Fatalf("round %d: %d bytes after %v", round, n, time.Since(at))
				}
			}
		}
	})
}

func TestMuxBoundsHowManyWait(t *testing.T) {
	m, s := newTestMux(t)
	c := testConn(t, m, "ours", "10.0.0.1:1")
	answer(t, c, browser)
	const more = 10
	for range maxQueuedDatagrams + more {
		s.arrive(nil, browser)
	}
	if n := m.overflow.Load(); n != more {
		t.Errorf("%d did not fit", n)
	}
	for range maxQueuedDatagrams {
		got(t, c, nil, browser)
	}
	if cap(c.queue) > keptDatagrams {
		t.Errorf("room for %d is kept", cap(c.queue))
	}
}

// Only what waits counts, even if there always is something that does.
func TestMuxHasRoomForAsMuchAsWasRead(t *testing.T) {
	m, s := newTestMux(t)
	c := testConn(t, m, "ours", "10.0.0.1:1")
	answer(t, c, browser)
	packet := func(i int) []byte { return binary.BigEndian.AppendUint64(make([]byte, 1000), uint64(i)) }
	const behind = 100
	for i := range 10 * maxQueued / 1000 {
		s.arrive(packet(i), browser)
		if i >= behind {
			got(t, c, packet(i-behind), browser)
		}
	}
	if n := m.overflow.Load(); n != 0 {
		t.Errorf("%d did not fit", n)
	}
	if cap(c.data) > maxQueued {
		t.Errorf("%d bytes for %d datagrams", cap(c.data), behind)
	}
}

func TestMuxConnsOfAConnectionStandInForEachOther(t *testing.T) {
	m, s := newTestMux(t)
	first, second := testConn(t, m, "ours", "10.0.0.1:1"), testConn(t, m, "ours", "10.0.0.2:1")
	answer(t, second, browser)
	s.arrive([]byte("one"), browser)
	got(t, first, []byte("one"), browser)
	must(t, first.Close())
	must(t, first.Close())
	s.arrive([]byte("two"), browser)
	got(t, second, []byte("two"), browser)
	must(t, second.Close())
	if len(m.branches) != 0 || len(m.routes) != 0 {
		t.Errorf("%d branches and %d routes are left", len(m.branches), len(m.routes))
	}
	_, err := second.WriteToAddrPort(bindingSuccess(), browser)
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("writing to a closed conn: %v", err)
	}
}

func TestMuxEndsReads(t *testing.T) {
	for name, end := range map[string]func(*udpMux, *muxConn) error{
		"conn":  func(_ *udpMux, c *muxConn) error { return c.Close() },
		"ufrag": func(m *udpMux, _ *muxConn) error { m.RemoveConnByUfrag("ours"); return nil },
		"mux":   func(m *udpMux, _ *muxConn) error { return m.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			m, _ := newTestMux(t)
			c, c6 := testConn(t, m, "ours", "10.0.0.1:1"), testConn(t, m, "ours", "[2001:db8::9]:1")
			answer(t, c, browser)
			ended := make(chan error)
			go func() {
				_, _, err := c.ReadFrom(make([]byte, 100))
				ended <- err
			}()
			must(t, end(m, c))
			if err := <-ended; !errors.Is(err, io.EOF) {
				t.Errorf("reading ended with %v", err)
			}
			must(t, c6.Close())
			if len(m.branches) != 0 || len(m.routes) != 0 {
				t.Errorf("%d branches and %d routes are left", len(m.branches), len(m.routes))
			}
		})
	}
	m, _ := newTestMux(t)
	must(t, m.Close())
	must(t, m.Close())
	if _, err := m.connect("late", &net.UDPAddr{IP: net.IPv4zero}, nil, again); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a conn of a closed mux: %v", err)
	}
}

func TestMuxTakesPacketsWithoutAllocating(t *testing.T) {
	m, s := newTestMux(t)
	must(t, s.close())
	<-m.done // this test is the reader
	c := testConn(t, m, "ours", "10.0.0.1:1")
	answer(t, c, browser)
	packet, request, buf := make([]byte, 1200), bindingRequest("ours"), make([]byte, receiveMTU)
	if n := testing.AllocsPerRun(100, func() {
		for _, data := range [][]byte{packet, request} {
			m.route(data, browser)
			m.awake = m.awake[:0]
			if _, _, err := c.ReadFromAddrPort(buf); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.WriteToAddrPort(packet, browser); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzMuxRoute(f *testing.F) {
	f.Add(bindingRequest("ours"))
	f.Add(bindingSuccess())
	f.Add(bindingRequest("ours")[:24])
	f.Fuzz(func(t *testing.T, datagram []byte) {
		m, s := newTestMux(t)
		c := testConn(t, m, "ours", "10.0.0.1:1")
		s.arrive(datagram, browser)
		if c.next != len(c.queue) {
			got(t, c, datagram, browser)
		}
		must(t, m.Close())
		if len(m.routes) != 0 {
			t.Error("a stranger left something")
		}
	})
}

func TestCandidatesNameWhatOthersCanReach(t *testing.T) {
	interfaces := func(list ...string) (all []net.Addr) {
		for _, text := range list {
			ip, network, err := net.ParseCIDR(text)
			must(t, err)
			all = append(all, &net.IPNet{IP: ip, Mask: network.Mask})
		}
		return all
	}
	all := interfaces("127.0.0.1/8", "::1/128", "10.0.0.1/8", "2001:db8::1/64", "fe80::1/64")
	for _, c := range []struct {
		ipv6, loopback bool
		want           string
	}{
		{true, false, "[10.0.0.1 2001:db8::1]"},
		{false, false, "[10.0.0.1]"},
		{true, true, "[127.0.0.1 ::1]"},
		{false, true, "[127.0.0.1]"},
	} {
		if got := fmt.Sprint(reachable(all, c.ipv6, c.loopback)); got != c.want {
			t.Errorf("IPv6 %t, loopback %t: %v", c.ipv6, c.loopback, got)
		}
	}
	m, _ := newTestMux(t)
	m.loopback = true
	if len(m.GetListenAddresses()) == 0 {
		t.Error("this machine has no address")
	}
}

// What comes from a denied network is not answered, so that no connection is made there.
func TestMuxTakesNoRequestFromADeniedNetwork(t *testing.T) {
	m, s := newTestMux(t)
	m.refuse([]netip.Prefix{netip.PrefixFrom(browser.Addr(), browser.Addr().BitLen())})
	c := testConn(t, m, "ours", "10.0.0.1:1")
	request, elsewhere := bindingRequest("ours"), netip.MustParseAddrPort("198.51.100.7:5000")
	s.arrive(request, browser)
	s.arrive(request, elsewhere)
	got(t, c, request, elsewhere)
	if n := m.unknown.Load(); n != 1 {
		t.Errorf("%d datagrams were refused", n)
	}
}
