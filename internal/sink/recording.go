package sink

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"sync"
	"time"

	"recorder/internal/nesting"
)

// RecordingInfo is what a recording is of.
type RecordingInfo struct {
	Channel string
	Bot     string
	Start   time.Time // with Go's monotonic reading; default now

	// ReconnectWindow is how long after a recording was interrupted, by a crash or by Suspend, it is
	// continued instead of beginning a new one. 0: never.
	ReconnectWindow time.Duration

	// Follows is a recording of the same channel, about to be closed, that this one is to take the
	// place of, as it is Full. Both manifests say so.
	Follows *Recording
}

// Recording is one stay in one channel. Its methods may be called from any goroutine.
type Recording struct {
	root   *Root
	log    *slog.Logger
	start  time.Time
	store  *store
	create func(name string) (File, error) // makes a media file
	stop   chan struct{}                   // closed by Close
	pumped chan struct{}                   // closed by the pump's end
	done   chan struct{}                   // closed when all files are finished
	savers sync.WaitGroup
	save   chan struct{} // asks the saver
	parts  sync.WaitGroup

	open    opener // of media files, to hash them
	hashers sync.WaitGroup

	saving sync.Mutex // held while a manifest is made and stored, so that an older never follows a newer

	mu       sync.Mutex // guards all below, and all of Stream, Track and the pump's half of Source
	manifest *Manifest
	streams  []*Stream // open
	orders   []order   // for sources, given out when mu is free
	version  uint64    // of the manifest, rises with each change
	stored   uint64    // the version that was stored last
	weight   int       // bytes of that
	closing  bool
	scolded  time.Duration   // when trouble was last logged
	refused  bool            // that was a file's, and none was written since
	tracks   []*Track        // of all streams, closed ones too
	size     uint64          // of the media so far
	asleep   []sleeper       // of a continued recording
	waking   map[string]bool // streams by id, their files being read
	unhashed []*ManifestPart // final, and to be read for their hashes in this order
}

const (
	// suspendHashing is for how long a recorder that stops reads files for their hashes. Until the next
	// one starts nothing is recorded.
	suspendHashing = 2 * time.Second

	pumpInterval   = 20 * time.Millisecond
	saveInterval   = time.Second      // between manifests when something happened
	saveIdle       = 10 * time.Second // and when only counters moved
	maxStreams     = 1024             // open
	maxEver        = 8192             // streams, or peers, of a recording
	maxTracks      = 64               // of a stream
	maxSources     = 8                // of a track
	maxMetadata    = 8 << 10
	maxNesting     = 16 // of lists and objects in metadata
	errorLogPeriod = 10 * time.Second
)

// NewRecording makes the directory of a new recording and writes its manifest. Where one of the
// same channel and bot was interrupted a moment ago, and Recover found it, that one goes on;
// ErrRecovering says to try again in a moment.
func (r *Root) NewRecording(info RecordingInfo) (*Recording, error) {
	rec, err := r.newRecording(info)
	if err != nil {
		return nil, err
	}
	go rec.pump()
	rec.savers.Go(rec.saver)
	return rec, nil
}

// newRecording is NewRecording without the pump and the saver.
func (r *Root) newRecording(info RecordingInfo) (*Recording, error) {
	if info.Start.IsZero() {
		info.Start = time.Now()
	}
	c, ok, err := r.takeInterrupted(info)
	if ok {
		rec, err := r.continueRecording(c, info)
		if err == nil {
			return rec, nil
		}
		r.options.Logger.Warn("could not continue recording, beginning another", "dir", c.dir, "err", err)
	}
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("begin recording of channel %q: %w", info.Channel, err)
	}
	m := &Manifest{
		Version: ManifestVersion, ID: newID(), Channel: info.Channel, Bot: info.Bot,
		State: StateRecording, Started: At(info.Start, info.Start), ReconnectWindow: Seconds(info.ReconnectWindow),
	}
	if info.Follows != nil {
		m.Previous = path.Base(info.Follows.Dir())
	}
	r.mu.Lock()
	st, err := newStore(r.dir, m)
	r.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("begin recording of channel %q: %w", info.Channel, err)
	}
	rec := r.recording(st, m, info.Start)
	if err := rec.writeManifest(0); err != nil {
		r.metrics.remove(rec)
		st.Close()
		return nil, fmt.Errorf("begin recording of channel %q: %w", info.Channel, err)
	}
	if info.Follows != nil {
		info.Follows.followedBy(rec)
	}
	rec.log.Info("recording began", "dir", rec.Dir())
	return rec, nil
}

// followedBy notes the recording that goes on where this one is about to end. If any is continued after a
// restart, it is that one.
func (rec *Recording) followedBy(next *Recording) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.manifest.Next, rec.manifest.ReconnectWindow = path.Base(next.Dir()), 0
	rec.changed()
}

// recording is the Recording of a directory and its manifest, whose clock was 0 at start.
func (r *Root) recording(st *store, m *Manifest, start time.Time) *Recording {
	rec := &Recording{
		root: r, log: r.options.Logger.With("channel", m.Channel, "recording", m.ID), start: start,
		store: st, create: st.Create,
		stop: make(chan struct{}), pumped: make(chan struct{}), done: make(chan struct{}), save: make(chan struct{}, 1),
		manifest: m,
	}
	rec.open, rec.waking = openIn(st.dir), make(map[string]bool)
	r.metrics.add(rec)
	return rec
}

