package sink

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"recorder/internal/depacket"
)

// TrackInfo names a track. Kind is "audio" or "video".
type TrackInfo struct {
	ID       string
	Kind     string
	Offered  time.Time // since when, if that was before its stream could be recorded, see Stream.Wait; default now
	Beside   []string  // ids of the other tracks of that kind that the stream has now
	Metadata json.RawMessage
}

// The kinds of track.
const (
	audio = "audio"
	video = "video"
)

// Track is one track of a stream over all connections it ever comes by, written to one file, or to
// several when its codec changes.
type Track struct {
	stream     *Stream
	kind       string
	manifest   *ManifestTrack
	ledger     ledger
	drops      [dropReasons]uint64
	heard      time.Duration // when the last packet arrived; 0 before the first
	keyed      time.Duration // when the last key picture was written
	writer     writer
	sources    []*Source     // not yet ended, oldest first
	active     *Source       // the one that is written
	counter    int           // sources so far
	connection uint32        // the last that delivered
	outage     Reason        // why nothing comes, until something does
	outSince   time.Duration // when the last packet before arrived; it may be written later
	refused    time.Duration // until when what was offered in vain is accounted for
	orphan     bool          // all sources of the stream ended, and none of this track came since
	parted     time.Duration // rises by partInterval with each file, and with the clock
	part       *part         // the last that was begun
	fault      func(reason any, stack []byte)
	sent       *int64 // frames in the file at hand that are no stand-ins
}

// writer lays out the media of one kind.
type writer interface {
	// reach reports whether p can be written, which is next. What it takes to get there may be more than
	// fits between two ticks; then a part of it is done, and p has to wait.
	reach(src *Source, p *depacket.Packet, now time.Duration) bool
	// write takes a packet in sequence, from the active source or one that would be.
	write(src *Source, p *depacket.Packet, lost int, now time.Duration)
	// seal has everything so far on the disk soon.
	seal(now time.Duration)
	// resume goes on with a track that had media up to end on the stream's clock: in file f, which is
	// part m, or, when f is nil, in one to be begun.
	resume(end time.Duration, m *ManifestPart, f *resumedFile)
	// end closes the part at hand, the stream being over. A track that was alive until now was
	// silent since its last packet.
	end(now time.Duration, alive bool)
	// missed is how long the gap at hand is, when the ledger has it only once it ends.
	missed() time.Duration
	// unwritten is how many bytes of the part at hand the disk has not taken.
	unwritten() int
}

// Track returns the stream's track of that id, or begins one. When the stream had lost all its
// sources, a track of another id goes on with one of the same kind that none beside it goes on with, and
// gives it its id. The error is ErrClosed when the stream is closed, and another when it has too many tracks
// or kind is none of the two.
func (s *Stream) Track(info TrackInfo) (*Track, error) {
	s.rec.mu.Lock()
	defer s.rec.mu.Unlock()
	if s.closed || s.rec.closing {
		return nil, ErrClosed
	}
	for _, t := range s.tracks {
		if t.manifest.ID == info.ID && t.kind == info.Kind {
			return t, nil
		}
	}
	if t := s.orphan(info); t != nil {
		t.orphan = false
		t.rename(info.ID)
		return t, nil
	}
	if len(s.tracks) >= maxTracks {
		return nil, errManyTracks
	}
	if info.Kind != audio && info.Kind != video {
		return nil, fmt.Errorf("a track is audio or video, not %q", info.Kind)
	}
	m := &ManifestTrack{ID: info.ID, Kind: info.Kind, Metadata: boundMetadata(info.Metadata), Completeness: 1}
	s.manifest.Tracks = append(s.manifest.Tracks, m)
	t := s.newTrack(m)
	if !info.Offered.IsZero() {
		t.offered(info.Offered)
	}
	return t, nil
}

var errManyTracks = fmt.Errorf("a stream has %d tracks at most", maxTracks)

// newTrack makes the track of a manifest's entry.
func (s *Stream) newTrack(m *ManifestTrack) *Track {
	t := &Track{stream: s, kind: m.Kind, manifest: m, refused: s.rec.now()}
	t.fault = t.fail
	if t.kind == audio {
		t.writer = &audioWriter{track: t}
	} else {
		t.writer = &videoWriter{track: t, pace: maxInterval}
	}
	s.tracks = append(s.tracks, t)
	s.rec.tracks = append(s.rec.tracks, t)
	s.rec.changed()
	return t
}

// orphan is a track of that kind that lost its sources when the whole stream did: a browser that
// adds a stream again names its tracks anew.
func (s *Stream) orphan(info TrackInfo) *Track {
	if !s.live() {
		for _, t := range s.tracks {
			t.orphan = t.counter > 0
		}
	}
	for _, t := range s.tracks {
		if t.kind == info.Kind && t.orphan && !slices.Contains(info.Beside, t.manifest.ID) {
			return t
		}
	}
	return nil
}

// SetID notes that the sender goes on with a track of another id.
func (t *Track) SetID(id string) {
	t.stream.rec.mu.Lock()
	defer t.stream.rec.mu.Unlock()
	t.rename(id)
}

// rename is SetID. mu is held.
func (t *Track) rename(id string) {
	t.manifest.ID = id
	t.stream.rec.changed()
}

// SetMetadata replaces what the sender says of the track.
func (t *Track) SetMetadata(metadata json.RawMessage) {
	t.stream.rec.mu.Lock()
	defer t.stream.rec.mu.Unlock()
	t.stream.rec.describe(&t.manifest.Metadata, metadata)
}

