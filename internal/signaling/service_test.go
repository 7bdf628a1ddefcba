package signaling

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testKey = "pk_live_s3cr3t-k3y+/="

// service is the other side, scripted by a test: an HTTP server behind net.Pipe, so
// that everything with a timer runs in synctest.
type service struct {
	t     *testing.T
	conns chan net.Conn // to the HTTP server
	peers chan *peer    // accepted WebSockets

	mu      sync.Mutex
	dialErr error // when set, nobody answers
	hangs   bool  // dials are never answered
	status  int   // when set, the handshake is answered with it
	header  http.Header
	dials   []time.Time
	queries []string
}

func newService(t *testing.T) *service {
	s := &service{t: t, conns: make(chan net.Conn), peers: make(chan *peer, 100), header: http.Header{}}
	server := &http.Server{Handler: s}
	served := make(chan struct{})
	go func() { defer close(served); server.Serve(&pipeListener{conns: s.conns, done: make(chan struct{})}) }()
	t.Cleanup(func() { server.Close(); <-served })
	return s
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.queries = append(s.queries, r.URL.RawQuery)
	status := s.status
	for name, values := range s.header {
		w.Header()[name] = values
	}
	s.mu.Unlock()
	if r.URL.Path != "/v1" {
		status = http.StatusNotFound
	}
	if status != 0 {
		w.WriteHeader(status)
		return
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	conn.SetReadLimit(-1)
	p := &peer{t: s.t, conn: conn, in: make(chan received, 10000), over: make(chan struct{})}
	s.peers <- p
	for {
		_, b, err := conn.Read(context.Background())
		if err != nil {
			p.end = err
			close(p.in)
			close(p.over)
			conn.CloseNow()
			return
		}
		var f ClientFrame
		if err := json.Unmarshal(b, &f); err != nil {
			s.t.Errorf("client sent %q: %v", b, err)
		}
		p.in <- received{f, string(b), time.Now()}
	}
}

// client returns an HTTP client whose connections end at the service.
func (s *service) client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			s.mu.Lock()
			s.dials = append(s.dials, time.Now())
			err, conns := s.dialErr, s.conns
			if s.hangs {
				conns = nil
			}
			s.mu.Unlock()
			if err != nil {
				return nil, err
			}
			ours, theirs := net.Pipe()
			select {
			case conns <- theirs:
				return ours, nil
			case <-s.t.Context().Done(): // net/http keeps dialling for whoever comes next
				return nil, net.ErrClosed
			}
		},
	}}
}

func (s *service) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *service) dialled() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]time.Time(nil), s.dials...)
}

// accept waits for the next WebSocket.
func (s *service) accept() *peer {
	s.t.Helper()
	select {
	case p := <-s.peers:
		return p
	case <-time.After(time.Hour):
		s.t.Fatal("the client did not connect")
		return nil
	}
}

type pipeListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.IPAddr{} }

// peer is the service's end of one WebSocket.
type peer struct {
	t    *testing.T
	conn *websocket.Conn
	in   chan received // closed when the client is gone
	over chan struct{} // closed when the client is gone
	end  error         // why, once over
}

type received struct {
	ClientFrame
	raw string
	at  time.Time
}

func (p *peer) send(format string, args ...any) {
	p.t.Helper()
	text := fmt.Sprintf(format, args...)
	if err := p.conn.Write(context.Background(), websocket.MessageText, []byte(text)); err != nil {
		p.t.Errorf("send %.80s: %v", text, err)
	}
}

func (p *peer) welcome(id string) {
	p.t.Helper()
	p.send(`{"type":"welcome","peerId":%q,"expiresAt":null,"serverTime":946684800,"maxMessageSize":65536}`, id)
}

// recv waits for a frame of that type.
func (p *peer) recv(kind string) received {
	p.t.Helper()
	select {
	case f, ok := <-p.in:
		if !ok {
			p.t.Fatalf("client left (%v) instead of sending %s", p.end, kind)
		}
		if f.Type != kind {
			p.t.Fatalf("client sent %s, want %s", f.raw, kind)
		}
		return f
	case <-time.After(10 * time.Minute):
		p.t.Fatalf("client did not send %s", kind)
		return received{}
	}
}

func (p *peer) ack(f received) {
	p.t.Helper()
	if f.RequestID == "" {
		p.t.Fatalf("no requestId in %s", f.raw)
	}
	p.send(`{"type":"ack","requestId":%q}`, f.RequestID)
}

func (p *peer) fail(f received, code ErrorCode) {
	p.t.Helper()
	p.send(`{"type":"error","requestId":%q,"code":%q,"message":"words of the service"}`, f.RequestID, code)
}

func (p *peer) close(code CloseCode) { p.conn.Close(websocket.StatusCode(code), "reason") }

// cut ends the connection as a broken network does.
func (p *peer) cut() { p.conn.CloseNow() }

// closedBy waits for the client's close and returns its code.
func (p *peer) closedBy() CloseCode {
	<-p.over
	return CloseCode(websocket.CloseStatus(p.end))
}

// running is a client whose Run is underway.
type running struct {
	*Client
	t    *testing.T
	stop context.CancelFunc
	done chan struct{}
	err  error // of Run, once done
}

func start(t *testing.T, s *service, change func(*Options)) *running {
	t.Helper()
	key, err := PublishableKey(testKey)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{URL: "ws://localhost", Credential: key, HTTPClient: s.client(), Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&o)
	}
	c, err := NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{Client: c, t: t, stop: cancel, done: make(chan struct{})}
	go func() { defer close(r.done); r.err = c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-r.done })
	return r
}

// next returns the next event, which must be an E.
func next[E Event](r *running) E {
	r.t.Helper()
	select {
	case ev, ok := <-r.Events():
		if !ok {
			r.t.Fatalf("events ended, want %T", *new(E))
		}
		e, ok := ev.(E)
		if !ok {
			r.t.Fatalf("event %T %v, want %T", ev, ev, *new(E))
		}
		return e
	case <-time.After(time.Hour):
		r.t.Fatalf("no event, want %T", *new(E))
	}
	return *new(E)
}

// silent checks that nothing more has happened.
func silent(r *running) {
	r.t.Helper()
	synctest.Wait()
	select {
	case ev := <-r.Events():
		r.t.Fatalf("unexpected event %T %v", ev, ev)
	default:
	}
}

// connected brings r's next connection up.
func connected(r *running, s *service) *peer {
	r.t.Helper()
	p := s.accept()
	p.welcome("me")
	next[Connected](r)
	return p
}

// async runs f and returns where its error will be.
func async(f func() error) <-chan error {
	ch := make(chan error, 1)
	go func() { ch <- f() }()
	return ch
}

// subscribed is connected and a member of the channel lobby.
func subscribed(r *running, s *service) *peer {
	r.t.Helper()
	p := connected(r, s)
	done := async(func() error { return r.Subscribe(r.t.Context(), "lobby") })
	p.ack(p.recv("subscribe"))
	if err := <-done; err != nil {
		r.t.Fatal(err)
	}
	if s := next[Subscribed](r); s.Channel != "lobby" {
		r.t.Fatalf("subscribed to %q", s.Channel)
	}
	return p
}

// bubble runs f with a service in a synctest bubble.
func bubble(t *testing.T, f func(t *testing.T, s *service)) {
	synctest.Test(t, func(t *testing.T) { f(t, newService(t)) })
}

var errRefused = errors.New("connection refused")

func between(t *testing.T, what string, got, low, high time.Duration) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s: %v, want %v to %v", what, got, low, high)
	}
}
