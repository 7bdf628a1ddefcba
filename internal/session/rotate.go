package session

import (
	"context"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"recorder/internal/sink"
)

// rotation finishes recordings that others have taken the place of, while those
// go on. Owned by Session.Run.
type rotation struct {
	finishing errgroup.Group
	ctx       context.Context
	hurry     context.CancelFunc // ends ctx
	size      int64              // of the media in those recordings
}

func newRotation() rotation {
	ctx, hurry := context.WithCancel(context.Background())
	return rotation{ctx: ctx, hurry: hurry}
}

// retire ends a recording in the background. It is not continued, as another
// one follows it, so nothing but the wait for hashes tells Suspend from Close.
func (r *rotation) retire(full *sink.Recording, log *slog.Logger) {
	r.size += full.Size()
	r.finishing.Go(func() error { return finalised(full, full.Suspend(r.ctx), log) })
}

// finalised logs that a recording could not be, as soon as that is known.
func finalised(recording *sink.Recording, err error, log *slog.Logger) error {
	if err != nil {
		log.Error("could not finalise the recording", "recording", recording.ID(), "err", err)
	}
	return err
}

// wait returns when all are closed, or ctx ends.
func (r *rotation) wait(ctx context.Context) error {
	defer r.hurry()
	defer context.AfterFunc(ctx, r.hurry)()
	return r.finishing.Wait()
}

// rotate has another recording take the place of one that is full, for a channel
// that is recorded for months. What is sent now goes on there, under the same
// stream ids, with the next packet, and pictures with the next key frame. What
// is away begins there when it comes back. Until the other one has begun, what is
// sent goes on in the full one.
func (b *bindings) rotate(now time.Time) {
	if b.recording != nil && b.recording.Full() {
		b.begin(now, b.recording)
	}
}

// rotated moves everything from a recording that is full to the one that has begun.
func (b *bindings) rotated(full *sink.Recording, now time.Time) {
	b.retry = now.Add(recordingRetry) // whoever sends what fills recordings does not fill them faster
	streams := b.streams
	b.streams = nil
	for _, s := range streams {
		b.move(s, now)
	}
	b.requeue()
	b.rotation.retire(full, b.log)
}

// move has a stream go on in the recording that there is now.
func (b *bindings) move(s *binding, now time.Time) {
	var to *binding
	for _, slot := range s.slots {
		if !slot.feed.open() {
			continue
		}
		a := slot.from
		a.since = now // the next packet is awaited like the first
		err := error(nil)
		if to == nil {
			to, err = b.succeed(s, a, now)
		}
		if err == nil {
			err = to.attach(a)
		}
		if err != nil {
			b.log.Error("stream could not go on in the next recording, and is tried again", "peer", s.peer.ID(), "err", err)
			b.setAside(s, now, false)
			return
		}
		slot.feed.Close()
	}
}

// succeed begins the stream that follows one in the recording that there is now. It has its place already.
func (b *bindings) succeed(s *binding, a arrival, now time.Time) (*binding, error) {
	stream, err := b.recording.NewStream(b.info(a))
	if err != nil {
		return nil, err
	}
	to := &binding{id: s.id, peer: s.peer, sink: stream, alive: now, since: s.since}
	b.streams = append(b.streams, to)
	return to, nil
}
