package sink

import (
	"context"
	"errors"
	"path"
	"slices"
	"time"
)

// ErrRecovering is returned by NewRecording while it is not known yet whether it is to continue
// another recording, and while that is being repaired. The next attempt should follow in a moment.
var ErrRecovering = errors.New("recordings are being recovered")

// interrupted is a recording that may go on.
type interrupted struct {
	dir, channel, bot string

	ended, until time.Time // as the manifest says; the latest possible of one that is unfinished
	unfinished   bool      // it is to be repaired first
	unhashed     bool      // it is finished but for hashes
}

const (
	// maxReconnectWindow bounds for how long a recording may be continued. The manifests of those that
	// were not written for longer than that are not looked into before recordings begin.
	maxReconnectWindow = time.Hour
	// mtimeStep is by how much the clock of a file system may differ from that of manifests.
	mtimeStep = 2 * time.Second
	// unsaved is how much later than its manifest says a recorder may have died.
	unsaved = 3 * saveIdle
)

// Recover finishes, in the background, the recordings that a crash left unfinished, see Repair, and
// finds those that NewRecording may continue. These come first: NewRecording waits for no others.
// It is called once, before the first recording begins. Recordings that another process writes are
// left alone for as long as they do. What cannot be repaired is logged, and tried again by the next Recover. It ends
// with ctx, in the middle of a file if need be; the channel that it returns is closed then. Hashes
// that finished recordings lack are made after that, until Close.
func (r *Root) Recover(ctx context.Context) <-chan struct{} {
	r.mu.Lock()
	r.looking = true
	r.mu.Unlock()
	done := make(chan struct{})
	r.working.Go(func() {
		defer close(done)
		urgent, others, unhashed := r.look(ctx)
		var busy []string
		for _, dir := range slices.Concat(urgent, others) {
			repaired := r.repair(ctx, dir)
			if repaired.unhashed {
				unhashed = append(unhashed, dir)
			}
			if repaired.Busy {
				busy = append(busy, dir)
				r.options.Logger.Warn("recording is being written by another process", "dir", dir)
			}
			r.settle(dir)
		}
		r.working.Go(func() { r.hashLeft(unhashed) })
		r.working.Go(func() { r.repairLater(busy) })
	})
	return done
}

// look finds the recordings that may go on. It returns which of them have to be repaired before,
// which lack only hashes, and what others there are.
func (r *Root) look(ctx context.Context) (urgent, others, unhashed []string) {
	var found []interrupted
	for dir, err := range recordings(r.dir()) {
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			r.unreadable(dir, err)
			continue
		}
		c, ok := r.consider(dir)
		if !ok {
			others = append(others, dir)
			continue
		}
		found = append(found, c)
		if c.unfinished {
			urgent = append(urgent, dir)
		} else if c.unhashed {
			unhashed = append(unhashed, dir)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looking, r.interrupted = false, found
	return urgent, others, unhashed
}

// consider reports whether a recording may go on.
func (r *Root) consider(name string) (c interrupted, ok bool) {
	dir, err := r.dir().OpenRoot(name)
	if err != nil {
		return c, false
	}
	defer dir.Close()
	info, err := dir.Lstat(ManifestName)
	if err != nil || time.Since(info.ModTime()) > 2*maxReconnectWindow { // clocks may differ
		return c, false
	}
	m, err := readManifest(dir)
	if err != nil {
		return c, false
	}
	c = interrupted{dir: name, channel: m.Channel, bot: m.Bot, unhashed: len(m.unhashed()) > 0}
	if m.State == StateRecording {
		c.unfinished, c.ended = true, m.Updated.UTC.Add(unsaved)
		c.until = c.ended.Add(m.ReconnectWindow.Duration())
		return c, m.ReconnectWindow > 0 && !time.Now().After(c.until)
	}
	if !m.continuable(time.Now()) {
		return c, false
	}
	c.ended, c.until = m.Ended.UTC, m.ContinuableUntil.UTC
	return c, true
}

// continuable reports whether the recording is finished, and may be continued at that time.
func (m *Manifest) continuable(now time.Time) bool {
	return m.State != StateRecording && m.Ended != nil && m.ContinuableUntil != nil && !now.After(m.ContinuableUntil.UTC)
}

// repairAgain is how often recordings are tried again that another process wrote. It may die, and its lock
// file with it.
const repairAgain = lockStale + lockBeat

// repairLater finishes recordings that another process wrote, should it have died since, until Close.
func (r *Root) repairLater(busy []string) {
	tick := time.NewTicker(repairAgain)
	defer tick.Stop()
	for len(busy) > 0 {
		select {
		case <-tick.C:
		case <-r.life.Done():
			return
		}
		var still []string
		for _, dir := range busy {
			switch repaired := r.repair(r.life, dir); {
			case repaired.Busy:
				still = append(still, dir)
			case repaired.unhashed:
				r.hashLeftIn(dir)
			}
		}
		busy = still
	}
}

// repair finishes a recording, unless ctx ends first.
func (r *Root) repair(ctx context.Context, dir string) RepairedRecording {
	if ctx.Err() != nil {
		return RepairedRecording{}
	}
	repaired, unfinished := repairRecording(ctx, r.dir(), dir)
	if !unfinished || ctx.Err() != nil {
		return repaired
	}
	log := r.options.Logger.With("dir", repaired.Dir)
	switch {
	case repaired.Busy:
	case len(repaired.Problems) > 0:
		log.Error("could not repair recording", "problems", repaired.Problems)
	default:
		log.Info("recording recovered", "channel", repaired.Channel, "files", len(repaired.Parts), "ended", repaired.Ended.UTC)
	}
	return repaired
}

// settle says what became of a recording that may have been waited for.
func (r *Root) settle(dir string) {
	if !r.awaited(dir) {
		return
	}
	c, ok := r.consider(dir)
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.interrupted, func(c interrupted) bool { return c.dir == dir })
	if i < 0 {
		return // it goes on by now, or is not waited for any more
	}
	if ok && !c.unfinished {
		r.interrupted[i] = c
	} else {
		r.interrupted = slices.Delete(r.interrupted, i, i+1)
	}
}

