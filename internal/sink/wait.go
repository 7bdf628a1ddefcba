package sink

import "time"

// Wait says that the stream is offered and cannot be recorded, and why: ReasonCapacity or ReasonDisk.
// What is sent from since until Admit is missing for that reason, though no file lasts as long. It is
// called before the stream has tracks. A stream that is never admitted says so when it ends.
func (s *Stream) Wait(reason Reason, since time.Time) {
	s.rec.mu.Lock()
	defer s.rec.mu.Unlock()
	if s.closed || s.begun || s.refused != "" {
		return
	}
	from := max(0, since.Sub(s.rec.start)) // what was before the recording is none of its business
	s.refused, s.waited = reason, s.rec.now()
	s.manifest.Waited = &ManifestWait{Reason: reason, From: s.rec.instant(from)}
	s.rec.changed()
}

// Admit says that the stream is recorded from now on.
func (s *Stream) Admit() {
	s.rec.mu.Lock()
	defer s.rec.mu.Unlock()
	if s.closed || s.refused == "" {
		return
	}
	now := s.rec.now()
	s.refuse(now)
	s.refused = ""
	until := s.rec.instant(now)
	s.manifest.Waited.Until, s.manifest.Started = &until, until
	s.rec.changed()
}

// refuse accounts for what was offered up to now to a stream that waits. mu is held.
func (s *Stream) refuse(now time.Duration) {
	if s.refused == "" {
		return
	}
	if left := s.rec.manifest.left(s.manifest); left != nil {
		now = min(now, time.Duration(left.MonotonicMS)*time.Millisecond)
	}
	for _, t := range s.tracks {
		if now > t.refused {
			t.ledger.wait(s.refused, now-t.refused)
			t.refused = now
		}
	}
}

// offered says since when the track is offered. mu is held.
func (t *Track) offered(since time.Time) {
	rec := t.stream.rec
	t.refused = max(0, since.Sub(rec.start))
	if w := t.stream.manifest.Waited; w != nil && w.Until != nil {
		t.ledger.wait(w.Reason, max(0, rec.manifest.position(*w.Until)-t.refused))
	}
}
