package sink

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// interrupted is a recording that a crash ended, that Recover finished, and that may go on.
type interrupted struct {
	dir, channel string
	ended        time.Time
}

// Recover finishes the recordings that a crash left unfinished, see Repair, and remembers them for
// NewRecording to continue. It is called once, before the first recording begins. Recordings that
// another process writes are left alone. Hashes that are missing from finished recordings are made in
// the background, until Close. The error is ctx's; what cannot be repaired is logged, and
// tried again by the next Recover.
func (r *Root) Recover(ctx context.Context) ([]RepairedRecording, error) {
	found := []RepairedRecording{}
	var unhashed []string
	for name, err := range recordings(r.dir) {
		if ctx.Err() != nil {
			return found, fmt.Errorf("recover recordings: %w", context.Cause(ctx))
		}
		if err != nil {
			r.options.Logger.Error("could not look for unfinished recordings", "err", err)
			break
		}
		repaired, unfinished := repairRecording(r.dir, name)
		if repaired.unhashed {
			unhashed = append(unhashed, name)
		}
		if unfinished {
			found = append(found, repaired)
			r.report(repaired)
		}
		// One that was repaired earlier counts, too: its recorder may have died again before it went on.
		if repaired.State == StateRecovered && len(repaired.Problems) == 0 && repaired.Ended != nil {
			r.mu.Lock()
			r.interrupted = append(r.interrupted, interrupted{repaired.Dir, repaired.Channel, repaired.Ended.UTC})
			r.mu.Unlock()
		}
	}
	go r.hashLeft(unhashed)
	return found, nil
}

// report logs what became of a recording.
func (r *Root) report(repaired RepairedRecording) {
	log := r.options.Logger.With("dir", repaired.Dir)
	switch {
	case repaired.Busy:
		log.Warn("recording is being written by another process")
	case len(repaired.Problems) > 0:
		log.Error("could not repair recording", "problems", repaired.Problems)
	default:
		log.Info("recording recovered", "channel", repaired.Channel, "files", len(repaired.Parts), "ended", repaired.Ended.UTC)
	}
}

// takeInterrupted takes the newest recording that info would continue.
func (r *Root) takeInterrupted(info RecordingInfo) (dir string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	best := -1
	for i, c := range r.interrupted {
		late := info.Start.Sub(c.ended) > info.ReconnectWindow
		if c.channel == info.Channel && !late && (best < 0 || c.ended.After(r.interrupted[best].ended)) {
			best = i
		}
	}
	if best < 0 {
		return "", false
	}
	dir = r.interrupted[best].dir
	r.interrupted = append(r.interrupted[:best], r.interrupted[best+1:]...)
	return dir, true
}

var errNotContinued = errors.New("it is not the recording that was recovered")

// continueRecording reopens a recovered recording. Its clock goes on by the one on the wall. Of its
// streams those that were open when it ended go on when they come back, see wake.
func (r *Root) continueRecording(dir string, info RecordingInfo) (*Recording, error) {
	r.mu.Lock() // hashLeft is not about to enter hashes there
	st, m, err := reopenStore(r.dir, dir)
	r.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if m.State != StateRecovered || m.Ended == nil || m.Channel != info.Channel || m.Bot != info.Bot {
		return nil, errors.Join(errNotContinued, st.Close())
	}
	now := max(info.Start.Sub(m.Started.UTC), m.position(*m.Ended)) // the clock may have been set back
	rec := r.recording(st, m, info.Start.Add(-now))
	for _, s := range m.Streams {
		for _, t := range s.Tracks {
			rec.size += t.Ledger.BytesWritten
		}
		if s.EndReason == Interrupted && now-m.position(*s.Ended) <= info.ReconnectWindow {
			rec.asleep = append(rec.asleep, sleeper{s, m.position(*s.Ended) + info.ReconnectWindow})
		}
	}
	m.State, m.Ended = StateRecording, nil
	if err := rec.writeManifest(0); err != nil {
		r.metrics.remove(rec)
		return nil, errors.Join(err, st.Close())
	}
	rec.log.Info("recording continued after a restart", "dir", dir, "streams", len(rec.asleep))
	return rec, nil
}
