package signaling

import (
	"hash/maphash"
	"sync"
	"time"
)

const (
	// twinAge is how far apart a service delivers one frame to two connections.
	twinAge = 2 * time.Second
	// maxTwins bounds how many frames are remembered; beyond it frames may be told twice.
	maxTwins = 4096
)

// overlap keeps a frame from being told twice while two connections of one peer
// id are open: a service may send it to either of them, or to both. The first to
// come is told, and its twin from the other connection is dropped.
type overlap struct {
	last *link // the connection that is being succeeded
	seed maphash.Seed

	mu     sync.Mutex
	single map[uint64]twin // frames that came over one connection alone
}

// twin is what came of frames with the same bytes.
type twin struct {
	ahead int // how many more came over the last connection than over the next one
	at    time.Time
}

func newOverlap(last *link) *overlap {
	return &overlap{last: last, seed: maphash.MakeSeed(), single: make(map[uint64]twin)}
}

// repeated reports whether a frame has come over the other connection already.
func (o *overlap) repeated(l *link, frame []byte, now time.Time) bool {
	key := maphash.Bytes(o.seed, frame)
	step := -1
	if l == o.last {
		step = 1
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	t, known := o.single[key]
	if now.Sub(t.at) > twinAge {
		t.ahead = 0
	}
	before := t.ahead
	t.ahead, t.at = t.ahead+step, now
	switch {
	case t.ahead == 0:
		delete(o.single, key)
	case known || len(o.single) < maxTwins:
		o.single[key] = t
	}
	return before*step < 0
}

// repeated reports whether a frame was told already, see overlap. Once the last
// connection has been gone for long enough there is nothing to compare with.
func (l *link) repeated(frame []byte) bool {
	o := l.client.overlap.Load()
	if o == nil {
		return false
	}
	now := time.Now()
	if gone := o.last.endedAt.Load(); gone != nil && now.Sub(*gone) > twinAge {
		l.client.overlap.CompareAndSwap(o, nil)
		return false
	}
	return o.repeated(l, frame, now)
}
