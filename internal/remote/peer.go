// Package remote is one remote member of a channel, over successive
// PeerConnections: perfect negotiation, streams and tracks as the member's
// descriptions tell of them, data channels, and recovery. It is the Go
// counterpart of the reference SDKs' RemotePeer.
package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"
	"golang.org/x/time/rate"

	"recorder/internal/event"
	"recorder/internal/guard"
	"recorder/internal/signaling"
)

const (
	maxQueuedSignals = 512     // inbound, not yet looked at
	maxQueuedBytes   = 4 << 20 // of these
	maxCandidates    = 100     // inbound, of one generation of ICE credentials; browsers have up to 60

	// A member may name this many candidates at once, and one more per
	// candidateEvery after that, whatever connections and credentials they are of.
	maxCandidateBurst = 2 * maxCandidates
	candidateEvery    = 500 * time.Millisecond

	// A member may start this many connections at once, and one more per
	// swapEvery after that.
	maxSwaps  = 8
	swapEvery = 2 * time.Second
)

// Options configure a [Peer]. ID, LocalID, API and Signal are required.
type Options struct {
	ID       string          // of the member
	LocalID  string          // ours
	Metadata json.RawMessage // of the member, nil if it has none
	API      *API
	// ICEServers are for the first connection; see [Peer.SetICEServers].
	ICEServers []webrtc.ICEServer
	// Signal sends a payload to the member. It must not block, and payloads
	// leave in the order of the calls; the channel tells the outcome.
	Signal func(payload any) <-chan error
	// MaxMessageSize is the largest payload in bytes, as JSON; nil or 0: no limit.
	MaxMessageSize func() int
	Logger         *slog.Logger // nil: slog.Default()
}

// Peer is one remote member (reference: RemotePeer). The session makes it
// when the member joins and closes it when the member has left; in between
// it survives every reconnect. No method blocks except Send, and all may be
// called from any goroutine, event handlers included.
type Peer struct {
	id   string
	opts Options
	api  *API
	log  *slog.Logger
	hub  *event.Hub
	in   *inbox
	meta metadataStore
	done chan struct{}

	mu        sync.Mutex
	localID   string
	metadata  json.RawMessage
	state     State
	closed    bool // Close was called
	pc        *webrtc.PeerConnection
	streams   []*Stream
	tracks    []*Track
	ended     context.Context // ends with the peer
	endSignal context.CancelFunc

	// The rest belongs to the event loop.
	gen        uint64
	link       *link // current, nil while idle
	draining   *link // replaced, still delivering
	servers    []webrtc.ICEServer
	signalling bool // our socket is up
	heard      bool // the member has offered since it was lost
	moved      bool // our id changed and the member has not offered since
	ladder     ladder
	draft      *draft             // our description that is about to be sent
	held       []checkedCandidate // of a description to come
	admits     *rate.Limiter
	checks     *checkBudget
	candidates []func() // send candidates of ours that wait for their description to leave
	swaps      *rate.Limiter
	offers     offerPace
	closers    sync.WaitGroup

	signalFault onFault // ends the connections
}

// NewPeer returns a peer and starts its event loop, which ends with Close.
func NewPeer(o Options) *Peer {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Peer{
		id: o.ID, opts: o, api: o.API, log: o.Logger.With("peer", o.ID), in: newInbox(), done: make(chan struct{}),
		localID: o.LocalID, metadata: slices.Clone(o.Metadata), servers: o.ICEServers, signalling: true,
		ended: ctx, endSignal: cancel,
		swaps: rate.NewLimiter(rate.Every(swapEvery), maxSwaps), offers: newOfferPace(),
		admits: rate.NewLimiter(rate.Every(candidateEvery), maxCandidateBurst), checks: newCheckBudget(o.API.metrics),
	}
	p.hub, p.signalFault = p.newHub(), p.faulty(faultSignal, 0)
	go p.run()
	return p
}

func (p *Peer) newHub() *event.Hub {
	return event.NewHub(p.api.metrics.eventsDropped.Inc, p.faulty(faultEvent, 0))
}

func (p *Peer) Events() *event.Hub { return p.hub }

// ID is the member's peer id: assigned by the service, or the "sub" of its token.
func (p *Peer) ID() string { return p.id }

// LocalID is our own peer id. With a publishable key it changes on every reconnect.
func (p *Peer) LocalID() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.localID
}

// Metadata is the object the member's token carries, nil without one. It is
// refreshed by a reconnect before the peer is connected again; no event
// tells, so read it whenever it is needed. Do not base security on it.
func (p *Peer) Metadata() json.RawMessage {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.metadata)
}

// State is where the peer stands. See the diagram at [State].
func (p *Peer) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// Polite reports whether we give way when offers cross.
func (p *Peer) Polite() bool { return polite(p.LocalID(), p.id) }

// PeerConnection is the current connection, nil before the first
// negotiation. It goes stale on a reconnect: do not keep it.
func (p *Peer) PeerConnection() *webrtc.PeerConnection {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pc
}