// awaited reports whether a recording may go on.
func (r *Root) awaited(dir string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.interrupted, func(c interrupted) bool { return c.dir == dir })
}

// takeInterrupted takes the newest recording that info would continue. The error is ErrRecovering
// when that is not known yet.
func (r *Root) takeInterrupted(info RecordingInfo) (c interrupted, ok bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if info.Follows != nil {
		return c, false, nil
	}
	if r.looking && !info.NoWait {
		return c, false, ErrRecovering
	}
	best := -1
	for i, c := range r.interrupted {
		late := info.Start.Sub(c.ended) > info.ReconnectWindow || info.Start.After(c.until)
		switch {
		case c.channel != info.Channel || c.bot != info.Bot || late || info.ReconnectWindow <= 0:
		case c.unfinished && info.NoWait:
		case c.unfinished:
			return c, false, ErrRecovering
		case best < 0 || c.ended.After(r.interrupted[best].ended):
			best = i
		}
	}
	if best < 0 {
		return c, false, nil
	}
	c = r.interrupted[best]
	r.interrupted = slices.Delete(r.interrupted, best, best+1)
	return c, true, nil
}

var errNotContinued = errors.New("it is not as it was left")

// continueRecording reopens a recording that was interrupted. Its clock goes on by the one on the
// wall. Of its streams those that were open when it ended go on when they come back, see Reopen.
func (r *Root) continueRecording(c interrupted, info RecordingInfo) (*Recording, error) {
	var st *store
	var m *Manifest
	leave := r.channels.enter(path.Dir(c.dir))
	err := r.descriptors.need(func() (err error) {
		st, m, err = reopenStore(r.dir(), c.dir)
		return err
	})
	leave()
	if err != nil {
		return nil, err
	}
	if !m.continuable(info.Start) || !m.Ended.UTC.Equal(c.ended) {
		return nil, errors.Join(errNotContinued, st.Close())
	}
	now := max(info.Start.Sub(m.Started.UTC), m.position(*m.Ended)) // the clock may have been set back
	rec := r.recording(st, m, info.Start.Add(-now))
	rec.left = m.Updated.UTC.Add(mtimeStep)
	var over []*ManifestStream
	for _, s := range m.Streams {
		rec.sends(s.PeerID)
		for _, r := range s.Reconnects {
			rec.sends(r.PeerID)
		}
		for _, t := range s.Tracks {
			rec.size += t.Ledger.BytesWritten
		}
		mayReturn := s.EndReason == MemberLeft || s.EndReason == Stopped || s.EndReason == Interrupted
		if mayReturn && now-m.position(*s.Ended) <= info.ReconnectWindow {
			rec.asleep = append(rec.asleep, sleeper{s, m.position(*s.Ended) + info.ReconnectWindow})
		} else {
			over = append(over, s)
		}
	}
	m.State, m.Ended, m.ContinuableUntil, m.ReconnectWindow = StateRecording, nil, nil, Seconds(info.ReconnectWindow)
	if err := rec.writeManifest(0); err != nil {
		r.metrics.remove(rec)
		return nil, errors.Join(err, st.Close())
	}
	rec.mu.Lock()
	for _, s := range over {
		rec.hashAll(s)
	}
	rec.mu.Unlock()
	rec.log.Info("recording continued after a restart", "dir", c.dir, "streams", len(rec.asleep))
	return rec, nil
}
