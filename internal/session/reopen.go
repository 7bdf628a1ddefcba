package session

import (
	"slices"
	"time"

	"recorder/internal/remote"
	"recorder/internal/sink"
)

// reopening is a stream of a recording that goes on after a restart whose files are being read, off the
// session's loop.
type reopening struct {
	id   string
	peer *remote.Peer // that it goes on for
	from *sink.Recording
	done chan *sink.Stream // has the stream, or nil if its recording has ended
}

// reopen has the stream of a recording that goes on after a restart go on that owner sent last.
func (b *bindings) reopen(owner string, a arrival) {
	r := &reopening{id: a.streamID, peer: a.peer, from: b.recording, done: make(chan *sink.Stream, 1)}
	nudge := b.nudge
	if b.recording.Reopen(owner, b.info(a), func(s *sink.Stream) { r.done <- s; poke(nudge) }) {
		b.reopening = append(b.reopening, r)
	}
}

// reopened takes in the streams whose files have been read.
func (b *bindings) reopened(now time.Time) {
	b.reopening = slices.DeleteFunc(b.reopening, func(r *reopening) bool {
		select {
		case stream := <-r.done:
			switch {
			case stream == nil:
			case r.from != b.recording:
				stream.Close(sink.GoesOn)
			default: // it is closed after a while though its track may have ended by now
				b.streams = append(b.streams, &binding{id: r.id, peer: r.peer, sink: stream, alive: now, since: now})
			}
			return true
		default:
			return false
		}
	})
}
