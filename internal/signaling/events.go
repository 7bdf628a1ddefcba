package signaling

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// An Event is what a [Client] tells its one reader: [Connected], [Disconnected],
// [Subscribed], [Presence], [Message], [Direct], [*ServerError], [GoingAway] or [ReplayFailed].
type Event interface{ isEvent() }

// Connected: the service welcomed us. Frames of earlier connections follow it only
// if it took over.
type Connected struct {
	Welcome

	// ICEServers are the valid servers of the latest welcome that had a list;
	// nil when none ever had.
	ICEServers []ICEServer
	// Resumed is set on every connection but the first: tracked subscriptions
	// are being replayed, and each channel's next presence is a snapshot.
	Resumed bool
	// Renewed is set when the connection was made to take over from the one in use,
	// see [Renewals]. No frame of theirs is told twice.
	Renewed bool
	// TookOver is set when no [Disconnected] came since the last Connected.
	TookOver bool
}

// LogValue leaves out everything secret.
func (c Connected) LogValue() slog.Value {
	return slog.GroupValue(slog.Any("", c.Welcome), slog.Int("ice_servers", len(c.ICEServers)),
		slog.Bool("resumed", c.Resumed), slog.Bool("took_over", c.TookOver))
}

// Disconnected: a connection, or an attempt at one, ended.
type Disconnected struct {
	Err         error
	Established bool          // there had been a [Connected]
	Terminal    bool          // there will be no further attempt; Run returns Err
	RetryIn     time.Duration // until the next attempt
}

// Subscribed: the service took a subscription, be it new, replayed or sent again. The snapshot follows, unless it is empty:
// a service may leave that one out.
type Subscribed struct{ Channel string }

// ReplayFailed: after a reconnect the service did not take us back into a channel,
// retries included. The channel stays tracked: the next reconnect tries again,
// and so may the caller.
type ReplayFailed struct {
	Channel string
	Err     error
}

func (Connected) isEvent()    {}
func (Disconnected) isEvent() {}
func (Subscribed) isEvent()   {}
func (Presence) isEvent()     {}
func (Message) isEvent()      {}
func (Direct) isEvent()       {}
func (*ServerError) isEvent() {}
func (GoingAway) isEvent()    {}
func (ReplayFailed) isEvent() {}

// How far the reader of Events may fall behind before the socket is no longer
// read, which lets TCP slow the service down.
const (
	maxQueuedEvents = 4096
	maxQueuedBytes  = 16 << 20
)

// eventQueue stands between the socket and the reader of Events, so that a reader
// that waits for an ack does not keep the ack from being read.
type eventQueue struct {
	mu     sync.Mutex
	items  []queuedEvent // oldest first
	bytes  int
	closed bool

	filled chan struct{} // cap 1: something to take, or closed
	taken  chan struct{} // cap 1: room was made
}

type queuedEvent struct {
	event Event
	size  int
}

func newEventQueue() *eventQueue {
	return &eventQueue{filled: make(chan struct{}, 1), taken: make(chan struct{}, 1)}
}

// put appends ev, which came in a frame of size bytes. It waits while the queue is
// full, unless ev is of our own making (size 0), and reports whether ev was taken.
// At most one goroutine at a time puts events with a size.
func (q *eventQueue) put(ctx context.Context, ev Event, size int) bool {
	for {
		q.mu.Lock()
		if size == 0 || len(q.items) < maxQueuedEvents && q.bytes+size <= maxQueuedBytes {
			q.items = append(q.items, queuedEvent{ev, size})
			q.bytes += size
			q.mu.Unlock()
			wake(q.filled)
			return true
		}
		q.mu.Unlock()
		select {
		case <-q.taken:
		case <-ctx.Done():
			return false
		}
	}
}

// close lets forward return once everything is delivered.
func (q *eventQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	wake(q.filled)
}

func (q *eventQueue) take() (ev Event, ok, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		return nil, false, q.closed
	}
	first := q.items[0]
	q.items[0] = queuedEvent{}
	q.items = q.items[1:]
	q.bytes -= first.size
	wake(q.taken)
	return first.event, true, false
}

// forward delivers events to out until the queue is closed and empty, or ctx
// ends, which drops what is left. It closes out.
func (q *eventQueue) forward(ctx context.Context, out chan<- Event) {
	defer close(out)
	for {
		ev, ok, closed := q.take()
		switch {
		case closed:
			return
		case ok:
			select {
			case out <- ev:
			case <-ctx.Done():
				return
			}
		default:
			select {
			case <-q.filled:
			case <-ctx.Done():
				return
			}
		}
	}
}

func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
