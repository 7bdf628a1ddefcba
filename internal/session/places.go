package session

import (
	"slices"

	"recorder/internal/remote"
)

const maxStreams = 64 // of one member at once; more wait for a place

// room reports whether a member may have another stream, which has one end that only waits for its
// return if the member, or all together, have as many as they may have at once.
func (b *bindings) room(peer *remote.Peer) bool {
	own := 0
	for _, s := range b.streams {
		if s.peer == peer {
			own++
		}
	}
	switch {
	case own >= maxStreams:
		return b.makeRoom(func(s *binding) bool { return s.peer == peer && s.taken() })
	case b.cfg.MaxStreams > 0 && len(b.streams) >= b.cfg.MaxStreams:
		// The end of a track may be known a moment before its successor.
		gone := func(s *binding) bool { return s.out && s.taken() }
		return b.makeRoom((*binding).orphaned) || b.makeRoom(gone)
	}
	return true
}

// makeRoom ends the stream that has been away longest of those that may be, if there is one.
func (b *bindings) makeRoom(may func(*binding) bool) bool {
	oldest := -1
	for i, s := range b.streams {
		if may(s) && (oldest < 0 || s.alive.Before(b.streams[oldest].alive)) {
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
