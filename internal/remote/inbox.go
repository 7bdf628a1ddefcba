package remote

import "sync"

// inbox is the queue of a peer's event loop. Putting never blocks.
type inbox struct {
	wake chan struct{}

	mu      sync.Mutex
	items   []func()
	signals int // items the member caused
	bytes   int // of these
	closed  bool
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

// put queues f and reports false if the loop has ended.
func (in *inbox) put(f func()) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.add(f)
}

// putSignal queues what the member sent, of so many bytes, unless too much of
// that waits.
func (in *inbox) putSignal(bytes int, f func()) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.signals >= maxQueuedSignals || in.bytes+bytes > maxQueuedBytes {
		return false
	}
	in.signals++
	in.bytes += bytes
	return in.add(func() {
		in.mu.Lock()
		in.signals--
		in.bytes -= bytes
		in.mu.Unlock()
		f()
	})
}

func (in *inbox) add(f func()) bool {
	if in.closed {
		return false
	}
	in.items = append(in.items, f)
	select {
	case in.wake <- struct{}{}:
	default:
	}
	return true
}

// last queues f as the last item there is.
func (in *inbox) last(f func()) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.add(f)
	in.closed = true
}

// ended reports whether the last item was taken.
func (in *inbox) ended() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.closed && len(in.items) == 0
}

// take removes everything that waits.
func (in *inbox) take() []func() {
	in.mu.Lock()
	defer in.mu.Unlock()
	items := in.items
	in.items = nil
	return items
}
