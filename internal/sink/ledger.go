package sink

import (
	"cmp"
	"slices"
	"time"
)

// ledger accounts for one track on its stream's clock: from when to when media was due, and every
// stretch of that for which there is none as it was sent.
type ledger struct {
	begun  bool
	start  time.Duration
	end    time.Duration // behind the last media, or the last gap
	totals [len(reasonList)]time.Duration
	waited time.Duration // before start: what was offered and could not be recorded; totals have it too
	gaps   []*ManifestGap
	room   []ManifestGap // for the next gaps

	omitted int64 // gaps that are only in totals
}

// reasonList orders the totals.
var reasonList = [...]Reason{ReasonLoss, ReasonMute, ReasonReconnect, ReasonKeyFrameWait, ReasonDisk, ReasonRestart, ReasonFault, ReasonCapacity}

func reasonIndex(r Reason) int {
	for i, have := range reasonList {
		if have == r {
			return i
		}
	}
	return 0
}

const (
	// gapMerge is how close two gaps of one reason may be and stand in the manifest as one: silence
	// suppression interrupts itself for a packet of comfort noise, a burst of loss lets some through.
	gapMerge = 60 * time.Millisecond
	// gapLimit bounds the gaps listed for a track: the first half of them and the latest, which what
	// is lost later may overlap. Those between are only counted.
	gapLimit = 20_000
	// gapRoom is how many gaps are made room for at once, at most, so that on a bad path losses cost next to
	// no allocations.
	gapRoom = 32
)

// media accounts for media from start to end.
func (l *ledger) media(start, end time.Duration) {
	l.begin(start)
	l.end = max(l.end, end)
}

// begin says that media was due from start on, if nothing was before.
func (l *ledger) begin(start time.Duration) {
	if !l.begun {
		l.begun, l.start, l.end = true, start, start
	}
}

// gap accounts for a stretch without media, lost being the packets known to be missing in it.
func (l *ledger) gap(r Reason, start, end time.Duration, lost int, fill string) {
	if end <= start {
		return
	}
	l.begin(start)
	l.end = max(l.end, end)
	i := reasonIndex(r)
	if n := len(l.gaps); n > 0 {
		last := l.gaps[n-1]
		lastStart, lastEnd := last.Start.Duration(), (last.Start + last.Duration).Duration()
		if last.Reason == r && start-lastEnd <= gapMerge && lastStart-end <= gapMerge {
			last.Fill = mixedFill(last.Fill, fill)
			last.Packets += int64(lost)
			l.totals[i] += end - start
			last.Start = Seconds(min(lastStart, start))
			last.Duration = Seconds(max(lastEnd, end)) - last.Start
			return
		}
	}
	l.totals[i] += end - start
	if len(l.gaps) >= gapLimit {
		l.omitted++
		l.gaps = slices.Delete(l.gaps, gapLimit/2, gapLimit/2+1)
	}
	if len(l.room) == 0 {
		l.room = make([]ManifestGap, min(len(l.gaps)+1, gapRoom))
	}
	g := &l.room[0]
	l.room = l.room[1:]
	*g = ManifestGap{Reason: r, Start: Seconds(start), Duration: Seconds(end - start), Packets: int64(lost), Fill: fill}
	l.gaps = append(l.gaps, g)
}

// mixedFill is what a gap of two is filled with: the least like what was sent.
func mixedFill(a, b string) string {
	switch {
	case a == b:
		return a
	case a == FillSilence || b == FillSilence:
		return FillSilence
	}
	return FillConcealment
}

// restoreLedger is the ledger of a track as its manifest has it.
func restoreLedger(t *ManifestTrack) ledger {
	l := ledger{gaps: t.Gaps, omitted: t.GapsOmitted, waited: t.Waited.Duration()}
	for r, d := range t.Missing {
		l.totals[reasonIndex(r)] = d.Duration()
	}
	if t.Start != nil {
		l.begin(t.Start.Position.Duration())
	}
	for _, g := range t.Gaps { // what was missing before the first packet
		l.begin(g.Start.Duration())
		l.start = min(l.start, g.Start.Duration())
	}
	l.end = max(l.end, t.End.Duration())
	return l
}

// enter brings the manifest of the ledger's track up to date. Missing is made anew each time, as
// one may be being written.
func (l *ledger) enter(t *ManifestTrack) {
	t.Expected, t.Recorded = l.seconds()
	t.Completeness = Completeness(t.Recorded, t.Expected)
	t.Waited = Seconds(l.waited)
	t.End, t.Gaps, t.GapsOmitted, t.Missing = Seconds(l.end), l.gaps, l.omitted, make(map[Reason]Seconds)
	for i, d := range l.totals {
		if d > 0 {
			t.Missing[reasonList[i]] = Seconds(d)
		}
	}
}

// wait accounts for media that could not be recorded before the stream began.
func (l *ledger) wait(r Reason, d time.Duration) {
	l.waited += d
	l.totals[reasonIndex(r)] += d
}

// lose makes a gap of all that is accounted for from start to end and in no gap yet.
func (l *ledger) lose(r Reason, start, end time.Duration) {
	var later []*ManifestGap
	for _, g := range l.gaps {
		if g.Start+g.Duration > Seconds(start) && g.Start < Seconds(end) {
			later = append(later, g)
		}
	}
	slices.SortFunc(later, func(a, b *ManifestGap) int { return cmp.Compare(a.Start, b.Start) })
	for _, g := range later {
		l.gap(r, start, g.Start.Duration(), 0, "")
		start = max(start, (g.Start + g.Duration).Duration())
	}
	l.gap(r, start, end, 0, "")
}

// seconds is what should be there, and what is. Silence the sender chose is in neither.
func (l *ledger) seconds() (expected, recorded Seconds) {
	span := l.waited + l.end - l.start
	var missing time.Duration
	for i, total := range l.totals {
		if reasonList[i] == ReasonMute {
			span -= total
		} else {
			missing += total
		}
	}
	return Seconds(max(span, 0)), Seconds(max(span-missing, 0))
}
