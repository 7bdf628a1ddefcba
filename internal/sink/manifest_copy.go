package sink

import "slices"

// copy is m as it is now. It shares nothing that changes, so it may be encoded, which takes long
// after many gaps, while the recording goes on.
func (m *Manifest) copy() *Manifest {
	c := *m
	c.Peers, c.Streams = copied(m.Peers), copied(m.Streams)
	for _, s := range c.Streams {
		s.Tracks, s.Reconnects = copied(s.Tracks), copied(s.Reconnects)
		if s.Waited != nil {
			waited := *s.Waited
			s.Waited = &waited
		}
		for _, t := range s.Tracks {
			t.Parts, t.Gaps, t.Resolutions = copied(t.Parts), copied(t.Gaps), slices.Clone(t.Resolutions)
			if t.Start != nil {
				start := *t.Start
				t.Start = &start
			}
		}
	}
	return &c
}

// copied is a list with copies of what it points to, all in one piece.
func copied[T any](list []*T) []*T {
	values, pointers := make([]T, len(list)), make([]*T, len(list))
	for i, v := range list {
		values[i], pointers[i] = *v, &values[i]
	}
	return pointers
}
