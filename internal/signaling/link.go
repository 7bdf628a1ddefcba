package signaling

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"
)

const (
	// maxInbound is the largest message we take; more closes with 1009. An offer
	// alone can be 64 KB.
	maxInbound = 1 << 20

	// The service takes 100 messages a second and 200 at once on a connection, and
	// closes with 4011 beyond. We stay below by what the network may bunch up.
	messageRate  = 90
	messageBurst = 150
)

// link is one WebSocket. What must survive it is in Client.
type link struct {
	client  *Client
	auth    authorization
	renewal bool // it is to take over from the one in use
	conn    *websocket.Conn
	hangUp  func() // closes the transport at once, without a handshake
	out     *outbox
	rate    *rate.Limiter

	// ctx ends with the link, after the close handshake.
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	readEnd  chan error    // cap 1
	writeEnd chan error    // cap 1
	reset    chan error    // cap 1: see Client.Reset
	retired  chan struct{} // cap 1: another connection takes over
	entered  chan struct{} // closed once it is welcomed and has replayed its subscriptions

	due      *time.Timer // fires when the connection is to be renewed
	tokenEnd time.Time   // by our clock; set with due

	ended   chan struct{} // closed when nothing is left of it
	ending  ending        // why; set before
	endedAt atomic.Pointer[time.Time]

	// Set by the reader. Pointers, because a time.Time keeps its monotonic clock.
	welcomedAt atomic.Pointer[time.Time] // nil before
	lastSeen   atomic.Pointer[time.Time] // the latest inbound message, or the dial
	retryAfter atomic.Int64              // ns, as advertised by going_away

	// Guarded by client.mu.
	attached, detached bool
	welcome            Welcome
	last               *link // the one to be succeeded, until that is closed

	presences map[string]presences // by channel; of the reader
}

// dial opens the WebSocket. Its errors may quote the URL.
func dial(ctx context.Context, c *Client, auth authorization) (*link, error) {
	hc := withoutRedirects(c.opts.HTTPClient)
	keep := &keepBody{next: hc.Transport}
	if keep.next == nil {
		keep.next = http.DefaultTransport
	}
	hc.Transport = keep
	conn, resp, err := websocket.Dial(ctx, c.endpoint+"?"+auth.param+"="+url.QueryEscape(auth.value()),
		&websocket.DialOptions{HTTPClient: hc})
	if err != nil {
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
			return nil, fmt.Errorf("answered %d instead of opening a WebSocket", resp.StatusCode)
		}
		return nil, err
	}
	conn.SetReadLimit(maxInbound)
	l := &link{
		client:    c,
		auth:      auth,
		conn:      conn,
		hangUp:    func() { keep.body.Close() },
		out:       newOutbox(c.opts.AckTimeout, c.opts.Metrics),
		rate:      rate.NewLimiter(messageRate, messageBurst),
		readEnd:   make(chan error, 1),
		writeEnd:  make(chan error, 1),
		reset:     make(chan error, 1),
		retired:   make(chan struct{}, 1),
		entered:   make(chan struct{}),
		due:       time.NewTimer(never),
		ended:     make(chan struct{}),
		presences: make(map[string]presences),
	}
	l.ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	l.lastSeen.Store(new(time.Now()))
	return l, nil
}

// keepBody keeps the body of a handshake's response, which is the transport of
// the WebSocket: websocket.Conn itself has no way to give up a close handshake.
type keepBody struct {
	next http.RoundTripper
	body io.Closer
}

func (k *keepBody) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := k.next.RoundTrip(req)
	if err == nil {
		k.body = resp.Body
	}
	return resp, err
}

// verdict is why a link has to end, and how.
type verdict struct {
	reason Reason
	err    error
	close  CloseCode // to close with; 0 when there is no one left to tell
	flush  bool      // what is queued may still leave
}

