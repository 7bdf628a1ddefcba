package sink

import "sync"

// keyed lets one at a time work in each directory. Those who wait hold up nobody who works in another, and
// no lock is held meanwhile.
type keyed struct {
	mu   sync.Mutex
	busy map[string]chan struct{} // closed when whoever works there has left
}

func newKeyed() *keyed { return &keyed{busy: make(map[string]chan struct{})} }

// enter returns when nobody else works in a directory, before leave is called.
func (k *keyed) enter(dir string) (leave func()) {
	for {
		wait, mine := k.take(dir)
		if mine {
			return func() { k.give(dir, wait) }
		}
		<-wait
	}
}

func (k *keyed) take(dir string) (wait chan struct{}, mine bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if wait, taken := k.busy[dir]; taken {
		return wait, false
	}
	wait = make(chan struct{})
	k.busy[dir] = wait
	return wait, true
}

func (k *keyed) give(dir string, left chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.busy, dir)
	close(left)
}
