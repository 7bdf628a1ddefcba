// Package event hands typed events to subscribers: in order, off the goroutine
// that emits them, and isolated from each other.
package event

import (
	"context"
	"iter"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"recorder/internal/guard"
)

const (
	maxQueuedEvents   = 1024 // events of one source not yet handled
	maxIteratorEvents = 256  // events of one iterator not yet taken
)

// Source is what events come from.
type Source interface{ Events() *Hub }

// Subscribe calls f for every event of type E until cancel is called or the
// source is closed. Handlers of one source run one at a time, in the order
// of the events, on a goroutine of their own: a slow handler delays the
// handlers behind it and never the connection. A handler that panics is
// isolated, counted and logged. Handlers may call every method of the source.
// After cancel has returned f is not started again.
func Subscribe[E any](s Source, f func(E)) (cancel func()) {
	return s.Events().subscribe(func(e any) {
		if e, ok := e.(E); ok {
			f(e)
		}
	})
}

// Once is [Subscribe] for the first event of type E only.
func Once[E any](s Source, f func(E)) (cancel func()) {
	var done atomic.Bool
	var stop func()
	ready := make(chan struct{})
	stop = Subscribe(s, func(e E) {
		if done.CompareAndSwap(false, true) {
			<-ready
			stop()
			f(e)
		}
	})
	close(ready)
	return stop
}

// All is the events of type E as a sequence, from the moment it is ranged
// over until ctx ends or the source is closed. It holds at most 256 events
// for a consumer that falls behind; what does not fit is dropped and counted.
func All[E any](ctx context.Context, s Source) iter.Seq[E] {
	return func(yield func(E) bool) {
		h := s.Events()
		c := make(chan E, maxIteratorEvents)
		cancel := Subscribe(s, func(e E) {
			select {
			case c <- e:
			default:
				h.dropped()
			}
		})
		defer cancel()
		for {
			select {
			case e := <-c:
				if !yield(e) {
					return
				}
			case <-ctx.Done():
				return
			case <-h.drained:
				for len(c) > 0 {
					if !yield(<-c) {
						return
					}
				}
				return
			}
		}
	}
}

// Hub hands the events of one source to its subscribers. Its goroutine
// exists only while there is something to hand out.
type Hub struct {
	dropped  func()                    // an event was dropped
	panicked func(r any, stack []byte) // a handler panicked
	drained  chan struct{}             // closed once the hub is closed and empty

	mu      sync.Mutex
	room    sync.Cond // signalled when the queue shrinks
	subs    []*subscription
	queue   []queuedEvent
	held    bool // nothing is handed out until release
	shy     bool // nor until someone subscribed
	running bool
	closed  bool
}

type subscription struct {
	call      func(any)
	cancelled atomic.Bool
}

type queuedEvent struct {
	event any
	then  func() // called after the last handler
}

// NewHub makes a hub. dropped is called for each event that a full queue or
// sequence has no room for, panicked with what a handler panicked with and
// where, or with guard.ErrExited if it ended its goroutine.
func NewHub(dropped func(), panicked func(r any, stack []byte)) *Hub {
	h := &Hub{dropped: dropped, panicked: panicked, drained: make(chan struct{})}
	h.room.L = &h.mu
	return h
}

func (h *Hub) subscribe(call func(any)) (cancel func()) {
	sub := &subscription{call: call}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subs = append(h.subs, sub)
	h.shy = false
	h.start()
	return func() {
		sub.cancelled.Store(true)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.subs = slices.DeleteFunc(slices.Clone(h.subs), func(s *subscription) bool { return s == sub })
	}
}

// Emit queues e, without ever blocking, and reports whether there was room.
// then, if not nil, runs after e's handlers.
func (h *Hub) Emit(e any, then func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	if len(h.queue) >= maxQueuedEvents {
		h.dropped()
		return false
	}
	h.add(queuedEvent{e, then})
	return true
}

// EmitWait queues e once fewer than limit events wait, and reports false if
// the hub was closed meanwhile. It is how a data channel's reader slows down
// with its consumer.
func (h *Hub) EmitWait(e any, limit int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.queue) >= limit && !h.closed {
		h.room.Wait()
	}
	if h.closed {
		return false
	}
	h.add(queuedEvent{e, nil})
	return true
}

// AwaitSubscriber keeps events back until there is a first subscriber.
func (h *Hub) AwaitSubscriber() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shy = true
}

func (h *Hub) add(e queuedEvent) {
	h.queue = append(h.queue, e)
	h.start()
}

func (h *Hub) start() {
	if !h.running && !h.held && !h.shy && len(h.queue) > 0 {
		h.running = true
		go h.run(queuedEvent{}, nil)
	}
}

// Hold keeps events back until release.
func (h *Hub) Hold() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = true
}

func (h *Hub) Release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = false
	h.start()
}

// Close stops the hub after the events already queued.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	h.closed, h.held = true, false
	h.room.Broadcast()
	if h.start(); !h.running && len(h.queue) == 0 {
		close(h.drained)
	}
}

// next takes an event off the queue, and says who is to have it. It is false
// once there is none, which ends the goroutine.
func (h *Hub) next() (e queuedEvent, subs []*subscription, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.queue) > 0 {
		e = h.queue[0]
		h.queue = h.queue[1:]
		h.room.Broadcast()
		return e, h.subs, true
	}
	h.queue = nil
	h.running = false
	if h.closed {
		h.subs = nil
		close(h.drained)
	}
	return e, nil, false
}

// run hands out e to subs, and then what is queued.
func (h *Hub) run(e queuedEvent, subs []*subscription) {
	for ok := true; ok; e, subs, ok = h.next() {
		for len(subs) > 0 {
			sub := subs[0]
			subs = subs[1:]
			h.call(sub, e, subs)
		}
		if e.then != nil {
			e.then()
		}
	}
}

// call runs a handler. One that ends its goroutine, as a test that gives up
// does, ends ours: another one goes on with the rest.
func (h *Hub) call(sub *subscription, e queuedEvent, rest []*subscription) {
	returned := false
	defer func() {
		if !returned {
			h.panicked(guard.ErrExited, debug.Stack())
			go h.run(e, rest)
		}
	}()
	h.guarded(sub, e.event)
	returned = true
}

func (h *Hub) guarded(sub *subscription, e any) {
	defer guard.Recover(h.panicked)
	if !sub.cancelled.Load() {
		sub.call(e)
	}
}