// ID is the short random id that ends the directory's name.
func (rec *Recording) ID() string { return rec.manifest.ID }

// Dir is the recording's directory, relative to the root's.
func (rec *Recording) Dir() string { return rec.store.Dir() }

// Size is how many bytes of media the recording has taken so far.
func (rec *Recording) Size() int64 {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return int64(rec.size)
}

// ErrFull is returned by Stream of a recording that is Full.
var ErrFull = errors.New("recording is full")

// Full reports whether the recording takes no more streams or members, or is about to outgrow what a
// manifest may hold. A recording that Follows it can go on.
func (rec *Recording) Full() bool {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.full()
}

func (rec *Recording) full() bool {
	m := rec.manifest
	return len(m.Streams) >= maxEver || len(m.Peers) >= maxEver || rec.weight > maxManifest/2
}

// now is the recording's clock: time since its start by a clock that no one sets.
func (rec *Recording) now() time.Duration { return time.Since(rec.start) }

// instant is a position of the recording's clock on both clocks of the manifest.
func (rec *Recording) instant(at time.Duration) Instant { return rec.manifest.instant(at) }

// PeerJoined notes a member in the manifest. Metadata is what it says of itself, and may be nil.
func (rec *Recording) PeerJoined(peerID string, metadata json.RawMessage) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.peer(peerID, metadata).Left = nil
}

// PeerLeft notes that a member has gone.
func (rec *Recording) PeerLeft(peerID string) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for _, p := range rec.manifest.Peers {
		if p.ID == peerID && p.Left == nil {
			at := rec.instant(rec.now())
			p.Left = &at
			rec.changed()
		}
	}
}

// peer finds or makes a peer's entry. Beyond maxEver none is kept.
func (rec *Recording) peer(id string, metadata json.RawMessage) *ManifestPeer {
	metadata = boundMetadata(metadata)
	for _, p := range rec.manifest.Peers {
		if p.ID == id {
			if metadata != nil {
				p.Metadata = metadata
			}
			return p
		}
	}
	if len(rec.manifest.Peers) >= maxEver {
		return new(ManifestPeer)
	}
	p := &ManifestPeer{ID: id, Metadata: metadata, Joined: rec.instant(rec.now())}
	rec.manifest.Peers = append(rec.manifest.Peers, p)
	rec.changed()
	return p
}

// boundMetadata is metadata as the manifest keeps it: valid JSON of bounded size and depth, or nil.
func boundMetadata(m json.RawMessage) json.RawMessage {
	var b bytes.Buffer
	if len(m) > maxMetadata || nesting.Depth(m) > maxNesting || json.Compact(&b, m) != nil {
		return nil
	}
	return b.Bytes()
}

// changed says that the manifest is to be written soon. mu is held.
func (rec *Recording) changed() {
	rec.version++
	select {
	case rec.save <- struct{}{}:
	default:
	}
}

// saver writes the manifest after changes, off the pump.
func (rec *Recording) saver() {
	pause := time.NewTimer(0)
	defer pause.Stop()
	idle := time.NewTicker(saveIdle)
	defer idle.Stop()
	for {
		select {
		case <-rec.done:
			return
		case <-idle.C:
		case <-rec.save:
			select { // several changes, one manifest
			case <-rec.done:
				return
			case <-pause.C:
			}
		}
		begun := time.Now()
		if err := rec.writeManifest(0); err != nil {
			rec.mu.Lock()
			rec.refused = rec.complain("could not write manifest", "err", err) || rec.refused
			rec.mu.Unlock()
		}
		pause.Reset(max(saveInterval, 20*time.Since(begun))) // a large manifest on a slow disk
	}
}

// writeManifest stores the manifest as it is now, unless one of at least the version wanted is
// stored already; 0 always stores.
func (rec *Recording) writeManifest(want uint64) error {
	rec.saving.Lock()
	defer rec.saving.Unlock()
	rec.mu.Lock()
	now := rec.now()
	if want > 0 && rec.stored >= want {
		rec.mu.Unlock()
		return nil
	}
	version := rec.version
	rec.manifest.Updated = rec.instant(now)
	for _, s := range rec.streams {
		s.account(now)
	}
	m := rec.manifest.copy()
	rec.mu.Unlock()
	b, err := m.Encode()
	if err == nil {
		err = rec.store.Save(b)
	}
	if err == nil {
		rec.mu.Lock()
		rec.stored, rec.weight = version, len(b)
		rec.mu.Unlock()
	}
	return err
}

// complain logs trouble, unless it did a moment ago, and reports whether it did. mu is held.
func (rec *Recording) complain(message string, args ...any) bool {
	now := rec.now()
	if rec.scolded != 0 && now-rec.scolded < errorLogPeriod {
		return false
	}
	rec.scolded = now
	rec.log.Error(message, args...)
	return true
}

// SetReconnectWindow replaces RecordingInfo's.
func (rec *Recording) SetReconnectWindow(window time.Duration) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if !rec.closing {
		rec.manifest.ReconnectWindow = Seconds(window)
		rec.changed()
	}
}

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
	go func() {
		defer close(hashed)
		finished <- rec.conclude(now)
		rec.concludeHashes()
	}()
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