// Pause ends the track's sources, because it is not wanted for now. Until another one delivers,
// nothing is missing.
func (t *Track) Pause() {
	t.stream.rec.mu.Lock()
	defer t.stream.rec.mu.Unlock()
	now := t.stream.rec.now()
	t.do((*Track).receive, now)
	t.do((*Track).flush, now)
	t.stream.await(now)
	t.out(ReasonMute)
}

// out says why nothing comes any more since the last packet did.
func (t *Track) out(r Reason) { t.outage, t.outSince = r, t.heard }

// ends reports whether media that arrived then ends the outage at hand.
func (t *Track) ends(arrival time.Duration) bool { return t.outage != "" && arrival > t.outSince }

// delivered notes media of src that is accounted for, and when it arrived.
func (t *Track) delivered(src *Source, arrival time.Duration) {
	src.delivered, t.connection = true, src.connection
	if t.ends(arrival) {
		t.outage = ""
	}
}

// receive takes in what the sources were given since the last tick.
func (t *Track) receive(now time.Duration) {
	for _, src := range t.sources {
		src.receive(now)
	}
}

// release writes what is in sequence.
func (t *Track) release(now time.Duration) {
	for _, src := range t.sources {
		src.release(now, false)
		src.ask(now)
	}
	for i := 0; i < len(t.sources); {
		if src := t.sources[i]; src.over {
			t.finishSource(src, now)
			continue
		}
		i++
	}
	t.writer.seal(now)
}

// finishSource closes a source and writes what is left of it.
func (t *Track) finishSource(src *Source, now time.Duration) {
	src.Close()
	src.receive(now)
	src.release(now, true)
	t.retire(src)
}

// retire forgets a source that has ended.
func (t *Track) retire(src *Source) {
	if i := slices.Index(t.sources, src); i >= 0 {
		t.sources = slices.Delete(t.sources, i, i+1) // and its connection with it
	}
	src.window.Clear()
	if t.active == src {
		t.active = nil
	}
}

// takeOver makes src the one that is written, if it is not older than the one that is. What its
// predecessor holds back comes first.
func (t *Track) takeOver(src *Source, now time.Duration) bool {
	if t.active == src {
		return true
	}
	if old := t.active; old != nil {
		if old.number > src.number {
			return false
		}
		old.release(now, true)
		old.superseded = true
	}
	t.active = src
	return true
}

// end writes what is left and closes the file.
func (t *Track) end(now time.Duration) {
	alive := t.alive()
	t.flush(now)
	t.writer.end(now, alive)
}

// alive reports whether the track's sender is there, so that silence is its own.
func (t *Track) alive() bool {
	return t.outage != ReasonMute && !t.stream.out && len(t.sources) > 0 && !slices.ContainsFunc(t.sources, (*Source).isClosed)
}

// finishOldest makes room for another source.
func (t *Track) finishOldest(now time.Duration) { t.finishSource(t.sources[0], now) }

// flush ends all sources and writes what they hold.
func (t *Track) flush(now time.Duration) {
	for len(t.sources) > 0 {
		t.finishSource(t.sources[0], now)
	}
}

// fresh reports whether src is yet to deliver, over another connection than the source before.
func (t *Track) fresh(src *Source) bool {
	return !src.delivered && src.number > 1 && (src.connection == 0 || src.connection != t.connection)
}

// gapReason is why media is missing before a packet of src that arrived then.
func (t *Track) gapReason(src *Source, arrival time.Duration, lost int) Reason {
	switch {
	case t.ends(arrival):
		return t.outage
	case t.fresh(src):
		return ReasonReconnect
	case lost > 0:
		return ReasonLoss
	}
	return ReasonMute
}

// began notes the position of the track's first packet.
func (t *Track) began(src *Source, at time.Duration) {
	if t.manifest.Start != nil {
		return
	}
	at = max(at, 0)
	t.manifest.Start = &TrackStart{
		At: t.stream.rec.instant(t.stream.origin + at), Position: Seconds(at),
		Error: Seconds(src.clock.ErrorBound()), Source: StartFromArrival,
	}
	t.ledger.begin(at)
	t.stream.rec.changed()
}

// account brings the manifest's sums up to date.
func (t *Track) account(now time.Duration) {
	m := t.manifest
	t.ledger.enter(m)
	if t.writer != nil {
		missed := Seconds(t.writer.missed())
		m.End, m.Expected = m.End+missed, m.Expected+missed
		m.Completeness = Completeness(m.Recorded, m.Expected)
	}
	if t.active != nil && m.Start != nil {
		m.Start.Drift = t.active.clock.Drift(now)
		if t.active.clock.Followed() {
			m.Start.Source = StartFromSenderReport
		}
	}
}

// seconds is what should be there so far, and what is.
func (t *Track) seconds() (expected, recorded Seconds) {
	expected, recorded = t.ledger.seconds()
	if t.writer != nil {
		expected += Seconds(t.writer.missed())
	}
	return expected, recorded
}

// gap notes missing media in the ledger and the metrics.
func (t *Track) gap(r Reason, start, end time.Duration, lost int, fill string) {
	if r == ReasonLoss {
		r = t.stream.blame(start, end)
	}
	t.ledger.gap(r, start, end, lost, fill)
	t.stream.rec.changed()
}

// drop counts a packet or picture that arrived and is not written.
func (t *Track) drop(r dropReason) {
	t.drops[r]++
	t.manifest.Ledger.FramesDropped++
}

// frame counts one that is.
func (t *Track) frame(size int) {
	*t.sent++
	t.manifest.Ledger.FramesWritten++
	t.manifest.Ledger.BytesWritten += uint64(size)
	t.stream.rec.size += uint64(size)
}

// pressed is how short of space the disk is.
func (t *Track) pressed() pressure { return t.stream.rec.root.pressed() }

// owns reports whether src is the one that is written.
func (t *Track) owns(src *Source) bool { return t.active == src }
