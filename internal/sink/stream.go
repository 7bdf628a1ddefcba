package sink

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"recorder/internal/timeline"
)

// StreamInfo names a stream and its sender. All of it may come from a hostile peer.
type StreamInfo struct {
	PeerID       string
	StreamID     string
	PeerMetadata json.RawMessage
	Metadata     json.RawMessage
}

// Stream is what a member shares under one stream id. Its tracks have one clock, which begins with
// its first packet.
type Stream struct {
	rec      *Recording
	info     StreamInfo
	manifest *ManifestStream
	tracks   []*Track
	closed   bool
	opened   time.Duration // when it got its entry in the manifest, here

	files map[string]int // parts so far, by kind

	begun  bool
	origin time.Duration // the stream's 0 on the recording's clock

	refused Reason        // it waits for its place, and what is sent meanwhile is missing for this reason
	met     bool          // the connection was up, whatever came
	awaits  bool          // it never was, and media is missing
	waited  time.Duration // when that was accounted for
	out     bool          // between Outage and Resume
	outages []outage      // the latest
}

// NewStream begins a stream, whatever others of that id there are: the caller knows who continues
// which. One that lasts over a change of its sender is kept, see Resume, and one of a recording that
// goes on after a restart is asked for by Reopen. The error is ErrFull for one more stream of a
// recording that is Full.
func (rec *Recording) NewStream(info StreamInfo) (*Stream, error) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if rec.closing {
		return nil, ErrClosed
	}
	rec.peer(info.PeerID, info.PeerMetadata, false)
	if len(rec.streams) >= maxStreams {
		return nil, fmt.Errorf("stream of peer %q: more than %d streams at once", info.PeerID, maxStreams)
	}
	if rec.full() {
		return nil, fmt.Errorf("stream of peer %q: %w", info.PeerID, ErrFull)
	}
	s := &Stream{rec: rec, info: info, opened: rec.now(), files: make(map[string]int)}
	s.manifest = &ManifestStream{
		ID: info.StreamID, PeerID: info.PeerID, Metadata: boundMetadata(info.Metadata), Started: rec.instant(s.opened),
		Dir: rec.store.StreamDir(info.PeerID, info.StreamID), Previous: rec.previous(info.StreamID),
	}
	rec.manifest.Streams = append(rec.manifest.Streams, s.manifest)
	rec.streams = append(rec.streams, s)
	rec.changed()
	return s, nil
}

// previous is the directory of the latest stream with an id that has ended, if any.
func (rec *Recording) previous(id string) string {
	for _, s := range slices.Backward(rec.manifest.Streams) {
		if s.ID == id && s.Ended != nil {
			return s.Dir
		}
	}
	return ""
}

// ID is the stream id as its sender chose it.
func (s *Stream) ID() string { return s.info.StreamID }

// Closed reports whether the stream takes nothing any more.
func (s *Stream) Closed() bool {
	s.rec.mu.Lock()
	defer s.rec.mu.Unlock()
	return s.closed || s.rec.closing
}

// SetMetadata replaces what the sender says of the stream.
func (s *Stream) SetMetadata(metadata json.RawMessage) {
	s.rec.mu.Lock()
	defer s.rec.mu.Unlock()
	s.rec.describe(&s.manifest.Metadata, metadata)
}

// live reports whether a connection feeds the stream.
func (s *Stream) live() bool {
	for _, t := range s.tracks {
		for _, src := range t.sources {
			if !src.isClosed() {
				return true
			}
		}
	}
	return false
}

// spent reports whether one of the stream's tracks has had all its files.
func (s *Stream) spent() bool { return slices.ContainsFunc(s.tracks, (*Track).spent) }

// heard is when the last packet of any track arrived; 0 before the first.
func (s *Stream) heard() (last time.Duration) {
	for _, t := range s.tracks {
		last = max(last, t.heard)
	}
	return last
}

// Close ends the stream: what has arrived is written and its files are finished, which goes on
// after Close returns. The reason stands in the manifest, unless it is that the member left.
func (s *Stream) Close(reason string) {
	s.rec.mu.Lock()
	defer s.rec.mu.Unlock()
	if s.closed {
		return
	}
	s.end(s.rec.now(), reason)
	if i := slices.Index(s.rec.streams, s); i >= 0 {
		s.rec.streams = slices.Delete(s.rec.streams, i, i+1)
	}
	s.rec.changed()
}

