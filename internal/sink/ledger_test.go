package sink

import (
	"testing"
	"time"
)

func TestGapsCloseTogetherAreListedAsOne(t *testing.T) {
	const ms = time.Millisecond
	type gap struct {
		reason     Reason
		start, end time.Duration
		lost       int
		OpusFill   string
	}
	tests := []struct {
		name string
		gaps []gap
		want []ManifestGap
	}{
		{"far apart", []gap{{ReasonLoss, 0, 20 * ms, 1, FillConcealment}, {ReasonLoss, 100 * ms, 120 * ms, 1, FillFEC}},
			[]ManifestGap{{ReasonLoss, 0, Seconds(20 * ms), 1, FillConcealment}, {ReasonLoss, Seconds(100 * ms), Seconds(20 * ms), 1, FillFEC}}},
		{"near", []gap{{ReasonLoss, 0, 20 * ms, 1, FillFEC}, {ReasonLoss, 80 * ms, 120 * ms, 2, FillFEC}},
			[]ManifestGap{{ReasonLoss, 0, Seconds(120 * ms), 3, FillFEC}}},
		{"FEC and none", []gap{{ReasonLoss, 0, 20 * ms, 1, FillFEC}, {ReasonLoss, 40 * ms, 60 * ms, 1, FillConcealment}},
			[]ManifestGap{{ReasonLoss, 0, Seconds(60 * ms), 2, FillConcealment}}},
		{"one is long", []gap{{ReasonLoss, 0, 20 * ms, 1, FillFEC}, {ReasonLoss, 40 * ms, 400 * ms, 18, FillSilence}},
			[]ManifestGap{{ReasonLoss, 0, Seconds(400 * ms), 19, FillSilence}}},
		{"another reason", []gap{{ReasonLoss, 0, 20 * ms, 1, FillConcealment}, {ReasonMute, 20 * ms, 900 * ms, 0, FillConcealment}},
			[]ManifestGap{{ReasonLoss, 0, Seconds(20 * ms), 1, FillConcealment}, {ReasonMute, Seconds(20 * ms), Seconds(880 * ms), 0, FillConcealment}}},
		{"empty", []gap{{ReasonLoss, 20 * ms, 20 * ms, 0, ""}}, nil},
	}
	for _, tt := range tests {
		var l ledger
		for _, g := range tt.gaps {
			l.gap(g.reason, g.start, g.end, g.lost, g.OpusFill)
		}
		var got []ManifestGap
		for _, g := range l.gaps {
			got = append(got, *g)
		}
		if len(got) != len(tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
			continue
		}
		for i := range got {
			if got[i] != tt.want[i] {
				t.Errorf("%s: %+v, want %+v", tt.name, got[i], tt.want[i])
			}
		}
	}
}

// Gaps beyond those listed are counted, and no listed one grows over media for them; so it stays
// when the ledger is read back.
func TestGapsBeyondTheLimitAreCounted(t *testing.T) {
	const ms, beyond = time.Millisecond, 100
	var l ledger
	pause := func(at time.Duration) {
		l.gap(ReasonMute, at, at+100*ms, 0, "")
		l.media(at+100*ms, at+time.Second)
	}
	for i := range gapLimit + beyond {
		pause(time.Duration(i) * time.Second)
	}
	m := &ManifestTrack{Start: new(TrackStart)}
	l.enter(m)
	l = restoreLedger(m)
	pause((gapLimit + beyond) * time.Second)
	l.enter(m)
	if last := m.Gaps[len(m.Gaps)-1]; len(m.Gaps) != gapLimit || last.Duration.Duration() != 100*ms || m.GapsOmitted != beyond+1 {
		t.Errorf("%d gaps, the last %v long, %d omitted", len(m.Gaps), last.Duration.Duration(), m.GapsOmitted)
	}
	if n := gapLimit + beyond + 1; m.Missing[ReasonMute].Duration() != time.Duration(n)*100*ms || m.Expected.Duration() != time.Duration(n)*900*ms {
		t.Errorf("missing %v, expected %v", m.Missing[ReasonMute].Duration(), m.Expected.Duration())
	}
}

// What a crash or an error takes is counted once, though gaps lie in it and there are more of them
// than are listed.
func TestLossesOverGapsBeyondTheLimitCountOnce(t *testing.T) {
	const ms = time.Millisecond
	var l ledger
	for i := range gapLimit + 100 {
		at := time.Duration(i) * time.Second
		l.gap(ReasonLoss, at, at+100*ms, 5, "")
		l.media(at+100*ms, at+time.Second)
	}
	l.lose(ReasonRestart, (gapLimit+50)*time.Second, l.end)
	m := new(ManifestTrack)
	l.enter(m)
	if n := m.Missing[ReasonRestart].Duration(); n != 50*900*ms {
		t.Errorf("%v missing for the loss, want the %v that were no gaps", n, 50*900*ms)
	}
	if want := (gapLimit + 50) * 900 * ms; m.Recorded.Duration() != want {
		t.Errorf("%v recorded, want %v", m.Recorded.Duration(), want)
	}
	if listed := int64(len(m.Gaps)); listed != gapLimit || listed+m.GapsOmitted != gapLimit+150 {
		t.Errorf("%d gaps listed and %d not", listed, m.GapsOmitted)
	}
}
