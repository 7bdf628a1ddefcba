package signaling

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// State is where a [Client] is in its life:
//
//	idle → connecting → connected ⇄ reconnecting → closed
//
// A first connection that fails stays connecting. Every state can close.
type State int

// The states. The zero State is StateIdle.
const (
	StateIdle         State = iota // Run was not called yet
	StateConnecting                // no connection so far
	StateConnected                 // welcomed
	StateReconnecting              // between two connections
	StateClosed                    // Run has ended
)

func (s State) String() string {
	switch s {
	case StateIdle:
		return "idle"
	case StateConnecting:
		return "connecting"
	case StateConnected:
		return "connected"
	case StateReconnecting:
		return "reconnecting"
	case StateClosed:
		return "closed"
	}
	return fmt.Sprintf("State(%d)", int(s))
}

// Options configure a [Client]. A zero duration is its default.
type Options struct {
	URL        string       // base address, see ValidateURL; default DefaultURL
	Credential Credential   // required
	Logger     *slog.Logger // default: none
	Metrics    *Metrics     // may be shared by many clients; default: none
	HTTPClient *http.Client // for the handshake; its redirect policy is not used

	// Connects spaces the connection attempts of all clients that share it, see
	// NewConnectLimiter. Default: none.
	Connects *rate.Limiter

	// Renewals has connections renewed before their token ends. Default: the service
	// ends them (4002), and the client connects again.
	Renewals *Renewals

	// IncludeSenderMetadata asks for FromMetadata on every Message.
	IncludeSenderMetadata bool

	CredentialTimeout time.Duration // for Credential.Authorize; default 10 s
	WelcomeTimeout    time.Duration // from dialling to the welcome; default 10 s
	AckTimeout        time.Duration // from a request's leaving to its ack; default 15 s
	CloseTimeout      time.Duration // for flushing and the close handshake; default 1 s
	// InactivityTimeout is the silence after which a connection is given up;
	// default 60 s. Two pings are sent before, a third of it apart. Negative
	// turns both off.
	InactivityTimeout time.Duration

	MinBackoff time.Duration // before the first reconnect; default 500 ms
	MaxBackoff time.Duration // between later ones; default 30 s
}

// NewConnectLimiter returns a limiter for the clients of one process: the service
// takes 60 connections a minute from one address.
func NewConnectLimiter() *rate.Limiter { return rate.NewLimiter(rate.Every(2*time.Second), 30) }

// Client is one member's connection to the service, over successive WebSockets.
// Its methods may be called from any goroutine. Requests wait for their ack and
// fail with [ErrNotConnected], [ErrDisconnected], [ErrQueueFull], a
// [*RequestError], [*AckTimeoutError], [*OversizedError] or [*NameError], or with
// the error of their context.
type Client struct {
	opts     Options
	endpoint string
	log      *slog.Logger
	started  atomic.Bool
	queue    *eventQueue
	events   chan Event

	overlap atomic.Pointer[overlap] // nil unless a connection has been taking over of late
	links   sync.WaitGroup          // all that Run has begun

	// backoff and tokenFailures are owned by Run, and by what it waits for.
	backoff       backoff
	tokenFailures int

	mu             sync.Mutex
	state          State
	current        *link // nil unless connected
	believed       bool  // the latest event that told of a connection was Connected
	welcomedBefore bool
	peerID         string
	maxMessageSize int
	iceServers     []ICEServer
	subscriptions  map[string]struct{} // channels to subscribe to on every connection
}

