// Package devserver is a small in-process server of the Metered Realtime Messaging protocol: for local development, for the
// demo, and for tests, which can make it fail in every way a client has to survive (fault.go).
//
// Everything lives in memory. One mutex guards all members and channels, and frames are queued while it is held: so every
// subscriber gets its snapshot before any delta, and sees no join or leave twice or not at all.
package devserver

import (
	"encoding/json"
	"log/slog"
	"maps"
	"math"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"
)

// DefaultSDKURL is where the join page loads the official SDK from.
const DefaultSDKURL = "https://unpkg.com/@metered-ca/realtime@1.2.0/dist/index.umd.js"

// expiryLead is how long before a token's exp its connection is closed.
const expiryLead = 250 * time.Millisecond

// closeGrace is how long Close waits for clients to answer the close handshake.
const closeGrace = time.Second

// Options configure a Server. The zero value accepts every pk_live_ key and no token.
type Options struct {
	Secrets        map[string]string // sk_id → sk_secret, for tokens
	KeyPermissions []string          // of publishable keys; nil: all four
	ICEServers     []ICEServer       // put into the welcome unless the token brings its own
	ListSelf       bool              // a snapshot lists its receiver too, as the protocol allows
	Limits         Limits
	SDKFile        string // a local UMD build of the SDK, served at /sdk.js for the join page
	SDKURL         string // used without SDKFile; default DefaultSDKURL
	Logger         *slog.Logger
}

// ICEServer is one entry of welcome.metadata.iceServers.
type ICEServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username,omitempty"`
	Credential string   `json:"credential,omitempty"`
}

// Limits bound what clients may do. Zero means the default, negative no limit.
type Limits struct {
	MessageSize int // bytes of one frame, then close 1009; default 65536
	Channels    int // subscriptions of one connection, then channel_limit_exceeded; default 100
	Rate        int // frames per second of one connection, then close 4011; default 100
	Burst       int // frames above Rate; default 200
	Connects    int // per minute and address, then HTTP 429; default 60
	Connections int // at a time, then close 4010; default none
	Quota       int // publish and send requests in the server's life, then over_message_quota; default none
}

func (l *Limits) setDefaults() {
	for _, d := range []struct {
		field    *int
		standard int
	}{{&l.MessageSize, 65536}, {&l.Channels, 100}, {&l.Rate, 100}, {&l.Burst, 200}, {&l.Connects, 60}, {&l.Connections, -1}, {&l.Quota, -1}} {
		if *d.field == 0 {
			*d.field = d.standard
		}
	}
	if l.MessageSize < 0 {
		l.MessageSize = math.MaxInt32 // the welcome has to name a size
	}
}

// over reports whether n is beyond a limit.
func over(n, limit int) bool { return limit >= 0 && n > limit }

// Server speaks the protocol on /v1 and serves the join page on /. It is an http.Handler; all methods are safe for
// concurrent use.
type Server struct {
	opts Options
	log  *slog.Logger
	mux  *http.ServeMux
	wg   sync.WaitGroup // connections

	hookMu sync.Mutex
	hooks  []*hook

	mu       sync.Mutex
	conns    map[*conn]struct{}
	peers    map[string][]*conn // by peer id; several sockets may share one
	channels map[string]*channel
	callers  map[string]*rate.Limiter // connects, by address
	messages int                      // counted against Limits.Quota
	takeover *Drop
	refuse   int
	closed   bool
}

// New returns a Server that is ready to serve. Close ends it.
func New(opts Options) *Server {
	opts.Limits.setDefaults()
	if opts.KeyPermissions == nil {
		opts.KeyPermissions = allPermissions
	}
	if opts.SDKURL == "" {
		opts.SDKURL = DefaultSDKURL
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		opts: opts, log: opts.Logger, mux: http.NewServeMux(),
		conns: map[*conn]struct{}{}, peers: map[string][]*conn{}, channels: map[string]*channel{}, callers: map[string]*rate.Limiter{},
	}
	s.mux.HandleFunc("/v1", s.serveSocket)
	s.mux.HandleFunc("GET /{$}", s.servePage)
	s.mux.HandleFunc("GET /sdk.js", s.serveSDK)
	return s
}

// ServeHTTP serves one request; for a WebSocket it returns when that has ended.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Close tells every client that the server is going away, closes with 1001, waits up to a second for them to answer, and
// returns when no goroutine of the server is left. Later connects are refused with HTTP 503.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		c.gone = true
		c.post(&GoingAway{RetryAfterMs: 1000})
		c.hangUp(refusal{CloseGoingAway, "going away"})
	}
	s.mu.Unlock()

	force := time.AfterFunc(closeGrace, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.conns {
			_ = c.wire.Close()
		}
	})
	s.wg.Wait()
	force.Stop()
}

