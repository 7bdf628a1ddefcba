package remote

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/pion/transport/v5"
	"github.com/pion/transport/v5/vnet"
	"github.com/pion/webrtc/v4"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

var members = flag.Int("members", 20, "how many hostile members TestHostileMembers makes up")

// vnetSocket is a mediaSocket on a network in memory.
type vnetSocket struct {
	*testSocket
	conn transport.UDPConn
	buf  [2048]byte
}

func (s *vnetSocket) receive(take func([]byte, netip.AddrPort)) error {
	n, from, err := s.conn.ReadFrom(s.buf[:])
	if err != nil {
		return net.ErrClosed
	}
	take(s.buf[:n], from.(*net.UDPAddr).AddrPort())
	return nil
}

func (s *vnetSocket) send(b []byte, to netip.AddrPort) (int, error) {
	return s.conn.WriteTo(b, net.UDPAddrFromAddrPort(to))
}

func (s *vnetSocket) close() error { return s.conn.Close() }

// hostileCandidates take turns with those of a browser.
var hostileCandidates = []string{
	"candidate:1 1 udp 2130706431 evil.example.invalid 53 typ host", "candidate:1 1 udp 1 evil.local 53 typ host", "candidate:", "",
	"candidate:1 1 tcp 1 10.0.0.2 9 typ host tcptype active", "candidate:1 1 tcp 1 10.0.0.2 22 typ host tcptype passive",
	"candidate:1 1 udp 1 127.0.0.1 53 typ host", "candidate:1 1 udp 4294967295 10.9.0.1 65535 typ relay raddr x rport y",
	"candidate:1 1 udp 0 ::ffff:10.9.0.1 1 typ srflx", "candidate:1 1 udp 1 2001:db8::1 1 typ prflx", "candidate:1 2 udp 1 10.9.0.1 1 typ host",
	"candidate:1 1 udp 1 10.0.0.1 7000 typ host", "candidate:1 1 udp 1 10.9.0.1 0 typ host", "candidate:1 1 udp 1 fe80::1%.invalid 9 typ host",
	"candidate:1 1 udp 1 10.0.0.255 9 typ host ufrag x", "candidate:1 1 ssltcp 1 10.0.0.2 9 typ host", "candidate:1 1 udp 1 10.9.0.1 9 typ host tcptype passive",
}

// dice hands out the bytes of a script, and 0 when it is over.
type dice struct {
	mu     sync.Mutex
	script []byte
}

func (d *dice) roll() byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.script) == 0 {
		return 0
	}
	b := d.script[0]
	d.script = d.script[1:]
	return b
}

func (d *dice) take(n int) (b []byte) {
	for range n {
		b = append(b, d.roll())
	}
	return b
}

// candidate is one of those above, some bytes of it changed.
func (d *dice) candidate() string {
	text := []byte(hostileCandidates[int(d.roll())%len(hostileCandidates)])
	for range d.roll() % 4 {
		if at, c := d.roll(), d.roll(); len(text) > 0 {
			text[int(at)%len(text)] = c
		}
	}
	return string(text)
}

// spoil changes a datagram: with a fixed script the same of each, more or less.
func spoil(b []byte, how []byte) {
	if len(b) == 0 || len(how) < 4 || how[0]%4 != 0 {
		return
	}
	for i := 1; i+1 < len(how); i += 2 {
		at := int(how[i])
		if at%2 == 1 {
			at = len(b) - 1 - at // from the end
		}
		if at = at % len(b); at >= 0 {
			b[at] ^= how[i+1]
		}
	}
}

// hostileMember runs one member by a script, the whole way: frames as the
// service hands them over, descriptions, candidates, and what arrives on the
// one port while ICE, DTLS, SRTP and SCTP are up. Nothing may panic, and the
// peer has to end.
func hostileMember(t *testing.T, frame, script []byte, check func(*world, func(string) []*sinkhole)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		conn, err := w.net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 7000})
		must(t, err)
		w.api.mux = newUDPMux(&vnetSocket{testSocket: &testSocket{}, conn: conn}, false, testLogger(t), func(r any, stack []byte) {
			t.Errorf("port: %v\n%s", r, stack)
		})
		d := &dice{script: script}
		every, how := int(d.roll())%16, d.take(8)
		var mu sync.Mutex
		datagrams := 0
		w.router.AddChunkFilter(func(c vnet.Chunk) bool {
			mu.Lock()
			defer mu.Unlock()
			if datagrams++; c.DestinationAddr().String() == "10.0.0.1:7000" && every > 0 && datagrams%every == 0 {
				spoil(c.UserData(), how)
			}
			return true
		})
		w.peer = w.newPeer("bot", "mallory")
		defer w.close()
		sinks := forwardAll(w.peer)

		w.peer.HandleDirect(json.RawMessage(frame))
		m := w.join()
		m.add("stream-1", "audio-1", webrtc.MimeTypeOpus)
		m.add("stream-1", "video-1", webrtc.MimeTypeVP8)
		_, _ = m.pc.CreateDataChannel("x", nil)
		m.disturb(false, d.take(3*int(d.roll()%3)))
		there := "candidate:1 1 udp 2130706431 10.0.0.1 7000 typ host" // the addresses of this machine are not of that network
		reach, _ := json.Marshal(candidateSignal{"rtc-ice", &wireCandidate{Candidate: there}})
		m.in <- reach
		for range d.roll() % 16 {
			w.peer.HandleDirect(candidate(d.candidate(), ""))
		}
		settle()
		if check != nil {
			check(w, sinks)
		}
		raw, err := m.w.net.ListenUDP("udp4", nil)
		if err == nil { // a stranger on the same network
			for range d.roll() % 8 {
				_, _ = raw.WriteTo(d.take(int(d.roll())%64), &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 7000})
			}
			b := bindingRequest(w.ufrag())
			spoil(b, d.take(8))
			_, _ = raw.WriteTo(b, &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 7000})
			_ = raw.Close()
		}
		w.peer.HandleDirect(json.RawMessage(frame))
		m.disturb(d.roll()%2 == 1, d.take(3*int(d.roll()%4)))
		w.peer.HandleDirect(candidate(d.candidate(), ""))
		settle()
		for _, where := range faults {
			if n := testutil.ToFloat64(w.api.metrics.panics.WithLabelValues(where)); n != 0 {
				t.Errorf("%v panics: %s", n, where)
			}
		}
	})
}