// NewClient checks o and returns a client that does nothing before Run.
func NewClient(o Options) (*Client, error) {
	if o.URL == "" {
		o.URL = DefaultURL
	}
	address, err := endpoint(o.URL)
	if err != nil {
		return nil, err
	}
	if o.Credential == nil {
		return nil, errors.New("signalling: no credential")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{
		{&o.CredentialTimeout, 10 * time.Second},
		{&o.WelcomeTimeout, 10 * time.Second},
		{&o.AckTimeout, 15 * time.Second},
		{&o.CloseTimeout, time.Second},
		{&o.InactivityTimeout, 60 * time.Second},
		{&o.MinBackoff, defaultMinBackoff},
		{&o.MaxBackoff, defaultMaxBackoff},
	} {
		if *d.value == 0 {
			*d.value = d.fallback
		}
		if *d.value < 0 && d.value != &o.InactivityTimeout {
			return nil, fmt.Errorf("signalling: negative time-out %v", *d.value)
		}
	}
	return &Client{
		opts:           o,
		endpoint:       address,
		log:            o.Logger,
		queue:          newEventQueue(),
		events:         make(chan Event),
		backoff:        newBackoff(o.MinBackoff, o.MaxBackoff),
		maxMessageSize: DefaultMaxMessageSize,
		subscriptions:  make(map[string]struct{}),
	}, nil
}

// Run connects, and connects again whenever the connection ends, until ctx ends
// (it returns nil, after at most Options.CloseTimeout for the close handshake) or
// the service closes with a code that forbids another attempt (an error that
// wraps a [*CloseError], after Events was read to its end). A first attempt that
// fails is retried like any other. Run may be called once.
func (c *Client) Run(ctx context.Context) error {
	if !c.started.CompareAndSwap(false, true) {
		return errors.New("signalling: Run was called twice")
	}
	var forwarding sync.WaitGroup
	forwarding.Go(func() { c.queue.forward(ctx, c.events) })
	c.setState(StateConnecting)
	err := c.stayConnected(ctx)
	c.links.Wait()
	c.setState(StateClosed)
	c.queue.close()
	forwarding.Wait()
	return err
}

func (c *Client) stayConnected(ctx context.Context) error {
	for {
		end := c.connect(ctx)
		if ctx.Err() != nil {
			return nil
		}
		delay, terminal := c.backoff.next(end, c.renewable(end.link))
		c.disconnected(Disconnected{Err: end.err, Established: end.welcomed, Terminal: terminal, RetryIn: delay})
		if terminal {
			c.opts.Metrics.closedForGood(end.code())
			c.log.Debug("signalling ended for good", "reason", string(end.reason), "err", end.err) // the caller tells of what Run returns
			return fmt.Errorf("signalling at %s: %w", c.endpoint, end.err)
		}
		c.opts.Metrics.reconnect(end.reason)
		c.log.Warn("signalling connection ended", "reason", string(end.reason), "established", end.welcomed,
			"attempt", c.backoff.attempts, "retry_in", delay.Round(time.Millisecond), "err", end.err)
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return nil
		}
	}
}

// tell queues an event of our own making; it never waits.
func (c *Client) tell(ev Event) { c.queue.put(context.Background(), ev, 0) }

func (c *Client) setState(s State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = s
}

// Reset closes the current connection, as one that is of no use, and lets Run
// connect again as after any drop; Disconnected.Err wraps cause. Without a
// connection it does nothing.
func (c *Client) Reset(cause error) {
	if l := c.link(); l != nil {
		select {
		case l.reset <- cause:
		default: // it is being reset
		}
	}
}

// String names the service and the state; nothing of a client prints its secrets.
func (c *Client) String() string {
	return fmt.Sprintf("signalling client of %s (%v)", c.endpoint, c.State())
}

// GoString is String.
func (c *Client) GoString() string { return c.String() }

// Events is where the client tells what happens, in order. It has one reader and
// is closed when Run returns; what is unread when Run's context ends is dropped.
// A reader that falls far behind slows the connection down.
func (c *Client) Events() <-chan Event { return c.events }

// State returns where the client is in its life.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// PeerID returns our peer id as of the latest welcome, or "" before the first.
func (c *Client) PeerID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peerID
}

// MaxMessageSize returns the payload limit in bytes of JSON as of the latest
// welcome, or DefaultMaxMessageSize before the first.
func (c *Client) MaxMessageSize() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.maxMessageSize
}