// admit decides on a connect before the upgrade, with an HTTP status.
func (s *Server) admit(r *http.Request) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return http.StatusServiceUnavailable
	case s.refuse > 0 && s.refuse < 1000:
		return s.refuse
	}
	if perMinute := s.opts.Limits.Connects; perMinute > 0 {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			host = r.RemoteAddr
		}
		if s.callers[host] == nil {
			s.callers[host] = rate.NewLimiter(rate.Every(time.Minute/time.Duration(perMinute)), perMinute)
		}
		if !s.callers[host].Allow() {
			return http.StatusTooManyRequests
		}
	}
	s.wg.Add(1)
	return http.StatusOK
}

// serveSocket is the life of one connection.
func (s *Server) serveSocket(w http.ResponseWriter, r *http.Request) {
	if status := s.admit(r); status != http.StatusOK {
		http.Error(w, http.StatusText(status), status)
		return
	}
	defer s.wg.Done()

	tap := &wireTap{ResponseWriter: w}
	// Like the service, the server takes connections from pages of any origin: the credential is in the URL, not in a cookie.
	ws, err := websocket.Accept(tap, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		s.log.Debug("upgrade failed", "err", err)
		return
	}
	ws.SetReadLimit(int64(s.opts.Limits.MessageSize))
	c := &conn{
		ws: ws, wire: tap.wire, subs: map[string]bool{},
		out: make(chan outgoing, queueLength), done: make(chan struct{}),
		bucket: newBucket(s.opts.Limits),
	}
	var why *refusal
	c.grant, why = s.authorize(r.URL.Query())
	s.enter(c, why)

	written := make(chan struct{})
	go func() {
		defer close(written)
		if err := c.writeLoop(s.judge); err != nil {
			s.log.Error("frame could not be encoded", "peer", c.peer, "err", err)
			c.wire.reset()
		}
	}()
	if !c.expires.IsZero() {
		expiry := time.AfterFunc(time.Until(c.expires)-expiryLead, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.drop(c, Drop{Code: CloseTokenExpired})
		})
		defer expiry.Stop()
	}
	c.readLoop(func(kind websocket.MessageType, b []byte) { s.receive(c, kind, b) })
	close(c.done)
	s.exit(c)
	<-written
}

func newBucket(l Limits) *rate.Limiter {
	if l.Rate < 0 || l.Burst < 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(l.Rate), l.Burst)
}

// enter makes c a peer and welcomes it, or queues its refusal.
func (s *Server) enter(c *conn, why *refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
	switch {
	case s.closed:
		why = &refusal{CloseGoingAway, "going away"}
	case s.refuse >= 1000:
		why = &refusal{s.refuse, "refused"}
	case why == nil && over(s.sockets()+1, s.opts.Limits.Connections):
		why = &refusal{CloseOverConcurrentLimit, "over concurrent limit"}
	}
	if why != nil {
		s.log.Info("connection was refused", "code", why.code, "reason", why.reason)
		c.gone = true
		c.hangUp(*why)
		return
	}
	if s.takeover != nil {
		for _, old := range s.peers[c.peer] {
			s.drop(old, *s.takeover)
		}
	}
	s.peers[c.peer] = append(s.peers[c.peer], c)
	c.post(s.welcome(c))
	s.log.Info("peer connected", "peer", c.peer)
}

// sockets counts those that belong to a peer.
func (s *Server) sockets() int {
	n := 0
	for _, conns := range s.peers {
		n += len(conns)
	}
	return n
}

// exit forgets a socket that has ended; what drop has announced before is not announced again.
func (s *Server) exit(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.detach(c, Drop{})
	delete(s.conns, c)
}

func (s *Server) welcome(c *conn) *Welcome {
	w := &Welcome{PeerID: c.peer, ServerTime: time.Now().Unix(), MaxMessageSize: s.opts.Limits.MessageSize, Metadata: c.metadata}
	if !c.expires.IsZero() {
		exp := c.expires.Unix()
		w.ExpiresAt = &exp
	}
	if len(s.opts.ICEServers) > 0 {
		bag := map[string]any{"iceServers": s.opts.ICEServers}
		if c.metadata != nil {
			var own map[string]any
			if json.Unmarshal(c.metadata, &own) == nil {
				maps.Copy(bag, own)
			}
		}
		w.Metadata, _ = json.Marshal(bag) // strings, and what was JSON before
	}
	return w
}
