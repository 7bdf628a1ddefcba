package remote

import (
	"encoding/json"
	"slices"
	"sync"

	"github.com/pion/webrtc/v4"
)

// Stream is a MediaStream of the member (reference row "MediaStream"). It
// belongs to one connection: a rebuilt connection brings a new object with
// the same id. Its methods may be called from any goroutine.
type Stream struct {
	id string

	mu     sync.Mutex
	tracks []*Track
}

// ID is the stream's id at the member. It stays the same through every
// reconnect, and even when the member gets another peer id.
func (s *Stream) ID() string { return s.id }

// Tracks returns the live tracks of the stream, in the order of their
// m-lines when they were added.
func (s *Stream) Tracks() []*Track {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.tracks)
}

// AudioTracks returns the live audio tracks.
func (s *Stream) AudioTracks() []*Track { return s.ofKind(webrtc.RTPCodecTypeAudio) }

// VideoTracks returns the live video tracks.
func (s *Stream) VideoTracks() []*Track { return s.ofKind(webrtc.RTPCodecTypeVideo) }

func (s *Stream) ofKind(kind webrtc.RTPCodecType) []*Track {
	return slices.DeleteFunc(s.Tracks(), func(t *Track) bool { return t.Kind() != kind })
}

// Metadata is the label of the first track that has one, nil if none has.
// It is read fresh on every call.
func (s *Stream) Metadata() json.RawMessage {
	for _, t := range s.Tracks() {
		if m := t.Metadata(); m != nil {
			return m
		}
	}
	return nil
}

func (s *Stream) add(t *Track) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tracks = append(s.tracks, t)
}

// remove takes t out and reports whether no track is left.
func (s *Stream) remove(t *Track) (empty bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tracks = slices.DeleteFunc(s.tracks, func(other *Track) bool { return other == t })
	return len(s.tracks) == 0
}