// Streams are the streams of the member, in the order they were added. While
// the peer is reconnecting they are those from before, even if all their
// tracks have ended: a reconnect removes none.
func (p *Peer) Streams() []*Stream {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.streams)
}

// String names the peer by id and state only: metadata may be personal.
func (p *Peer) String() string { return fmt.Sprintf("peer %q (%s)", p.id, p.State()) }

// LogValue logs what String shows.
func (p *Peer) LogValue() slog.Value {
	return slog.GroupValue(slog.String("id", p.id), slog.String("state", p.State().String()))
}

// Done is closed when the peer is closed and all its connections are.
func (p *Peer) Done() <-chan struct{} { return p.done }

// Send sends data, as JSON, to the member through the service and waits for
// the service's acknowledgement. It returns [ErrClosed] once the peer is
// closed, for good: the id may belong to another session by then; an
// [*signaling.OversizedError] if data is too large; else what signalling returns.
func (p *Peer) Send(ctx context.Context, data any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // as signalling does, which the limit is for
	if err := enc.Encode(data); err != nil {
		return fmt.Errorf("send to %q: %w", p.id, err)
	}
	payload := json.RawMessage(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
	if p.opts.MaxMessageSize != nil {
		if limit := p.opts.MaxMessageSize(); limit > 0 && len(payload) > limit {
			return fmt.Errorf("send to %q: %w", p.id, &signaling.OversizedError{Size: len(payload), Cap: limit})
		}
	}
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	if closed {
		return fmt.Errorf("send to %q: %w", p.id, ErrClosed)
	}
	select {
	case err := <-p.opts.Signal(payload):
		if err != nil {
			return fmt.Errorf("send to %q: %w", p.id, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("send to %q: %w", p.id, ctx.Err())
	}
}

// CreateDataChannel opens a data channel to the member and negotiates
// whatever that takes; on an idle peer it starts the connection. Sends are
// queued until the channel is open, and events until the first Subscribe.
// The channel dies with the connection: open another one when the peer is
// connected again. It fails with [ErrClosed] on a closed peer, and on
// arguments the W3C API refuses; what fails later is an event of the channel.
func (p *Peer) CreateDataChannel(label string, init *webrtc.DataChannelInit) (*DataChannel, error) {
	if len(label) > maxChannelLabel {
		return nil, fmt.Errorf("create data channel: label of %d bytes", len(label))
	}
	if init != nil && init.MaxPacketLifeTime != nil && init.MaxRetransmits != nil {
		return nil, fmt.Errorf("create data channel: %w", webrtc.ErrRetransmitsOrPacketLifeTime)
	}
	d := newDataChannel(label, init, p.newHub())
	d.hub.AwaitSubscriber() // what happens at once is not to be missed
	if !p.in.put(func() { p.openChannel(d) }) {
		return nil, fmt.Errorf("create data channel: %w", ErrClosed)
	}
	return d, nil
}

// HandleDirect takes a direct message of the member. It reports whether that
// was a signal; everything else is application data.
func (p *Peer) HandleDirect(data json.RawMessage) (handled bool) {
	defer guard.Recover(p.signalFault)
	handled = true // by a panic
	s, ok, err := parseSignal(data)
	if !ok {
		return false
	}
	if err != nil {
		p.api.metrics.signalsDropped.WithLabelValues("malformed").Inc()
		p.log.Debug("signal was dropped", "err", err)
		return true
	}
	if p.State() == StateClosed {
		return true
	}
	if !p.in.putSignal(len(data), func() { p.handle(s) }) {
		p.api.metrics.signalsDropped.WithLabelValues("overflow").Inc()
	}
	return true
}

// SignalingLost says that our socket dropped and is being reconnected. Every
// peer that is not idle or closed becomes reconnecting; its media goes on.
func (p *Peer) SignalingLost() { p.in.put(p.signalingLost) }

// SignalingRestored says that our socket is back and that the member is
// still there. A healthy connection is kept and the peer connected again; a
// dead one is rebuilt. The metadata is in place before that, and is all that
// changes if signalling was not lost and our id is the same.
func (p *Peer) SignalingRestored(localID string, metadata json.RawMessage) {
	p.mu.Lock()
	moved := p.localID != localID
	p.localID, p.metadata = localID, slices.Clone(metadata)
	p.mu.Unlock()
	p.in.put(func() { p.signalingRestored(moved) })
}

// SetICEServers replaces the ICE servers, for the next ICE restart and for
// every later connection.
func (p *Peer) SetICEServers(servers []webrtc.ICEServer) {
	servers = slices.Clone(servers)
	p.in.put(func() { p.setICEServers(servers) })
}

// Retry has a connection that is down, or never came about, be tried again with
// a new budget of ICE restarts, see [ErrICERestartExhausted], unless something
// is tried already.
func (p *Peer) Retry() { p.in.put(p.retry) }

// Close ends the peer for good and returns at once; see [Peer.Done].
func (p *Peer) Close(cause Cause) {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.in.last(func() { p.shutdown(cause) })
}
