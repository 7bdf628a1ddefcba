package sink

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"slices"
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

	// NoWait says to wait for no repair: a recording that is not ready to go on does not.
	NoWait bool

	// Follows is a recording of the same channel, about to be closed, that this one is to take the
	// place of, as it is Full. Both manifests say so.
	Follows *Recording
}

// Recording is one stay in one channel. Its methods may be called from any goroutine.
type Recording struct {
	root    *Root
	log     *slog.Logger
	start   time.Time
	left    time.Time // when it was left, if it goes on after a restart
	store   *store
	create  func(name string) (File, error)                  // makes a media file
	reopen  func(name string, was fs.FileInfo) (File, error) // opens one again
	looking sync.Mutex                                       // held while what others did to the directory is found out
	stop    chan struct{}                                    // closed by Close
	pumped  chan struct{}                                    // closed by the pump's end
	done    chan struct{}                                    // closed when all files are finished
	savers  sync.WaitGroup
	save    chan struct{} // asks the saver
	parts   sync.WaitGroup

	open    opener // of media files, to hash them
	hashers sync.WaitGroup

	saving sync.Mutex // held while a manifest is made and stored, so that an older never follows a newer

	mu         sync.Mutex // guards all below, and all of Stream, Track and the pump's half of Source
	manifest   *Manifest
	stoodUntil time.Duration // when the recorder last went on after it had stood still
	streams    []*Stream     // open
	orders     []order       // for sources, given out when mu is free
	version    uint64        // of the manifest, rises with each change
	stored     uint64        // the version that was stored last
	weight     int           // bytes of that
	closing    bool
	scolded    time.Duration   // when trouble was last logged
	faulted    time.Duration   // when a panic was
	refused    bool            // that was a file's, and none was written since
	tracks     []*Track        // of all streams, closed ones too
	size       uint64          // of the media so far
	asleep     []sleeper       // of a continued recording
	senders    map[string]bool // peers by id that had a stream
	unhashed   []*ManifestPart // final, and to be read for their hashes in this order
	ills       ills            // directories that take no files at present
	files      map[*ManifestPart]mediaFile
	moved      bool  // its directory is not where it was made
	homeless   error // it was deleted, and this is why there is no other
}

const (
	pumpInterval   = 20 * time.Millisecond
	maxStreams     = 1024     // open
	maxEver        = 8192     // streams, or stays of peers, of a recording
	maxTracks      = 64       // of a stream
	maxSources     = 8        // of a track
	maxMetadata    = 16 << 10 // as much as a member may say of a track
	maxNesting     = 16       // of lists and objects in metadata
	errorLogPeriod = 10 * time.Second
)

// NewRecording makes the directory of a new recording and writes its manifest. Where one of the
// same channel and bot was interrupted a moment ago, and Recover found it, that one goes on;
// ErrRecovering says to try again in a moment. It waits for the disk for as long as that takes.
func (r *Root) NewRecording(info RecordingInfo) (*Recording, error) {
	defer r.watch(info.Channel, workBegin)()
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
		err = r.spaceErr()
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
	st, err := r.newStore(m)
	if err != nil {
		return nil, fmt.Errorf("begin recording of channel %q: %w", info.Channel, err)
	}
	rec := r.recording(st, m, info.Start)
	if err := rec.writeManifest(0); err != nil {
		r.metrics.remove(rec)
		_ = r.dir().RemoveAll(rec.Dir()) // or else the next start does
		st.Close()
		return nil, fmt.Errorf("begin recording of channel %q: %w", info.Channel, err)
	}
	if info.Follows != nil {
		info.Follows.followedBy(rec)
	}
	rec.log.Info("recording began", "dir", rec.Dir())
	return rec, nil
}

// newStore makes the directory of a recording.
func (r *Root) newStore(m *Manifest) (st *store, err error) {
	leave := r.channels.enter(escapeName(m.Channel))
	defer leave()
	err = r.descriptors.need(func() (err error) {
		st, err = newStore(r.dir(), m)
		return err
	})
	return st, err
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
		store: st, create: st.Create, reopen: st.Reopen,
		stop: make(chan struct{}), pumped: make(chan struct{}), done: make(chan struct{}), save: make(chan struct{}, 1),
		manifest: m,
	}
	rec.open, rec.files = r.opener(st), make(map[*ManifestPart]mediaFile)
	r.metrics.add(rec)
	return rec
}

// ID is the short random id that ends the directory's name.
func (rec *Recording) ID() string {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.manifest.ID
}

// Dir is the recording's directory, relative to the root's.
func (rec *Recording) Dir() string { return rec.store.Dir() }

// Size is how many bytes of media the recording has taken so far.
func (rec *Recording) Size() int64 {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return int64(rec.size)
}

// ErrFull is returned by NewStream of a recording that is Full.
var ErrFull = errors.New("recording is full")

// Full reports whether the recording takes no more streams or stays, or one of its tracks no more
// files, or is about to outgrow what a manifest may hold; or whether its directory was moved away. A
// recording that Follows it can go on.
func (rec *Recording) Full() bool {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.moved || rec.full()
}

func (rec *Recording) full() bool {
	m := rec.manifest
	return len(m.Streams) >= maxEver || len(m.Peers) >= maxEver || rec.weight > maxManifest/2 || slices.ContainsFunc(rec.streams, (*Stream).spent)
}

// now is the recording's clock: time since its start by a clock that no one sets.
func (rec *Recording) now() time.Duration { return time.Since(rec.start) }

// instant is a position of the recording's clock on both clocks of the manifest.
func (rec *Recording) instant(at time.Duration) Instant { return rec.manifest.instant(at) }

// PeerJoined notes a member in the manifest, once for each stay. Metadata is what it says of itself,
// and may be nil.
func (rec *Recording) PeerJoined(peerID string, metadata json.RawMessage) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.peer(peerID, metadata, true)
	rec.changed()
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
	rec.leaveOut()
}

// peer makes sure that a peer has an entry, and one of its own for the stay if it joins. If it does not
// join it has a stream. Beyond maxEver none is kept.
func (rec *Recording) peer(id string, metadata json.RawMessage, joins bool) {
	metadata = boundMetadata(metadata)
	if !joins {
		rec.sends(id)
	}
	for _, p := range slices.Backward(rec.manifest.Peers) {
		if p.ID != id {
			continue
		}
		if joins && p.Left != nil {
			break
		}
		if metadata != nil {
			p.Metadata = metadata
		}
		return
	}
	if len(rec.manifest.Peers) >= maxEver {
		return
	}
	rec.manifest.Peers = append(rec.manifest.Peers, &ManifestPeer{ID: id, Metadata: metadata, Joined: rec.instant(rec.now())})
	rec.changed()
}

// boundMetadata is metadata as the manifest keeps it: valid JSON of bounded size and depth, or nil.
func boundMetadata(m json.RawMessage) json.RawMessage {
	var b bytes.Buffer
	if len(m) > maxMetadata || nesting.Depth(m) > maxNesting || json.Compact(&b, m) != nil {
		return nil
	}
	return b.Bytes()
}

// describe puts what a member says of something into its place in the manifest. What is out of bounds
// does not replace what was said before. mu is held.
func (rec *Recording) describe(place *json.RawMessage, metadata json.RawMessage) {
	m := boundMetadata(metadata)
	if m == nil && len(metadata) > 0 {
		return
	}
	if !bytes.Equal(*place, m) {
		*place = m
		rec.changed()
	}
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
