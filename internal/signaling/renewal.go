package signaling

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// A connection is renewed when a tenth of its token's life is left, but no less
	// than minRenewalLead and no more than maxRenewalLead. Half of that is jitter:
	// the channels of a process begin together.
	minRenewalLead = 5 * time.Second
	maxRenewalLead = time.Hour

	// tokenMargin is how much earlier than its clock says the service may close: it
	// does so 250 ms before the end, and tells both times in whole seconds.
	tokenMargin = 1500 * time.Millisecond
)

var (
	errRenewed  = errors.New("renewed before the token ended")
	errNotLater = errors.New("the new token does not live longer than the one in use")
)

// Renewals has the clients that share it, those of one service, make their next
// connection before the token of the one in use ends. Its zero value is ready.
//
// As a rule the next connection is up before the last one is closed, under the
// same peer id, and a service that lets it take over silently interrupts nothing.
// A service that tells the other members of it makes them all connect anew. Once
// [Client.TakeoverTold] has reported one, the last connection is closed first:
// then members are told once, and in order.
type Renewals struct{ told atomic.Bool }

// TakeoverTold reports that the other members were told as a connection took over.
func (c *Client) TakeoverTold() {
	if r := c.opts.Renewals; r != nil && !r.told.Swap(true) {
		c.log.Warn("the service tells members of a connection that takes over; " +
			"from now on the last one is closed first")
	}
}

// renewAfter returns how long after its welcome a connection is renewed whose
// token has life left, and false if it is not: the backoff decides about tokens
// that do not live.
func renewAfter(life time.Duration, random float64) (after time.Duration, ok bool) {
	lead := min(max(life/10, minRenewalLead), maxRenewalLead)
	after = life - tokenMargin - time.Duration((1+random)/2*float64(lead))
	return after, after >= lived
}

// retryAfter returns how long after a renewal that failed the next one is tried,
// and false if the token ends before.
func retryAfter(left time.Duration) (after time.Duration, ok bool) {
	after = max(left/4, lived)
	return after, after < left-tokenMargin
}

// tokenExpiry is the exp of a token, the zero time if none can be read.
func tokenExpiry(token string) time.Time {
	var claims jwt.RegisteredClaims
	_, _, err := jwt.NewParser().ParseUnverified(token, &claims)
	if err != nil || claims.ExpiresAt == nil {
		return time.Time{}
	}
	return claims.ExpiresAt.Time
}

// schedule has l renewed in time. Only the service's clock counts, which its
// welcome tells: ours may be wrong.
func (c *Client) schedule(l *link, w Welcome) {
	if c.opts.Renewals == nil {
		return
	}
	expiry := l.auth.expires
	if !w.ExpiresAt.IsZero() {
		expiry = w.ExpiresAt
	}
	if expiry.IsZero() {
		return
	}
	life := expiry.Sub(w.ServerTime)
	l.tokenEnd = time.Now().Add(life)
	if after, ok := renewAfter(life, c.backoff.rand()); ok {
		l.due.Reset(after)
	}
}

// successor is what came of looking for a connection to take over.
type successor struct {
	up    *link          // welcomed, and subscribed to all it has to be
	ready *authorization // or what to connect with once the last one is closed
	end   ending         // or why there is neither
}

// seek looks for a successor of l.
func (c *Client) seek(ctx context.Context, l *link) <-chan successor {
	found := make(chan successor, 1)
	c.links.Go(func() {
		auth, end := c.admit(ctx)
		switch {
		case end.err != nil:
			found <- successor{end: end}
		case !auth.expires.IsZero() && !auth.expires.After(l.auth.expires):
			found <- successor{end: ending{err: errNotLater, reason: ReasonCredential}}
		case c.opts.Renewals.told.Load():
			found <- successor{ready: &auth}
		default:
			found <- c.bringUp(ctx, l, auth)
		}
	})
	return found
}

func (c *Client) bringUp(ctx context.Context, l *link, auth authorization) successor {
	c.overlap.Store(newOverlap(l))
	next, end := c.open(ctx, auth, true)
	if next != nil {
		select {
		case <-next.entered:
			return successor{up: next}
		case <-next.ended:
			end = next.ending
		}
	}
	c.overlap.Store(nil)
	return successor{end: end}
}

// keep returns when l, and every connection that took over from it, has ended
// with none to follow. Of the rest it tells by itself.
func (c *Client) keep(ctx context.Context, l *link) ending {
	var found <-chan successor
	for {
		var s successor
		select {
		case <-l.ended:
			if found == nil {
				return l.ending
			}
			// The service has closed it as the next one came, or it dropped at that
			// moment. What becomes of the next one decides, its own close code included.
			if ctx.Err() == nil {
				c.interrupted(l.ending)
			}
			s = <-found
		case <-l.due.C:
			if c.renewable(l) {
				found = c.seek(ctx, l)
			}
			continue
		case s = <-found:
		}
		found = nil
		next, end := c.succeed(ctx, l, s)
		if next != nil {
			l = next
			continue
		}
		c.opts.Metrics.renewal(renewalFailed)
		select {
		case <-l.ended:
			return end
		default:
		}
		after, again := retryAfter(time.Until(l.tokenEnd))
		if again {
			l.due.Reset(after)
		}
		c.log.Warn("connection could not be renewed before its token ends",
			"reason", string(end.reason), "retry", again, "err", end.err)
	}
}

// succeed puts the successor in the place of l, and returns why it cannot.
func (c *Client) succeed(ctx context.Context, l *link, s successor) (*link, ending) {
	switch {
	case s.up != nil:
		c.mu.Lock()
		s.up.last = nil
		c.mu.Unlock()
		l.retire()
		c.opts.Metrics.renewal(renewalTookOver)
		return s.up, ending{}
	case s.ready != nil:
		l.retire()
		<-l.ended
		if ctx.Err() != nil {
			return nil, l.ending
		}
		c.interrupted(l.ending)
		next, end := c.open(ctx, *s.ready, false)
		if next != nil {
			c.opts.Metrics.renewal(renewalReplaced)
		}
		return next, end
	}
	return nil, s.end
}

// interrupted tells that a connection has ended while its successor is on its
// way, unless that is there already.
func (c *Client) interrupted(end ending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil || !c.believed {
		return
	}
	c.believed = false
	c.tell(Disconnected{Err: end.err, Established: end.welcomed})
	c.opts.Metrics.reconnect(end.reason)
	c.log.Info("signalling connection ended as it was renewed",
		"reason", string(end.reason), "err", end.err)
}

// renewable reports whether the credential can give anything but what l was
// authorised with: a fresh token, or after a reload something else.
func (c *Client) renewable(l *link) bool {
	if c.opts.Credential.Renewable() {
		return true
	}
	// What is not renewable is at hand.
	param, value, err := c.opts.Credential.Authorize(context.Background())
	return err == nil && l != nil && (param != l.auth.param || value != l.auth.value())
}

// never is as good as no time at all for a timer.
const never = time.Duration(math.MaxInt64)
