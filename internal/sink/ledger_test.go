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
		fill       string
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
			l.gap(g.reason, g.start, g.end, g.lost, g.fill)
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
