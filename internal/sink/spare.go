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
	// smallSpare is kept in any case.
	smallSpare = 8 << 10
)

// spareList keeps buffers by codec, as a second of sound is much less than one of pictures.
//
// Buffers go round among files and never shrink. When this process was not run for a moment, or the
// disk stalled, many of them grow at once. They are not kept: each would hold that memory for as
// long as the process lives.
type spareList struct {
	mu    sync.Mutex
	free  map[container.Codec][][]byte
	usual map[container.Codec]int // bytes that are written at once
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

// put takes a buffer whose content is not used any more.
func (l *spareList) put(c container.Codec, b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free == nil {
		l.free, l.usual = make(map[container.Codec][][]byte), make(map[container.Codec]int)
	}
	// The largest of the last hundred writes or so: files of one codec differ, and share the buffers.
	l.usual[c] = max(len(b), l.usual[c]-l.usual[c]/64)
	most := min(maxSpare, max(smallSpare, l.usual[c]*3/2))
	if cap(b) > 0 && cap(b) <= most && len(l.free[c]) < maxSpares {
		l.free[c] = append(l.free[c], b[:0])
	}
}