// disturb sends an offer that was changed, if the last one was answered a new one.
func (m *publisher) disturb(restart bool, changes []byte) {
	m.negotiating.Lock()
	defer m.negotiating.Unlock()
	if offer, err := m.pc.CreateOffer(&webrtc.OfferOptions{ICERestart: restart}); err == nil {
		_ = m.pc.SetLocalDescription(offer)
	}
	if local := m.pc.LocalDescription(); local != nil {
		m.out(descriptionSignal{"rtc-description", sdpEnvelope{"offer", disturbed(local.SDP, changes)}})
	}
}

// The way that hostile members go is open: one that does nothing hostile is
// connected over the port, and its media comes.
func TestTheWayOfHostileMembersIsOpen(t *testing.T) {
	hostileMember(t, []byte(`{}`), nil, func(w *world, sinks func(string) []*sinkhole) {
		if w.peer.State() != StateConnected || len(w.api.mux.routes) == 0 || !flows(sinks("video-1")[0]) {
			t.Errorf("%v, %d routes", w.peer.State(), len(w.api.mux.routes))
		}
	})
}

// ufrag is ours, as the member was told.
func (w *world) ufrag() string {
	for _, s := range w.signals("answer") {
		var d descriptionSignal
		if json.Unmarshal(s.data, &d) == nil {
			return attribute(d.Description.SDP, "ice-ufrag")
		}
	}
	return ""
}

// hostileFrames are frames of a member, from which others are made.
var hostileFrames = []string{
	`{"type":"rtc-ice","candidate":{"candidate":"candidate:1 1 udp 2130706431 evil.example.invalid 53 typ host","sdpMid":"0"}}`,
	`{"type":"rtc-ice","candidate":null}`, `{"type":"rtc-ice","candidate":{"candidate":"","sdpMLineIndex":65535}}`,
	`{"type":"rtc-description","description":{"type":"offer","sdp":"v=0"}}`, `{"type":"rtc-description","description":{"type":"rollback","sdp":"x"}}`,
	`{"__meteredTrackMeta":{"trackId":"audio-1","metadata":{"role":"camera"}}}`, `{}`, `null`, `[[[[`, `{"type":{"type":1}}`,
}

// FuzzMember searches for a member that does harm:
//
//	go test -run '^$' -fuzz FuzzMember -fuzztime 5m -fuzzminimizetime 1x ./internal/remote
func FuzzMember(f *testing.F) {
	offer, err := json.Marshal(descriptionSignal{"rtc-description", sdpEnvelope{"offer", restarting(1, "a="+strings.Join(hostileCandidates, "\na="))}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(offer, []byte{3, 0, 0, 1, 2, 3, 4, 5, 6, 2, 3, 20, 8, 4, 30, 14, 15})
	f.Add([]byte(hostileFrames[0]), []byte{})
	f.Add([]byte(hostileFrames[5]), slices.Repeat([]byte{1, 4, 9, 16, 25, 36}, 30))
	f.Fuzz(func(t *testing.T, frame, script []byte) { hostileMember(t, frame, script, nil) })
}

// TestHostileMembers makes up members at random, a few in a normal run:
//
//	go test -run TestHostileMembers -members 10000 ./internal/remote
func TestHostileMembers(t *testing.T) {
	for seed := range uint64(*members) {
		r := rand.New(rand.NewPCG(seed, 1))
		frame := []byte(hostileFrames[r.IntN(len(hostileFrames))])
		for range r.IntN(3) {
			frame[r.IntN(len(frame))] = byte(r.Uint32())
		}
		script := make([]byte, r.IntN(400))
		for i := range script {
			script[i] = byte(r.Uint32())
		}
		if hostileMember(t, frame, script, nil); t.Failed() {
			t.Fatal(fmt.Sprint("seed ", seed))
		}
	}
}
