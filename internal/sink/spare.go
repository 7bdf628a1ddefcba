package sink

import (
	"sync"

	"recorder/internal/container"
)

// spares are the buffers of what was just written. A file fills one for a second and writes it in a
// moment, so that a few do for all.
var spares spareList

const (
	// maxSpares of a codec are kept,
	maxSpares = 8
	// and none that a stall of the disk has made larger than this.
	maxSpare = 2 * partWrite
)

// spareList keeps buffers by codec, as a second of sound is much less than one of pictures.
type spareList struct {
	mu   sync.Mutex
	free map[container.Codec][][]byte
}

// get returns an empty buffer, nil if there is none.
func (l *spareList) get(c container.Codec) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	free := l.free[c]
	if len(free) == 0 {
		return nil
	}
	b := free[len(free)-1]
	free[len(free)-1] = nil
	l.free[c] = free[:len(free)-1]
	return b
}

// put takes an empty buffer that is not used any more.
func (l *spareList) put(c container.Codec, b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free == nil {
		l.free = make(map[container.Codec][][]byte)
	}
	if cap(b) > 0 && cap(b) <= maxSpare && len(l.free[c]) < maxSpares {
		l.free[c] = append(l.free[c], b)
	}
}
