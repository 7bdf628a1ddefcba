package remote

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/logging"
	"github.com/pion/transport/v5/vnet"
	"github.com/pion/webrtc/v4"
	"github.com/prometheus/client_golang/prometheus"

	"recorder/internal/event"
)

// world is a network in memory with a recorder's peer on it, inside one
// synctest bubble.
type world struct {
	t      *testing.T
	router *vnet.Router
	api    *API
	reg    *prometheus.Registry
	net    *vnet.Net // the recorder's
	peer   *Peer
	seen   *recorder // of peer's events
	next   int       // host number of the next net

	mu     sync.Mutex
	member *publisher // receives what the peer signals
	all    []*publisher
	sent   []sent // signals the peer sent
	cut    bool   // no packet passes
	lose   func(kind string) bool
	hidden bool // the member gets none of the peer's candidates
}

// run calls f in a bubble with a world in it. localID and remoteID decide
// who is polite.
func run(t *testing.T, localID, remoteID string, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.peer = w.newPeer(localID, remoteID)
		w.seen = record(w.peer)
		defer w.close() // even when f gives up
		f(t, w)
	})
}

func newWorld(t *testing.T) *world {
	t.Helper()
	router, err := vnet.NewRouter(&vnet.RouterConfig{CIDR: "10.0.0.0/24", LoggerFactory: logging.NewDefaultLoggerFactory()})
	must(t, err)
	w := &world{t: t, router: router, reg: prometheus.NewRegistry()}
	w.net = w.newNet()
	router.AddChunkFilter(func(vnet.Chunk) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return !w.cut
	})
	must(t, router.Start())
	w.api, err = NewAPI(APIOptions{
		Logger: testLogger(t), Registerer: w.reg, Net: w.net,
	})
	must(t, err)
	return w
}

func (w *world) newPeer(localID, remoteID string) *Peer {
	return NewPeer(Options{
		ID: remoteID, LocalID: localID, API: w.api, Logger: testLogger(w.t),
		MaxMessageSize: func() int { return 65536 },
		Signal: func(payload any) <-chan error {
			done := make(chan error, 1)
			b, err := json.Marshal(payload)
			if err == nil {
				w.deliver(b)
			}
			done <- err
			return done
		},
	})
}

// deliver carries a signal of the peer to the member.
func (w *world) deliver(b []byte) {
	kind := kindOf(b)
	w.mu.Lock()
	w.sent = append(w.sent, sent{kind, time.Now(), b})
	member, lose, hidden := w.member, w.lose, w.hidden
	w.mu.Unlock()
	if hidden && kind == "candidate" {
		return
	}
	if hidden && (kind == "offer" || kind == "answer") {
		b = withoutCandidates(w.t, b)
	}
	if member != nil && (lose == nil || !lose(kind)) {
		member.in <- b
	}
}

// kindOf names a signal: offer, answer, candidate or end.
func kindOf(b []byte) string {
	var s struct {
		Description struct{ Type string }
		Candidate   json.RawMessage
	}
	if json.Unmarshal(b, &s) != nil {
		return "data"
	}
	switch {
	case s.Description.Type != "":
		return s.Description.Type
	case string(s.Candidate) == "null":
		return "end"
	case s.Candidate != nil:
		return "candidate"
	}
	return "data"
}

// sent is a signal of the peer.
type sent struct {
	kind string
	at   time.Time
	data []byte
}

// signals returns the signals of a kind that the peer sent.
func (w *world) signals(kind string) (all []sent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.sent {
		if s.kind == kind {
			all = append(all, s)
		}
	}
	return all
}

// setCut pulls the cable, or plugs it in again.
func (w *world) setCut(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
}

func (w *world) losing(f func(kind string) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lose = f
}

// hideCandidates keeps the peer's candidates from the member, those in descriptions too.
func (w *world) hideCandidates() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hidden = true
}

func withoutCandidates(t *testing.T, signal []byte) []byte {
	var s descriptionSignal
	must(t, json.Unmarshal(signal, &s))
	s.Description.SDP = strings.Join(slices.DeleteFunc(strings.Split(s.Description.SDP, "\r\n"), isCandidate), "\r\n")
	b, err := json.Marshal(s)
	must(t, err)
	return b
}

func (w *world) newNet() *vnet.Net {
	w.next++
	n, err := vnet.NewNet(&vnet.NetConfig{StaticIPs: []string{fmt.Sprintf("10.0.0.%d", w.next)}})
	must(w.t, err)
	must(w.t, w.router.AddNet(n))
	return n
}

func (w *world) close() {
	w.peer.Close(CauseShutdown)
	<-w.peer.Done()
	for _, m := range w.all {
		time.Sleep(time.Second)
		m.close()
	}
	must(w.t, w.router.Stop())
	must(w.t, w.api.Close())
	synctest.Wait()
}

// recorder keeps the events of a peer.
type recorder struct {
	mu      sync.Mutex
	events  []Event
	states  []State
	checked int
}

func record(p *Peer) *recorder {
	r := &recorder{}
	event.Subscribe(p, func(e Event) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events = append(r.events, e)
		if e, ok := e.(StateChange); ok {
			r.states = append(r.states, e.To)
		}
	})
	return r
}

func (r *recorder) statesSeen() []State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.states)
}

// seen returns the recorded events of type E.
func seen[E Event](r *recorder) (events []E) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e, ok := e.(E); ok {
			events = append(events, e)
		}
	}
	return events
}

// sinkhole is an RTPWriter that counts.
type sinkhole struct {
	mu       sync.Mutex
	packets  int
	first    []byte
	reports  int
	closed   int
	last     time.Time
	byFormat map[uint8]int
}

func (*sinkhole) SetFormats(map[uint8]webrtc.RTPCodecParameters) {}

func (s *sinkhole) WriteRTP(p []byte, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.packets == 0 {
		s.first = slices.Clone(p)
		s.byFormat = map[uint8]int{}
	}
	s.packets++
	s.byFormat[p[1]&0x7f]++
	s.last = at
}

func (s *sinkhole) WriteSenderReport(uint64, uint32, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reports++
}

func (s *sinkhole) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
}

func (s *sinkhole) counts() (packets, reports, closed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.packets, s.reports, s.closed
}

// forwardAll gives every track of every stream a sinkhole, by track id.
func forwardAll(p *Peer) func(id string) []*sinkhole {
	var mu sync.Mutex
	sinks := map[string][]*sinkhole{}
	event.Subscribe(p, func(e TrackAdded) {
		mu.Lock()
		defer mu.Unlock()
		s := &sinkhole{}
		sinks[e.Track.ID()] = append(sinks[e.Track.ID()], s)
		e.Track.Forward(s)
	})
	return func(id string) []*sinkhole {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(sinks[id])
	}
}

// wait lets time pass until ok, for at most limit of the bubble's time.
func wait(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, limit)
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func testLogger(t *testing.T) *slog.Logger {
	t.Helper()
	w := io.Discard
	if testing.Verbose() {
		w = t.Output()
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
