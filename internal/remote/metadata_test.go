package remote

import (
	"encoding/json"
	"fmt"
	"testing"
)

func (s *metadataStore) put(id, data string) {
	m := trackMeta{trackID: id}
	if data != "" {
		m.metadata = json.RawMessage(data)
	}
	s.set(m)
}

func TestMetadataIsMatchedByIDThenStreamThenOrder(t *testing.T) {
	type track struct {
		id, stream string
		audio      bool
		want       string
	}
	for name, c := range map[string]struct {
		put    [][2]string
		tracks []track
	}{
		"by id":   {[][2]string{{"v", `{"n":1}`}, {"a", `{"n":2}`}}, []track{{"a", "s", true, `{"n":2}`}, {"v", "s", false, `{"n":1}`}}},
		"none":    {nil, []track{{"a", "s", true, ""}}},
		"cleared": {[][2]string{{"a", `{"n":1}`}, {"a", ""}}, []track{{"a", "s", true, ""}}},
		"order":   {[][2]string{{"x", `{"n":1}`}, {"y", `{"n":2}`}}, []track{{"a", "s", true, `{"n":1}`}, {"v", "t", false, `{"n":2}`}}},
		"stream":  {[][2]string{{"a", `{"n":1}`}}, []track{{"a", "s", true, `{"n":1}`}, {"v", "s", false, `{"n":1}`}, {"w", "t", false, ""}}},
		"kind within a stream": {[][2]string{{"a", `{"n":1}`}, {"v", `{"n":2}`}}, []track{
			{"a", "s", true, `{"n":1}`}, {"v", "s", false, `{"n":2}`}, {"again-v", "s", false, `{"n":2}`}, {"again-a", "s", true, `{"n":1}`},
		}},
		"an entry with the id of a later track is not free": {[][2]string{{"v", `{"n":1}`}}, []track{{"a", "", true, ""}, {"v", "", false, `{"n":1}`}}},
	} {
		t.Run(name, func(t *testing.T) {
			var s metadataStore
			for _, p := range c.put {
				s.put(p[0], p[1])
			}
			var names []trackName
			for _, tr := range c.tracks {
				names = append(names, trackName{tr.id, tr.stream, tr.audio})
			}
			s.describe(names, names)
			for range 2 { // what was found stays found
				for i, tr := range c.tracks {
					if got := string(s.lookup(names[i])); got != tr.want {
						t.Errorf("%s: %q, want %q", tr.id, got, tr.want)
					}
				}
			}
		})
	}
}

func TestMetadataIsBoundedOldestOutFirst(t *testing.T) {
	var s metadataStore
	for i := range maxMetadataEntries + 1 {
		s.put(fmt.Sprint(i), `{}`)
	}
	if len(s.entries) != maxMetadataEntries || s.entries[0].trackID != "1" {
		t.Errorf("%d entries from %q", len(s.entries), s.entries[0].trackID)
	}
	big := fmt.Sprintf(`{"x":"%0*d"}`, maxMetadata-10, 0)
	for i := range 200 {
		s.put(fmt.Sprint("big", i), big)
	}
	total := 0
	for _, e := range s.entries {
		total += len(e.data)
	}
	if total > maxMetadataTotal || total != s.size {
		t.Errorf("%d bytes are kept, %d are counted", total, s.size)
	}
	s.put("big199", "")
	if s.size != total-len(big) {
		t.Errorf("%d bytes are counted after one entry was cleared", s.size)
	}
}