// end does what Close promises; mu is held.
func (s *Stream) end(now time.Duration, reason string) {
	s.closed = true
	s.await(now)
	s.refuse(now)
	for _, t := range s.tracks {
		t.do((*Track).end, now)
		t.writer = nil // with all buffers: the track itself stays for its sums
	}
	s.account(now)
	s.rec.manifest.end(s.manifest, s.rec.instant(now), reason)
}

// end says that a stream is over. One whose member left ended then at the latest, and for that reason;
// one that was lost and did not come back ended when it was lost. What was never there is missing to the end.
func (m *Manifest) end(s *ManifestStream, at Instant, reason string) {
	if left := m.left(s); left != nil {
		reason = MemberLeft
		if m.position(*left) < m.position(at) {
			at = *left
		}
	}
	came := slices.ContainsFunc(s.Tracks, func(t *ManifestTrack) bool { return t.Start != nil })
	awaited := slices.ContainsFunc(s.Tracks, func(t *ManifestTrack) bool { return t.Start == nil && len(t.Gaps) > 0 })
	if n := len(s.Reconnects); n > 0 && s.Reconnects[n-1].Resumed == nil {
		if came || !awaited {
			at = s.Reconnects[n-1].Lost
		}
		s.Reconnects = s.Reconnects[:n-1]
	}
	if !came && reason == NotBack {
		reason = NeverCame
	}
	if s.Waited != nil && s.Waited.Until == nil {
		reason = NoPlace
	}
	s.Ended, s.EndReason = &at, reason
}

// left is when the member that sent the stream last left the channel, nil if it did not since, or is
// back and did not lose the stream over it.
func (m *Manifest) left(s *ManifestStream) (left *Instant) {
	sender, since := s.sender()
	for _, p := range m.Peers {
		if p.ID != sender {
			continue
		}
		if left != nil && m.away(s, p.Joined) {
			break
		}
		left = nil
		if p.Left != nil && m.position(*p.Left) >= m.position(since) {
			left = p.Left
		}
	}
	return left
}

// away reports whether the stream was lost before then, and has not come back.
func (m *Manifest) away(s *ManifestStream, then Instant) bool {
	n := len(s.Reconnects)
	return n > 0 && s.Reconnects[n-1].Resumed == nil && m.position(s.Reconnects[n-1].Lost) < m.position(then)
}

// sender is the peer that sent the stream last, and since when.
func (s *ManifestStream) sender() (peerID string, since Instant) {
	peerID, since = s.PeerID, s.Started
	for _, r := range s.Reconnects {
		if r.Resumed != nil {
			peerID, since = r.PeerID, *r.Resumed
		}
	}
	return peerID, since
}

// tick does all there is to do for the stream at now.
func (s *Stream) tick(now time.Duration) {
	for _, t := range s.tracks {
		t.do((*Track).receive, now)
	}
	s.follow()
	for _, t := range s.tracks {
		t.do((*Track).release, now)
	}
	if (s.awaits || s.refused != "") && now-s.waited >= awaitInterval {
		s.waited = now
		s.await(now)
		s.refuse(now)
	}
}

// begin sets the stream's zero: the first packet of all tracks that are known to have one.
func (s *Stream) begin() {
	if s.begun {
		return
	}
	s.begun = true
	first := time.Duration(1<<63 - 1)
	for _, t := range s.tracks {
		for _, src := range t.sources {
			if at, ok := src.clock.Start(); ok {
				first = min(first, at)
			}
		}
	}
	s.origin = first
	s.manifest.Started = s.rec.instant(first)
	s.rec.changed()
}

// follow ties the pictures' clocks to the sound's, which is left alone: shifting a picture is
// invisible, shifting sound is not.
func (s *Stream) follow() {
	var leader *timeline.Clock
	for _, t := range s.tracks {
		if t.kind == audio && t.active != nil && t.active.clock.Reported() {
			leader = &t.active.clock
			break
		}
	}
	for _, t := range s.tracks {
		for _, src := range t.sources {
			src.clock.Follow(leader)
		}
	}
}

// account brings the manifest's sums up to date.
func (s *Stream) account(now time.Duration) {
	s.refuse(now)
	for _, t := range s.tracks {
		t.account(now)
	}
}
