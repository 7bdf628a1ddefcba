package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"recorder/internal/sink"
)

const (
	recordingRetry = 10 * time.Second // after another recording took the place of one that was full
	beginRetry     = time.Second      // after the recording could not be begun

	// recoveryPatience is how long it is waited for another recording to be repaired that this one would
	// continue, and how long tracks wait unread for the disk. Pictures of 2 Mbit/s, which wait with their
	// connection, are lost after that.
	recoveryPatience = 4 * time.Second
)

// beginning is a recording that is being begun. That takes as long as the disk likes, and so is done off the
// session's loop, which is nudged when it is done.
type beginning struct {
	start time.Time
	full  *sink.Recording // which it takes the place of, if any
	done  chan struct{}   // closed once the next two are set

	recording *sink.Recording
	err       error
}

// begin begins the recording, unless there is one or that is being done. It takes the place of another one, if
// that is given.
func (b *bindings) begin(now time.Time, full *sink.Recording) {
	if b.recording != full || b.beginning != nil || now.Before(b.retry) {
		return
	}
	start, noWait := now, false
	if !b.awaiting.IsZero() {
		start, noWait = b.awaiting, now.Sub(b.awaiting) >= recoveryPatience
	}
	g := &beginning{start: start, full: full, done: make(chan struct{})}
	b.beginning = g
	info := sink.RecordingInfo{
		Channel: b.cfg.Channel, Bot: b.cfg.Bot, Start: start, ReconnectWindow: b.cfg.ReconnectWindow, Follows: full, NoWait: noWait,
	}
	root, nudge := b.root, b.nudge
	go func() {
		g.recording, g.err = root.NewRecording(info)
		close(g.done)
		poke(nudge)
	}()
}

// poke has the session's loop look at what was done for it.
func poke(nudge chan<- struct{}) {
	select {
	case nudge <- struct{}{}:
	default: // it is about to
	}
}

// begun takes in the recording that was being begun, if that is done.
func (b *bindings) begun(now time.Time) {
	g := b.beginning
	if g == nil {
		return
	}
	select {
	case <-g.done:
	default:
		return
	}
	b.beginning = nil
	if errors.Is(g.err, sink.ErrRecovering) {
		b.awaiting = g.start
		return // tracks wait, too
	}
	b.awaiting = time.Time{}
	if g.err != nil {
		b.retry = now.Add(beginRetry)
		b.refused(g.err)
		return
	}
	b.adopt(g.recording, now)
	if g.full != nil {
		b.rotated(g.full, now)
	}
}

// refused notes why the recording could not be begun. It is tried again all the time, and said once.
func (b *bindings) refused(err error) {
	if !sameCause(b.fault, err) {
		b.log.Error("could not begin the recording, trying again until it can be", "err", err)
	}
	b.fault = err
}

// unrecorded is why nothing can be recorded at present, nil if it can.
func (b *bindings) unrecorded() error {
	if b.recording != nil {
		return b.recording.Err() // what follows it may fail to begin: this one goes on
	}
	return b.fault
}

// adopt makes a recording the one that is recorded to.
func (b *bindings) adopt(recording *sink.Recording, now time.Time) {
	b.recording, b.retry, b.began, b.fault = recording, time.Time{}, now, nil
	recording.SetReconnectWindow(b.cfg.ReconnectWindow) // which may have changed meanwhile
	for id, m := range b.present {
		recording.PeerJoined(id, m.metadata)
	}
}

// close finalises all files, which may go on in another session if the process
// is to be started again.
func (b *bindings) close(ctx context.Context, restart bool) error {
	begun := b.awaitBegun(ctx)
	var err error
	switch {
	case b.recording == nil:
	case restart:
		err = b.recording.Suspend(ctx)
	default:
		err = b.recording.Close(ctx)
	}
	return errors.Join(begun, finalised(b.recording, err, b.log), b.rotation.wait(ctx))
}

// awaitBegun waits for a recording that is being begun, for half of the time that there is. One that comes
// later is closed then.
func (b *bindings) awaitBegun(ctx context.Context) error {
	g := b.beginning
	if g == nil {
		return nil
	}
	half := ctx
	if until, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		half, cancel = context.WithTimeout(ctx, time.Until(until)/2)
		defer cancel()
	}
	select {
	case <-g.done:
		b.begun(time.Now())
		return nil
	case <-half.Done():
	}
	go func() {
		if <-g.done; g.recording != nil {
			_ = g.recording.Close(context.Background()) // the log has it
		}
	}()
	return fmt.Errorf("the recording of channel %q could not be begun: %w", b.cfg.Channel, sink.ErrStalled)
}
