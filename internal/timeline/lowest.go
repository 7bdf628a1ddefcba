package timeline

import (
	"math"
	"time"
)

// lowest is the least of the values of the last half minute.
type lowest struct {
	bucket [6]int64
	n      int // buckets in use
	since  time.Duration
	top    int64
}

const lowestBucket = 5 * time.Second

func (l *lowest) reset(now time.Duration, v int64) {
	*l = lowest{n: 1, since: now, top: v}
	l.bucket[0] = v
}

func (l *lowest) add(now time.Duration, v int64) {
	switch {
	case l.n == 0:
		l.reset(now, v)
		return
	case now-l.since >= lowestBucket:
		copy(l.bucket[1:], l.bucket[:len(l.bucket)-1])
		l.n = min(l.n+1, len(l.bucket))
		l.bucket[0], l.top, l.since = v, v, now
		return
	}
	l.bucket[0] = min(l.bucket[0], v)
	l.top = max(l.top, v)
}

func (l *lowest) min() int64 {
	v := int64(math.MaxInt64)
	for _, b := range l.bucket[:l.n] {
		v = min(v, b)
	}
	return v
}

// spread is how far apart the values of the current bucket are.
func (l *lowest) spread() int64 {
	if l.n == 0 {
		return 0
	}
	return l.top - l.bucket[0]
}
