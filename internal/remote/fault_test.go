package remote

import (
	"log/slog"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"recorder/internal/event"
	"recorder/internal/loglimit"
)

// mine is an RTPWriter that panics.
type mine struct{ at string }

func (m *mine) blow(at string) {
	if m.at == at {
		var none *mine
		none.at = "" // a nil dereference, as faults are
	}
}

func (m *mine) SetFormats(map[uint8]webrtc.RTPCodecParameters) { m.blow("formats") }
func (m *mine) WriteRTP([]byte, time.Time)                     { m.blow("packet") }
func (m *mine) WriteSenderReport(uint64, uint32, time.Time)    { m.blow("report") }
func (m *mine) Close()                                         { m.blow("close") }

func (w *world) panics(where string) float64 {
	return testutil.ToFloat64(w.api.metrics.panics.WithLabelValues(where))
}

// TestAPanicForAMemberEndsItsConnectionAlone: wherever it is met, the member
// may come back, and nothing else ends.
func TestAPanicForAMemberEndsItsConnectionAlone(t *testing.T) {
	forward := func(at string) func(t *testing.T, w *world, m *publisher) {
		return func(t *testing.T, w *world, m *publisher) {
			track := w.peer.Streams()[0].Tracks()[0]
			switch at {
			case "close":
				track.Forward(&mine{at: at})
				w.join().offer(false)
				time.Sleep(10 * time.Second)
				m.close()
			default:
				track.Forward(&mine{at: at})
			}
			time.Sleep(20 * time.Second)
		}
	}
	for name, c := range map[string]struct {
		where string
		do    func(t *testing.T, w *world, m *publisher)
	}{
		"a packet":        {faultMedia, forward("packet")},
		"a sender report": {faultMedia, forward("report")},
		"an event handler": {faultEvent, func(t *testing.T, w *world, m *publisher) {
			event.Once(w.peer, func(StreamAdded) { panic("handler") })
			m.add("stream-2", "video-2", webrtc.MimeTypeVP8)
			m.offer(false)
		}},
		"an event handler that exits": {faultEvent, func(t *testing.T, w *world, m *publisher) {
			event.Once(w.peer, func(StreamAdded) { runtime.Goexit() })
			m.add("stream-2", "video-2", webrtc.MimeTypeVP8)
			m.offer(false)
		}},
		"a signal": {faultSignal, func(t *testing.T, w *world, m *publisher) {
			w.peer.in.put(func() { panic("signal") })
		}},
		"a description": {faultSignal, func(t *testing.T, w *world, m *publisher) {
			w.peer.in.put(func() { w.api.metrics.limits = nil })
			w.peer.HandleDirect(offerSignal(t, offerText(opusLine+"a=sendrecv\na=msid:s "+strings.Repeat("t", maxName+1)+"\n")))
			settle()
		}},
		"pion's own goroutine": {faultPion, func(t *testing.T, w *world, m *publisher) {
			w.peer.checks.spend(nil, 1e9) // to count what is dropped panics
			m.offer(true)                 // checks are made anew
			w.peer.HandleDirect(candidate("candidate:1 1 udp 1 10.9.0.1 9 typ host", ""))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, "bot", "alice", func(t *testing.T, w *world) {
				sinks := forwardAll(w.peer)
				m := w.join()
				m.camera()
				settle()
				before := w.peer.PeerConnection()
				limits := w.api.metrics.limits
				c.do(t, w, m)
				settle()
				w.api.metrics.limits = limits
				w.peer.checks.spend(w.api.metrics.checksDropped, 0)
				if n := w.panics(c.where); n == 0 {
					t.Errorf("%v panics are counted", n)
				}
				if before.ConnectionState() != webrtc.PeerConnectionStateClosed {
					t.Errorf("the connection is %v", before.ConnectionState())
				}
				w.join().camera()
				settle()
				if all := sinks("video-1"); w.peer.State() != StateConnected || !flows(all[len(all)-1]) {
					t.Errorf("the member cannot come back: %v", w.peer.State())
				}
			})
		})
	}
}

// spend leaves so little of the budget, and has another counter.
func (b *checkBudget) spend(counter prometheus.Counter, n float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dropped, b.named.left, b.proven.left = counter, maxChecks-n, maxProvenChecks-n
}

// A writer that panics as its track ends does not keep the rest from ending.
func TestATrackThatCannotEndKeepsNothingFromEnding(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		for _, track := range w.peer.Streams()[0].Tracks() {
			track.Forward(&mine{at: "close"})
		}
		w.peer.Close(CauseLeft)
		select {
		case <-w.peer.Done():
		case <-time.After(time.Minute):
			t.Fatal("the peer does not end")
		}
		if n := w.panics(faultMedia); n != 2 {
			t.Errorf("%v panics", n)
		}
	})
}

// What one datagram does to the reader of the port costs that datagram.
func TestAPanicAtThePortCostsOneDatagram(t *testing.T) {
	s := &testSocket{in: make(chan testDatagram), taken: make(chan struct{}), closed: make(chan struct{})}
	n := 0
	m := newUDPMux(s, false, testLogger(t), func(any, []byte) { n++ })
	t.Cleanup(func() { _ = m.Close() })
	c := testConn(t, m, "ours", "10.0.0.1:1")
	m.mu.Lock()
	m.branches[branchKey{"broken", false}] = &branch{} // has no conn
	m.mu.Unlock()
	request := bindingRequest("ours")
	s.arrive(bindingRequest("broken"), browser)
	s.arrive(request, browser)
	got(t, c, request, browser)
	if n != 1 {
		t.Errorf("%d panics", n)
	}
}

// The log says where, and does not fill.
func TestAPanicIsLoggedOnceWithItsStack(t *testing.T) {
	var out strings.Builder
	api, err := NewAPI(APIOptions{Logger: testLogger(t)})
	must(t, err)
	limiter, log := loglimit.New(slog.NewTextHandler(&out, nil)) // as the recorder's log is
	for range 100 {
		api.fault(faultMedia, log, "oh no", []byte("goroutine 1: here"))
	}
	limiter.Close()
	if text := out.String(); strings.Count(text, "\n") > 25 || strings.Count(text, "goroutine 1: here") != 1 || !strings.Contains(text, "where=media") {
		t.Errorf("logged:\n%s", text)
	}
	if n := testutil.ToFloat64(api.metrics.panics.WithLabelValues(faultMedia)); n != 100 {
		t.Errorf("%v were counted", n)
	}
}

func TestGuardsCostNoAllocation(t *testing.T) {
	m, s := newTestMux(t)
	must(t, s.close())
	<-m.done
	c := testConn(t, m, "ours", "10.0.0.1:1")
	answer(t, c, browser)
	packet, check, buf := make([]byte, 1200), bindingRequest("theirs"), make([]byte, receiveMTU)
	stranger := netip.AddrPortFrom(browser.Addr(), 7)
	_, _ = c.WriteToAddrPort(check, stranger)
	if n := testing.AllocsPerRun(1000, func() {
		m.route(packet, browser)
		m.awake = m.awake[:0]
		_, _, _ = c.ReadFromAddrPort(buf)
		_, _ = c.WriteToAddrPort(packet, browser)
		_, _ = c.WriteToAddrPort(check, stranger) // within the budget and beyond it
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
