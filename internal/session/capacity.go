package session

import (
	"slices"
	"time"

	"recorder/internal/remote"
	"recorder/internal/sink"
)

const (
	// maxQueued is how many streams that wait for a place the manifest names at a time, and maxNamed in all.
	// More may wait.
	maxQueued = 64
	maxNamed  = 1024

	queueSaid = time.Minute // between two lines in the log that somebody waits
)

// queued is a stream that waits for a place. The manifest says so; nothing of it is kept.
type queued struct {
	id   string
	peer *remote.Peer
	sink *sink.Stream
}

// is reports whether it is the stream of a track.
func (q *queued) is(a *arrival) bool { return q.peer == a.peer && q.id == a.streamID }

// discard has what the track delivers thrown away until it can be recorded, since when and why is noted.
func (a *arrival) discard(reason sink.Reason, now time.Time) (first bool) {
	switch a.aside.reason {
	case reason:
		return false
	case "":
		a.aside.since = now
		if !a.aside.taken {
			a.aside.since = a.since // what it held back goes, too
		}
		a.drop()
	}
	a.aside.reason = reason
	return true
}

// hold leaves a track unread, for as long as what it holds back is of use.
func (a *arrival) hold(now time.Time) {
	if a.aside.reason == "" && now.Sub(a.since) >= recoveryPatience {
		a.discard(sink.ReasonDisk, now)
	}
}

// queue has a track wait for a place.
func (b *bindings) queue(a arrival, now time.Time) {
	if a.discard(sink.ReasonCapacity, now) {
		b.metrics.refuse(refusedStreams)
	}
	if a.aside.listed {
		return
	}
	i := slices.IndexFunc(b.queued, func(q *queued) bool { return q.is(&a) })
	if i < 0 {
		if i = len(b.queued); i >= maxQueued || b.named >= maxNamed {
			return
		}
		stream, err := b.recording.NewStream(b.info(a))
		if err != nil {
			return // it is full, or about to end
		}
		stream.Wait(sink.ReasonCapacity, a.aside.since)
		b.queued = append(b.queued, &queued{a.streamID, a.peer, stream})
		b.named++
	}
	_, err := b.queued[i].sink.Track(a.info(nil))
	a.aside.listed = err == nil
}

// unqueue is the stream that a track waited with, nil if it did not.
func (b *bindings) unqueue(a arrival) *sink.Stream {
	i := slices.IndexFunc(b.queued, func(q *queued) bool { return q.is(&a) })
	if i < 0 {
		return nil
	}
	stream := b.queued[i].sink
	b.queued = slices.Delete(b.queued, i, i+1)
	stream.Admit()
	return stream
}

// settleQueue ends the streams that wait no more, and says that some wait.
func (b *bindings) settleQueue(now time.Time) {
	b.queued = slices.DeleteFunc(b.queued, func(q *queued) bool {
		waits := slices.ContainsFunc(b.waiting, func(a arrival) bool { return q.is(&a) && a.aside.reason == sink.ReasonCapacity })
		if !waits {
			q.sink.Close(sink.NoPlace)
		}
		return !waits
	})
	b.wait = 0
	for _, a := range b.waiting {
		if a.aside.reason == sink.ReasonCapacity {
			b.wait++
		}
	}
	if b.wait == 0 {
		b.said = false
	} else if !b.said && now.Sub(b.saidAt) >= queueSaid {
		b.said, b.saidAt = true, now
		b.log.Warn("tracks wait for a place and are not recorded: there are as many streams as may be",
			"tracks", b.wait, "streams", len(b.streams), "limit", b.cfg.MaxStreams, "limit_of_a_member", maxStreams)
	}
}

// requeue has what waits be named in the manifest of another recording.
func (b *bindings) requeue() {
	b.queued, b.named = nil, 0 // it ended with its recording
	for _, a := range b.waiting {
		a.aside.listed = false
	}
}
