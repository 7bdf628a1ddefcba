package remote

import (
	"slices"

	"github.com/pion/webrtc/v4"
)

// update compares the tracks there are with those of the last description,
// since pion tells of a track late and of its removal never. Tracks that
// come are in place before the first event of the description.
func (l *link) update(formats map[string]map[uint8]webrtc.RTPCodecParameters) (events []Event) {
	l.inlet.feedback.negotiated(l.pc)
	var gone, came []*Track
	var added []trackName
	var left []*Stream // streams that lost a track
	for _, s := range l.remote.sections {
		if s.data {
			continue
		}
		t := l.track(s.mid)
		switch {
		case t == nil && !s.sending:
			continue
		case t != nil && s.sending:
			// A track that goes on keeps its id, whatever its msid says now;
			// only its streams may change (W3C WebRTC §4.4.1.5).
			t.setLabel(s.trackID())
			t.setFormats(s.announced(formats[s.mid]))
			if old := t.StreamIDs(); !slices.Equal(old, s.streams) {
				t.setStreams(s.streams)
				for _, id := range old {
					if !slices.Contains(s.streams, id) {
						left = append(left, l.leave(t, id)...)
					}
				}
				came = append(came, t)
			}
			continue
		case t != nil:
			gone = append(gone, t)
			l.tracks = slices.DeleteFunc(l.tracks, func(other *Track) bool { return other == t })
		}
		if s.sending {
			t := l.newTrack(s, s.announced(formats[s.mid]))
			l.tracks = append(l.tracks, t)
			came = append(came, t)
			added = append(added, t.name())
		}
	}
	for _, t := range slices.Clone(l.tracks) {
		if !slices.ContainsFunc(l.remote.sections, func(s section) bool { return s.mid == t.mid }) {
			gone = append(gone, t)
			l.tracks = slices.DeleteFunc(l.tracks, func(other *Track) bool { return other == t })
		}
	}
	l.meta.describe(l.names(), added)

	fresh := map[*Stream]bool{}
	for _, t := range came {
		for _, id := range t.StreamIDs() {
			if l.join(t, id) {
				fresh[l.stream(id)] = true
			}
		}
	}
	for _, t := range gone {
		t.end()
		for _, id := range t.StreamIDs() {
			left = append(left, l.leave(t, id)...)
		}
	}
	for _, t := range came {
		streams := l.streamsOf(t)
		events = append(events, TrackAdded{Track: t, Streams: streams, Metadata: t.Metadata()})
		for _, s := range streams {
			if fresh[s] {
				delete(fresh, s)
				events = append(events, StreamAdded{Stream: s, Metadata: s.Metadata()})
			}
		}
	}
	for _, s := range left {
		if len(s.Tracks()) == 0 && slices.Contains(l.streams, s) {
			l.streams = slices.DeleteFunc(l.streams, func(other *Stream) bool { return other == s })
			events = append(events, StreamRemoved{Stream: s})
		}
	}
	return events
}

func (s section) trackID() string {
	if s.track == "" {
		return "mid:" + s.mid
	}
	return s.track
}

func (l *link) newTrack(s section, formats map[uint8]webrtc.RTPCodecParameters) *Track {
	t := &Track{
		id: s.trackID(), label: s.trackID(), mid: s.mid, kind: s.kind, metadata: l.meta, inlet: l.inlet, connection: l.sender,
		streams: s.streams, formats: formats, payloads: payloadsOf(formats), wanted: make(chan struct{}),
	}
	t.delivered = func() { l.post(l.on.delivered) }
	t.stopped = func(remote *webrtc.TrackRemote) {
		l.post(func(l *link) {
			// Another source of the same track may follow on a live connection.
			if l.closed() && t.reading() == remote {
				t.end()
			}
		})
	}
	return t
}

func (l *link) names() (names []trackName) {
	for _, t := range l.tracks {
		names = append(names, t.name())
	}
	return names
}

func (l *link) track(mid string) *Track {
	for _, t := range l.tracks {
		if t.mid == mid {
			return t
		}
	}
	return nil
}

// trackFor finds the track of something pion started to receive. A source
// that the description does not name arrives on a transceiver of pion's own.
func (l *link) trackFor(remote *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) *Track {
	if tr := receiver.RTPTransceiver(); tr != nil && tr.Mid() != "" {
		return l.track(tr.Mid())
	}
	for _, t := range l.tracks {
		if t.kind == remote.Kind() && t.reading() == nil {
			return t
		}
	}
	return nil
}

func (l *link) stream(id string) *Stream {
	for _, s := range l.streams {
		if s.id == id {
			return s
		}
	}
	return nil
}

func (l *link) streamsOf(t *Track) (streams []*Stream) {
	for _, id := range t.StreamIDs() {
		streams = append(streams, l.stream(id))
	}
	return streams
}

// join adds t to a stream and reports whether the stream is new.
func (l *link) join(t *Track, id string) (fresh bool) {
	s := l.stream(id)
	if s == nil {
		s = &Stream{id: id}
		l.streams = append(l.streams, s)
		fresh = true
	}
	if !slices.Contains(s.Tracks(), t) {
		s.add(t)
	}
	return fresh
}

// leave takes t out of a stream and returns the stream if it is empty now.
func (l *link) leave(t *Track, id string) []*Stream {
	if s := l.stream(id); s != nil && s.remove(t) {
		return []*Stream{s}
	}
	return nil
}
