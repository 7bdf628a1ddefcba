package remote

import (
	"encoding/json"
	"slices"
	"sync"
)

const (
	maxMetadataEntries = 512
	maxMetadataTotal   = 1 << 20 // bytes of all entries of one peer
)

// metadataStore keeps what the member said about its tracks. It outlives
// connections. Entries are keyed by the member's own track id, which the
// description's msid usually repeats, but not always: a stream that is added
// again gets new ids in the description, and a replaced track keeps its old
// one there while its metadata moves to the new. So a track looks for
//
//  1. the entry with its own id,
//  2. the entry it was bound to before, or that of a track of its kind that
//     was in the same stream,
//  3. the oldest entry no track has claimed, which is order of arrival,
//  4. any entry of the same stream.
type metadataStore struct {
	mu      sync.Mutex
	entries []*metadataEntry // oldest first
	size    int              // bytes of all entries
}

type metadataEntry struct {
	trackID string
	data    json.RawMessage // nil once cleared; the entry still knows its stream
	owner   string          // id of the track that claimed it
	stream  string          // first stream of that track
	audio   bool            // kind of that track
}

// set stores or clears the metadata of a track, and reports how many entries
// had to go for it.
func (s *metadataStore) set(m trackMeta) (evicted int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.find(func(e *metadataEntry) bool { return e.trackID == m.trackID })
	if e == nil {
		if m.metadata == nil {
			return 0
		}
		e = &metadataEntry{trackID: m.trackID}
		s.entries = append(s.entries, e)
	}
	s.size += len(m.metadata) - len(e.data)
	e.data = m.metadata
	for len(s.entries) > maxMetadataEntries || s.size > maxMetadataTotal {
		s.size -= len(s.entries[0].data)
		s.entries = s.entries[1:]
		evicted++
	}
	return evicted
}

// claim binds a track to the entry with its id, so that no other track takes
// it for unclaimed. It is called for all tracks of a description before the
// first lookup.
func (s *metadataStore) claim(trackID string, streams []string, audio bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.find(func(e *metadataEntry) bool { return e.trackID == trackID }); e != nil {
		e.bind(trackID, streams, audio)
	}
}

// lookup returns the metadata of a track, nil if there is none, and
// remembers which entry it was.
func (s *metadataStore) lookup(trackID string, streams []string, audio bool) json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	stream := ""
	if len(streams) > 0 {
		stream = streams[0]
	}
	for _, matches := range []func(*metadataEntry) bool{
		func(e *metadataEntry) bool { return e.trackID == trackID },
		func(e *metadataEntry) bool { return e.owner == trackID && e.trackID != trackID },
		func(e *metadataEntry) bool { return stream != "" && e.stream == stream && e.audio == audio },
		func(e *metadataEntry) bool { return e.owner == "" },
		func(e *metadataEntry) bool { return stream != "" && e.stream == stream },
	} {
		e := s.find(func(e *metadataEntry) bool { return e.data != nil && matches(e) })
		if e == nil {
			continue
		}
		if e.owner == "" || e.trackID == trackID {
			e.bind(trackID, streams, audio)
		}
		return slices.Clone(e.data)
	}
	return nil
}

func (e *metadataEntry) bind(trackID string, streams []string, audio bool) {
	e.owner, e.audio = trackID, audio
	if len(streams) > 0 {
		e.stream = streams[0]
	}
}

func (s *metadataStore) find(matches func(*metadataEntry) bool) *metadataEntry {
	if i := slices.IndexFunc(s.entries, matches); i >= 0 {
		return s.entries[i]
	}
	return nil
}
