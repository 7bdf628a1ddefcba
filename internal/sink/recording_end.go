package sink

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// suspendHashing is for how long a recorder that stops reads files for their hashes. Until the next
// one starts nothing is recorded.
const suspendHashing = 2 * time.Second

// Close ends all streams, finishes all files and writes the manifest, the last but for hashes of
// files that have to be read for them. When ctx ends first that goes on by itself, and is an error
// unless only hashes are missing. Should the process end before it is done, the files are repaired
// as after a crash, and the hashes made up for.
func (rec *Recording) Close(ctx context.Context) error {
	rec.SetReconnectWindow(0)
	return rec.end(ctx, ctx)
}

// Suspend is Close for a process that stops and may be started again: within the reconnect window
// its successor continues the recording, and in their files the streams that were open. It waits for
// hashes a moment only.
func (rec *Recording) Suspend(ctx context.Context) error {
	hashing, cancel := context.WithTimeout(ctx, suspendHashing)
	defer cancel()
	return rec.end(ctx, hashing)
}

// end does what Close promises, but waits for hashes only until hashing ends.
func (rec *Recording) end(ctx, hashing context.Context) error {
	rec.mu.Lock()
	if rec.closing {
		rec.mu.Unlock()
		return ErrClosed
	}
	rec.closing = true
	rec.mu.Unlock()
	close(rec.stop)
	<-rec.pumped
	return rec.finish(ctx, hashing, rec.now())
}

// finish is end's work once the pump is gone. What there is no time for goes on.
func (rec *Recording) finish(ctx, hashing context.Context, now time.Duration) error {
	rec.mu.Lock()
	for _, s := range rec.streams {
		s.end(now, rec.endReason())
	}
	rec.streams = nil
	rec.changed()
	rec.mu.Unlock()

	finished, hashed := make(chan error, 1), make(chan struct{})
	rec.root.working.Go(func() {
		defer close(hashed)
		finished <- rec.conclude(now)
		rec.concludeHashes()
	})
	var err error
	select {
	case err = <-finished:
	case <-ctx.Done():
		err = fmt.Errorf("finish files: %w", ctx.Err())
	}
	rec.root.metrics.remove(rec)
	select {
	case <-hashed:
	case <-hashing.Done():
	}
	if err != nil {
		return fmt.Errorf("close recording of channel %q: %w", rec.manifest.Channel, err)
	}
	return nil
}

// endReason is why the streams end that were open to the last.
func (rec *Recording) endReason() string {
	switch {
	case rec.manifest.Next != "":
		return GoesOn
	case rec.manifest.ReconnectWindow > 0:
		return Stopped
	}
	return Closed
}

// conclude waits for the files, which may take as long as the disk likes, and writes the manifest
// that says that all are final.
func (rec *Recording) conclude(now time.Duration) error {
	rec.parts.Wait()
	rec.look()
	rec.mu.Lock()
	rec.manifest.finish(StateComplete, rec.instant(now))
	rec.changed()
	version := rec.version
	rec.mu.Unlock()
	err := rec.writeManifest(version)
	if err == nil {
		rec.sayEnded()
	}
	return err
}

// sayEnded logs what has become of a recording whose files are final.
func (rec *Recording) sayEnded() {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	m := rec.manifest
	var expected, recorded Seconds
	for _, s := range m.Streams {
		for _, t := range s.Tracks {
			expected, recorded = expected+t.Expected, recorded+t.Recorded
		}
	}
	args := []any{"dir", rec.Dir(), "state", m.State, "length", m.position(*m.Ended).Round(time.Millisecond), "streams", len(m.Streams),
		"completeness", Completeness(recorded, expected)}
	if m.ContinuableUntil != nil {
		args = append(args, "continuable_until", m.ContinuableUntil.UTC)
	}
	rec.log.Info("recording ended", args...)
}

// concludeHashes enters the hashes that are missing, saving the manifest now and then, and gives the
// directory back.
func (rec *Recording) concludeHashes() {
	rec.hashers.Wait()
	rec.mu.Lock()
	rec.unhashed = rec.manifest.unhashed() // and those of a recording that was continued
	rec.mu.Unlock()
	rec.hash()
	close(rec.done)
	rec.savers.Wait()
	rec.mu.Lock()
	version := rec.version
	rec.mu.Unlock()
	if err := errors.Join(rec.writeManifest(version), rec.store.Close()); err != nil {
		rec.log.Error("could not enter hashes in the manifest", "err", err)
	}
}
