package remote

import (
	"context"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	maxQueuedEvents   = 1024 // events of one source not yet handled
	maxIteratorEvents = 256  // events of one iterator not yet taken
)

// Source is what events come from: a [*Peer] or a [*DataChannel].
type Source interface{ events() *hub }

// Subscribe calls f for every event of type E until cancel is called or the
// source is closed. Handlers of one source run one at a time, in the order
// of the events, on a goroutine of their own: a slow handler delays the
// handlers behind it and never the connection. A handler that panics is
// isolated, counted and logged. Handlers may call every method of the source.
// After cancel has returned f is not started again.
func Subscribe[E Event](s Source, f func(E)) (cancel func()) {
	return s.events().subscribe(func(e Event) {
		if e, ok := e.(E); ok {
			f(e)
		}
	})
}

// Once is [Subscribe] for the first event of type E only.
func Once[E Event](s Source, f func(E)) (cancel func()) {
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

// Events is the events of type E as a sequence, from the moment it is ranged
// over until ctx ends or the source is closed. It holds at most 256 events
// for a consumer that falls behind; what does not fit is dropped and counted.
func Events[E Event](ctx context.Context, s Source) iter.Seq[E] {
	return func(yield func(E) bool) {
		h := s.events()
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

// hub hands the events of one source to its subscribers. Its goroutine
// exists only while there is something to hand out.
type hub struct {
	dropped  func()        // an event was dropped
	panicked func(r any)   // a handler panicked
	drained  chan struct{} // closed once the hub is closed and empty

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
	call      func(Event)
	cancelled atomic.Bool
}

type queuedEvent struct {
	event Event
	then  func() // called after the last handler
}

func newHub(dropped func(), panicked func(any)) *hub {
	h := &hub{dropped: dropped, panicked: panicked, drained: make(chan struct{})}
	h.room.L = &h.mu
	return h
}

func (h *hub) subscribe(call func(Event)) (cancel func()) {
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

// emit queues e, without ever blocking, and reports whether there was room.
// then, if not nil, runs after e's handlers.
func (h *hub) emit(e Event, then func()) bool {
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

// emitWait queues e once fewer than limit events wait, and reports false if
// the hub was closed meanwhile. It is how a data channel's reader slows down
// with its consumer.
func (h *hub) emitWait(e Event, limit int) bool {
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

func (h *hub) add(e queuedEvent) {
	h.queue = append(h.queue, e)
	h.start()
}

func (h *hub) start() {
	if !h.running && !h.held && !h.shy && len(h.queue) > 0 {
		h.running = true
		go h.run()
	}
}

// hold keeps events back until release.
func (h *hub) hold() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = true
}

func (h *hub) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = false
	h.start()
}

// close stops the hub after the events already queued.
func (h *hub) close() {
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

func (h *hub) run() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.queue) > 0 {
		e := h.queue[0]
		h.queue = h.queue[1:]
		h.room.Broadcast()
		subs := h.subs
		h.mu.Unlock()
		for _, sub := range subs {
			h.call(sub, e.event)
		}
		if e.then != nil {
			e.then()
		}
		h.mu.Lock()
	}
	h.queue = nil
	h.running = false
	if h.closed {
		h.subs = nil
		close(h.drained)
	}
}

func (h *hub) call(sub *subscription, e Event) {
	defer func() {
		if r := recover(); r != nil {
			h.panicked(r)
		}
	}()
	if !sub.cancelled.Load() {
		sub.call(e)
	}
}
