package session

import (
	"slices"

	"recorder/internal/remote"
)

const maxStreams = 64 // of one member at once; more wait for a place

// crowded reports whether a member, or all together, have the streams they may
// have at once.
func (b *bindings) crowded(peer *remote.Peer) bool {
	if b.cfg.MaxStreams > 0 && len(b.streams) >= b.cfg.MaxStreams {
		return true
	}
	n := 0
	for _, s := range b.streams {
		if s.peer == peer {
			n++
		}
	}
	return n >= maxStreams
}

// makeRoom ends the stream that a member took away longest ago, if there is one, which would else hold
// a place until the reconnect window ends.
func (b *bindings) makeRoom(peer *remote.Peer) bool {
	oldest := -1
	for i, s := range b.streams {
		if s.peer == peer && s.taken() && (oldest < 0 || s.alive.Before(b.streams[oldest].alive)) {
			oldest = i
		}
	}
	if oldest < 0 {
		return false
	}
	b.end(b.streams[oldest])
	b.streams = slices.Delete(b.streams, oldest, oldest+1)
	return true
}
