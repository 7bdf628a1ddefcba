package sink

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// outage is a time, on the recording's clock, in which nothing could come.
type outage struct {
	reason      Reason
	from, until time.Duration
}

// keptOutages is for how many outages back a gap may turn out to belong to one.
const keptOutages = 64

// outage reports whether a reason is that of an outage.
func (r Reason) outage() bool { return r == ReasonReconnect || r == ReasonRestart }

// Connected says that the stream's connection is up. From then on its sender is silent while nothing
// comes; of a stream whose connection never was, all is missing.
func (s *Stream) Connected() {
	s.rec.mu.Lock()
	defer s.rec.mu.Unlock()
	s.met = true
}

// outageNotice is how long a connection may be down and count as up: that takes an ICE agent a while.
const outageNotice = 6 * time.Second

// Outage says that nothing comes any more since the last packet did, and why: ReasonReconnect or
// ReasonRestart. For each track the next media ends it. What turns out to be missing from the time
// up to Resume is missing for that reason. A sender that was silent is so until shortly before the
// connection was up for the last time, if that is known.
func (s *Stream) Outage(reason Reason, up time.Time) {
	s.rec.mu.Lock()
	defer s.rec.mu.Unlock()
	if s.closed || s.out {
		return
	}
	s.out = true
	for _, t := range s.tracks {
		t.do((*Track).receive, s.rec.now())
		if t.outage != ReasonMute { // it is not wanted
			t.out(reason)
		}
	}
	lost := s.heard()
	switch {
	case lost > 0:
		if !up.IsZero() {
			lost = max(lost, up.Sub(s.rec.start)-outageNotice)
		}
	case s.begun || s.met:
		lost = s.rec.now()
	default:
		s.begun, s.awaits = true, true
		s.origin, lost = s.opened, s.opened
	}
	lost = max(lost, s.rec.stoodUntil)
	s.noteOutage(outage{reason, lost, math.MaxInt64})
	s.manifest.Reconnects = append(s.manifest.Reconnects, &ManifestReconnect{Reason: reason, Lost: s.rec.instant(lost)})
	s.rec.changed()
}

// Resume says that the stream came back, as the named peer.
func (s *Stream) Resume(peerID string) {
	s.rec.mu.Lock()
	defer s.rec.mu.Unlock()
	if s.closed {
		return
	}
	s.info.PeerID = peerID
	s.rec.sends(peerID)
	if !s.out {
		return
	}
	s.out = false
	now := s.rec.now()
	s.await(now)
	s.awaits, s.met = false, true
	for i := range s.outages {
		s.outages[i].until = min(s.outages[i].until, now)
	}
	at, last := s.rec.instant(now), s.manifest.Reconnects[len(s.manifest.Reconnects)-1]
	last.Resumed, last.PeerID = &at, peerID
	s.rec.changed()
}

func (s *Stream) noteOutage(o outage) {
	if len(s.outages) == keptOutages {
		s.outages = append(s.outages[:0], s.outages[1:]...)
	}
	s.outages = append(s.outages, o)
	slices.SortStableFunc(s.outages, func(a, b outage) int { return cmp.Compare(a.from, b.from) })
}

// awaitInterval is how often what is missing is accounted for while nothing can come.
const awaitInterval = time.Second

// await accounts for media that is missing because the connection was never up, until something comes
// or the member leaves.
func (s *Stream) await(now time.Duration) {
	if !s.awaits || s.heard() > 0 {
		s.awaits = false
		return
	}
	if left := s.rec.manifest.left(s.manifest); left != nil {
		now = min(now, time.Duration(left.MonotonicMS)*time.Millisecond)
	}
	for _, t := range s.tracks {
		t.await(now)
	}
}

// await accounts for media that is missing up to now, of a track of which nothing ever came.
func (t *Track) await(now time.Duration) {
	if t.outage == ReasonMute {
		return
	}
	t.ledger.begin(0)
	t.gap(ReasonReconnect, t.ledger.end, now-t.stream.origin, 0, "")
	t.writer.resume(t.ledger.end, nil, nil) // what comes begins there
}

// blame is the reason of a gap on the stream's clock that packets lost on the way seem to explain:
// if it overlaps an outage that is it, though some of what was sent then came through.
func (s *Stream) blame(start, end time.Duration) Reason {
	for _, o := range s.outages {
		if s.origin+end > o.from && s.origin+start < o.until {
			return o.reason
		}
	}
	return ReasonLoss
}

// gapBlur is how short a silence beside an outage is taken for a part of it.
const gapBlur = 2 * time.Second

// missed notes a stretch without media, for which there is a reason. Where outages have a part in it,
// what lies in one is missing for its reason, and the rest for another.
func (t *Track) missed(r, rest Reason, start, end time.Duration, lost int, fill string) {
	for _, o := range t.stream.outages {
		from, until := max(o.from-t.stream.origin, start), min(o.until-t.stream.origin, end)
		if until <= from {
			continue
		}
		if from-start < gapBlur {
			from = start
		}
		if end-until < gapBlur {
			until = end
		}
		t.gap(rest, start, from, 0, fill)
		t.gap(o.reason, from, until, lost, fill)
		start, lost, r = until, 0, rest
	}
	t.gap(r, start, end, lost, fill)
}

// standstill is how long the pump may be late before the process counts as having been stopped, as with its container.
const standstill = 5 * time.Second

// stood notes that the recorder did nothing for a time. What was sent then and is not there it did not receive.
func (rec *Recording) stood(from, until time.Duration) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.stoodUntil = until
	for _, s := range rec.streams {
		s.noteOutage(outage{ReasonRestart, from, until})
	}
}
