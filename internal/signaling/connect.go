package signaling

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// connect makes one connection and returns when it, and those that took over
// from it, have ended.
func (c *Client) connect(ctx context.Context) ending {
	auth, end := c.admit(ctx)
	if end.err != nil {
		return end
	}
	l, end := c.open(ctx, auth, false)
	if l == nil {
		return end
	}
	return c.keep(ctx, l)
}

// authorization is what one connection is authorised with.
type authorization struct {
	param   string
	value   secret
	expires time.Time // as a token says; zero if it does not
}

// admit waits for leave to connect, and for a credential to do so with.
func (c *Client) admit(ctx context.Context) (authorization, ending) {
	if c.opts.Connects != nil {
		if err := c.opts.Connects.Wait(ctx); err != nil {
			return authorization{}, ending{err: err, reason: ReasonDial}
		}
	}
	param, value, err := c.authorize(ctx)
	if err != nil {
		return authorization{}, ending{err: err, reason: ReasonCredential}
	}
	auth := authorization{param: param, value: conceal(value)}
	if param == paramToken {
		auth.expires = tokenExpiry(value)
	}
	return auth, ending{}
}

// open dials, and serves the connection until it ends by itself, is retired, or
// ctx ends. A renewal is to take over from the connection in use.
func (c *Client) open(ctx context.Context, auth authorization, renewal bool) (*link, ending) {
	deadline := time.Now().Add(c.opts.WelcomeTimeout)
	dialling, cancel := context.WithDeadline(ctx, deadline)
	l, err := dial(dialling, c, auth)
	cancel()
	if err != nil {
		err = fmt.Errorf("dial %s: %w", c.endpoint, redact(err, auth.value()))
		return nil, ending{err: err, reason: ReasonDial}
	}
	l.renewal = renewal
	c.links.Go(func() {
		l.ending = l.run(ctx, deadline)
		l.endedAt.Store(new(time.Now()))
		close(l.ended)
	})
	return l, ending{}
}

func (c *Client) authorize(ctx context.Context) (param, value string, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.CredentialTimeout)
	defer cancel()
	param, value, err = c.opts.Credential.Authorize(ctx)
	if err == nil && (param != paramKey && param != paramToken || value == "") {
		err = errors.New("neither a key nor a token came")
	}
	if err == nil {
		c.tokenFailures = 0
		return param, value, nil
	}
	if context.Cause(ctx) == context.DeadlineExceeded {
		err = fmt.Errorf("no answer within %v: %w", c.opts.CredentialTimeout, err)
	}
	c.tokenFailures++
	c.opts.Metrics.tokenFailure()
	return "", "", &CredentialError{Consecutive: c.tokenFailures, Err: err}
}

// attach makes l the current connection, in the place of another if there is one,
// and tells so, unless l has ended meanwhile.
func (c *Client) attach(l *link, w Welcome) bool {
	servers, err := iceServers(w.Metadata)
	if err != nil {
		c.log.Warn("ignored the ICE servers of the service", "err", err)
	}
	c.mu.Lock()
	if l.detached {
		c.mu.Unlock()
		return false
	}
	if servers != nil {
		c.iceServers = servers
	}
	l.attached, l.welcome, l.last = true, w, c.current
	connected := c.use(l)
	replay := make([]string, 0, len(c.subscriptions))
	for channel := range c.subscriptions {
		replay = append(replay, channel)
	}
	c.mu.Unlock()

	c.schedule(l, w)
	c.opts.Metrics.connected(1)
	c.log.Info("signalling connected", "", connected) // without a name its attributes stand for themselves
	var replayed sync.WaitGroup
	for _, channel := range replay {
		replayed.Go(func() { c.replay(l, channel) })
	}
	l.tasks.Go(func() {
		replayed.Wait()
		c.mu.Lock()
		defer c.mu.Unlock()
		if !l.detached { // else the end of the connection ended the replays
			close(l.entered)
		}
	})
	return true
}

// use makes l the current connection and tells so. c.mu is held.
func (c *Client) use(l *link) Connected {
	c.state = StateConnected
	c.current = l
	c.peerID = l.welcome.PeerID
	c.maxMessageSize = l.welcome.MaxMessageSize
	connected := Connected{Welcome: l.welcome, ICEServers: c.iceServers, Resumed: c.welcomedBefore,
		Renewed: l.renewal, TookOver: c.believed}
	c.welcomedBefore, c.believed = true, true
	c.tell(connected)
	return connected
}

// detach undoes attach, or forbids it; from here on requests are refused, unless
// there is another connection: one that took over, or the one that was to be
// succeeded and has not been closed yet.
func (c *Client) detach(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l.detached = true
	if l.attached {
		c.opts.Metrics.connected(-1)
	}
	if c.current != l {
		return
	}
	c.current = nil
	c.state = StateReconnecting
	if l.last != nil && !l.last.detached {
		c.use(l.last)
	}
}

// disconnected tells of a connection, or an attempt at one, that has ended.
func (c *Client) disconnected(d Disconnected) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.believed = false
	c.tell(d)
}
