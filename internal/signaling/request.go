package signaling

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	// Retries of a request that failed with a retriable code: after 250 ms and
	// another 500 ms, ± 20 %.
	requestRetries    = 2
	requestRetryDelay = 250 * time.Millisecond
)

// request is one frame that wants an ack.
type request struct {
	frame   ClientFrame // without its id
	retries int         // left
	tries   int

	done chan error // cap 1: the outcome

	// The rest is guarded by the outbox's mutex.
	call    uint64      // counts up
	id      string      // of the frame as last sent
	timer   *time.Timer // until the ack, or until the next try
	settled bool
}

func newRequest(frame ClientFrame) *request {
	return &request{frame: frame, retries: requestRetries, done: make(chan error, 1)}
}

// target is whom or what the request is about.
func (r *request) target() string {
	if r.frame.To != "" {
		return r.frame.To
	}
	return r.frame.Channel
}

func (r *request) wrap(err error) error {
	return fmt.Errorf("%s %.80q: %w", r.frame.Type, r.target(), err)
}

// outbox orders the requests of one connection and matches them with their acks.
// It dies with the connection.
type outbox struct {
	ackTimeout time.Duration
	metrics    *Metrics

	mu      sync.Mutex
	closed  bool
	waiting lanes    // to be sent
	flush   *request // settled once nothing waits
	retry   map[*request]struct{}
	pending map[string]*request // sent, by id
	filled  chan struct{}       // cap 1: waiting has grown
}

func newOutbox(ackTimeout time.Duration, metrics *Metrics) *outbox {
	return &outbox{
		ackTimeout: ackTimeout,
		metrics:    metrics,
		waiting:    newLanes(),
		retry:      make(map[*request]struct{}),
		pending:    make(map[string]*request),
		filled:     make(chan struct{}, 1),
	}
}

// add queues r, or settles it at once.
func (o *outbox) add(r *request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		o.settle(r, r.wrap(ErrNotConnected))
		return
	}
	o.push(r)
}

func (o *outbox) push(r *request) {
	if refused := o.waiting.push(r); refused != nil {
		o.metrics.frameRefused()
		o.settle(refused, refused.wrap(ErrQueueFull))
	}
	wake(o.filled)
}

// ping queues a frame nobody waits for.
func (o *outbox) ping() { o.add(newRequest(ClientFrame{Type: "ping"})) }

// flushed is ready once nothing waits to leave.
func (o *outbox) flushed() <-chan error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.flush = newRequest(ClientFrame{})
	wake(o.filled)
	return o.flush.done
}

// next returns the next request to send, once there is one, and leaves it in the
// queue until sending. It is for one goroutine.
func (o *outbox) next(ctx context.Context) (*request, error) {
	for {
		if r := o.head(); r != nil {
			return r, nil
		}
		select {
		case <-o.filled:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (o *outbox) head() *request {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := o.waiting.first(time.Now())
	if r == nil && o.flush != nil {
		o.settle(o.flush, nil)
	}
	return r
}

// sending notes that r, the head of the queue, is about to leave, and returns its
// frame. From here on an end of the connection is ErrDisconnected. It reports
// false if r need not leave any more.
func (o *outbox) sending(r *request) (ClientFrame, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if r.settled {
		return ClientFrame{}, false
	}
	o.waiting.sent(r, time.Now())
	frame := r.frame
	if frame.Type == "ping" {
		o.settle(r, nil)
		return frame, true
	}
	r.id = uuid.NewString()
	r.tries++
	frame.RequestID = r.id
	o.pending[r.id] = r
	r.timer = time.AfterFunc(o.ackTimeout, func() { o.timedOut(r, frame.RequestID) })
	return frame, true
}

func (o *outbox) timedOut(r *request, id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if r.settled || r.id != id {
		return
	}
	o.metrics.ackTimeout()
	o.settle(r, &AckTimeoutError{Op: r.frame.Type, Target: r.target(), After: o.ackTimeout})
}

// acked settles the request of that id and returns its frame, and false for an
// unknown one, which is late and ignored.
func (o *outbox) acked(id string) (frame ClientFrame, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := o.pending[id]
	if r == nil {
		return ClientFrame{}, false
	}
	o.settle(r, nil)
	return r.frame, true
}

// subscribing reports whether a subscribe of the channel has left unanswered.
func (o *outbox) subscribing(channel string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range o.pending {
		if r.frame.Type == "subscribe" && r.frame.Channel == channel {
			return true
		}
	}
	return false
}

// failed settles the request that e answers, or sends it again a little later if
// that may help. It reports false if nobody was waiting for e.
func (o *outbox) failed(e *ServerError) (known bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := o.pending[e.RequestID]
	if r == nil {
		return false
	}
	if !e.Code.Retriable() || r.retries == 0 {
		o.settle(r, &RequestError{Op: r.frame.Type, Target: r.target(), Code: e.Code, Message: e.Message})
		return true
	}
	r.timer.Stop()
	delete(o.pending, r.id)
	r.id = ""
	r.retries--
	o.retry[r] = struct{}{}
	delay := requestRetryDelay << (r.tries - 1)
	delay += time.Duration(jitterRatio * (2*rand.Float64() - 1) * float64(delay))
	r.timer = time.AfterFunc(delay, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		if !r.settled {
			delete(o.retry, r)
			o.push(r)
		}
	})
	return true
}

// abandon forgets a request nobody waits for any more. If it has not left, it
// never will.
func (o *outbox) abandon(r *request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.settle(r, nil)
}

// left reports whether r has been sent at least once.
func (o *outbox) left(r *request) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return r.tries > 0
}

// close settles everything: what has left was disconnected, what has not was
// never connected.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	for _, r := range o.pending {
		o.settle(r, r.wrap(ErrDisconnected))
	}
	for r := range o.retry {
		o.settle(r, r.wrap(ErrDisconnected))
	}
	for _, r := range o.waiting.all() {
		if r.tries > 0 {
			o.settle(r, r.wrap(ErrDisconnected)) // a retry
		} else {
			o.settle(r, r.wrap(ErrNotConnected))
		}
	}
	o.waiting = newLanes()
}

// settle ends r with err. Settling twice is harmless.
func (o *outbox) settle(r *request, err error) {
	if r.settled {
		return
	}
	r.settled = true
	if r.timer != nil {
		r.timer.Stop()
	}
	delete(o.pending, r.id)
	delete(o.retry, r)
	r.done <- err
}