// run serves the connection until it ends by itself, falls silent, or ctx ends.
// When it returns nothing of the link is left.
func (l *link) run(ctx context.Context, welcomeBy time.Time) ending {
	l.tasks.Go(func() { l.readEnd <- l.read() })
	l.tasks.Go(func() { l.writeEnd <- l.write() })
	v := l.serve(ctx, welcomeBy)
	ended := time.Now()

	l.due.Stop()
	l.client.detach(l)
	hungUp := make(chan struct{})
	giveUp := time.AfterFunc(l.client.opts.CloseTimeout, func() { l.hangUp(); close(hungUp) })
	if v.flush {
		select {
		case <-l.out.flushed():
		case <-hungUp:
		}
	}
	l.out.close()
	if v.close != 0 {
		_ = l.conn.Close(websocket.StatusCode(v.close), "") // it is over either way
	}
	giveUp.Stop()
	l.cancel()
	l.conn.CloseNow()
	l.tasks.Wait()

	end := ending{link: l, err: v.err, reason: v.reason, retryAfter: time.Duration(l.retryAfter.Load())}
	if at := l.welcomedAt.Load(); at != nil {
		end.welcomed = true
		end.lived = ended.Sub(*at)
	}
	return end
}

// serve waits for the first reason to end.
func (l *link) serve(ctx context.Context, welcomeBy time.Time) verdict {
	opts := &l.client.opts
	welcome := time.NewTimer(time.Until(welcomeBy))
	defer welcome.Stop()
	watch := newWatchdog(opts.InactivityTimeout)
	check := time.NewTimer(watch.interval)
	defer check.Stop()
	if watch.timeout <= 0 {
		check.Stop()
	}
	var writeErr error
	var broken <-chan time.Time
	for {
		select {
		case err := <-l.readEnd:
			return readVerdict(err)
		case writeErr = <-l.writeEnd:
			// What the service still had to say, a close code perhaps, may be
			// on its way to the reader.
			broken = time.After(opts.CloseTimeout)
		case <-broken:
			return verdict{reason: ReasonNetwork, err: fmt.Errorf("connection lost: %w", writeErr)}
		case <-welcome.C:
			if l.welcomed() {
				continue
			}
			return verdict{reason: ReasonNoWelcome, close: CloseInactivity, err: fmt.Errorf(
				"no welcome within %v: %w", opts.WelcomeTimeout, &CloseError{Code: CloseInactivity, Local: true})}
		case <-check.C:
			ping, dead, next := watch.check(*l.lastSeen.Load(), time.Now())
			if dead {
				return verdict{reason: ReasonInactivity, close: CloseInactivity, err: fmt.Errorf(
					"silent for %v: %w", opts.InactivityTimeout, &CloseError{Code: CloseInactivity, Local: true})}
			}
			if ping && l.welcomed() {
				l.out.ping()
			}
			check.Reset(next)
		case cause := <-l.reset:
			return verdict{reason: ReasonReset, close: CloseNormal, err: fmt.Errorf("reset: %w", cause)}
		case <-l.retired:
			return verdict{reason: ReasonRenewal, close: CloseNormal, flush: true, err: errRenewed}
		case <-ctx.Done():
			return verdict{reason: ReasonClosed, err: ctx.Err(), close: CloseNormal, flush: true}
		}
	}
}

// readVerdict is the verdict on a link that can no longer be read.
func readVerdict(err error) verdict {
	if errors.Is(err, websocket.ErrMessageTooBig) {
		return verdict{reason: ReasonTooBig, close: CloseMessageTooBig, err: fmt.Errorf(
			"a message is over %d bytes: %w", maxInbound, &CloseError{Code: CloseMessageTooBig, Local: true})}
	}
	if ce, ok := errors.AsType[websocket.CloseError](err); ok {
		code := CloseCode(ce.Code)
		return verdict{reason: closeReason(code), err: &CloseError{Code: code, Reason: Untrusted(ce.Reason)}}
	}
	return verdict{reason: ReasonNetwork, err: fmt.Errorf("connection lost: %w", err)}
}

// retire closes the connection, as another one takes its place.
func (l *link) retire() {
	select {
	case l.retired <- struct{}{}:
	default:
	}
}

func (l *link) welcomed() bool { return l.welcomedAt.Load() != nil }

// do sends r and waits for its outcome. It reports whether r has left.
func (l *link) do(ctx context.Context, r *request) (left bool, err error) {
	l.out.add(r)
	select {
	case err = <-r.done:
	case <-ctx.Done():
		l.out.abandon(r)
		err = r.wrap(ctx.Err())
	}
	return l.out.left(r), err
}
