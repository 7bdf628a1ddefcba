package remote

import (
	"cmp"
	"encoding/json"
	"slices"
	"sync"
	"time"
)

const (
	maxMetadataEntries = 512
	maxMetadataTotal   = 1 << 20 // bytes of all entries of one peer
)

// offerDelay is how long after its metadata a track is offered, at most. What
// no description has named by then belongs to a track that is there.
const offerDelay = time.Second

// metadataStore keeps what the member said about its tracks. It outlives
// connections. Entries are keyed by the member's own track id, which the
// description's msid usually repeats, but not always: a stream that is added
// again gets new ids in the description, and a replaced track keeps its old
// one there while its metadata moves to the new. So a track has
//
//  1. the entry with its own id,
//  2. the entry it owns, or that of a track of its kind that was in the same
//     stream,
//  3. any entry of the same stream.
//
// The owner of an entry is the track that a description names like it. Of the
// others, the oldest goes to the first new track of a description that has
// none, which is order of arrival; and one that came after another was
// cleared, and is not offered, to the track that lost that.
type metadataStore struct {
	mu      sync.Mutex
	entries []*metadataEntry // oldest first
	size    int              // bytes of all entries
	cleared trackName        // owner of the entry that was cleared last
}

type metadataEntry struct {
	trackID  string
	data     json.RawMessage // nil once cleared; the entry still knows its stream
	owner    trackName
	replaces trackName // the track that had lost its entry when this one came
}

// trackName is what a description says of a track.
type trackName struct {
	id     string
	stream string // the first, "" if it has none
	audio  bool
}

// set stores or clears the metadata of a track. It reports how many entries
// had to go for it, and whether it may be that of a track that was replaced.
func (s *metadataStore) set(m trackMeta) (evicted int, replaces bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.find(func(e *metadataEntry) bool { return e.trackID == m.trackID })
	if e == nil {
		if m.metadata == nil {
			return 0, false
		}
		e = &metadataEntry{trackID: m.trackID, replaces: s.cleared}
		s.entries = append(s.entries, e)
	}
	if m.metadata == nil {
		s.cleared = cmp.Or(e.owner, e.replaces)
	}
	s.size += len(m.metadata) - len(e.data)
	e.data = m.metadata
	for len(s.entries) > maxMetadataEntries || s.size > maxMetadataTotal {
		s.size -= len(s.entries[0].data)
		s.entries = s.entries[1:]
		evicted++
	}
	return evicted, e.owner == trackName{} && e.replaces != trackName{}
}

// describe takes what a description says: all tracks, and those of them that
// it brings.
func (s *metadataStore) describe(tracks, added []trackName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range tracks {
		if e := s.find(func(e *metadataEntry) bool { return e.trackID == t.id }); e != nil {
			e.owner = t
		}
	}
	bare := slices.DeleteFunc(slices.Clone(added), func(t trackName) bool { return s.match(t) != nil })
	for _, t := range bare {
		if e := s.find(func(e *metadataEntry) bool { return e.data != nil && e.owner == trackName{} }); e != nil {
			e.owner = t
		}
	}
}

// replaced gives an entry that is still free to the track that lost its own,
// unless that has one again.
func (s *metadataStore) replaced(trackID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.find(func(e *metadataEntry) bool { return e.trackID == trackID })
	if e != nil && e.owner == (trackName{}) && s.find(func(other *metadataEntry) bool { return other.data != nil && other.owner.id == e.replaces.id }) == nil {
		e.owner = e.replaces
	}
}

// lookup returns the metadata of a track, nil if there is none.
func (s *metadataStore) lookup(t trackName) json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.match(t); e != nil {
		return slices.Clone(e.data)
	}
	return nil
}

func (s *metadataStore) match(t trackName) *metadataEntry {
	mates := func(e *metadataEntry) bool { return t.stream != "" && e.owner.stream == t.stream }
	for _, matches := range []func(*metadataEntry) bool{
		func(e *metadataEntry) bool { return e.trackID == t.id },
		func(e *metadataEntry) bool { return e.owner.id == t.id },
		func(e *metadataEntry) bool { return mates(e) && e.owner.audio == t.audio },
		mates,
	} {
		if e := s.find(func(e *metadataEntry) bool { return e.data != nil && matches(e) }); e != nil {
			return e
		}
	}
	return nil
}

func (s *metadataStore) find(matches func(*metadataEntry) bool) *metadataEntry {
	if i := slices.IndexFunc(s.entries, matches); i >= 0 {
		return s.entries[i]
	}
	return nil
}
