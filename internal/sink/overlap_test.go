package sink

import (
	"testing"
	"time"
)

// A sender that was held up sends on late, and makes up for it all at once. What comes then belongs to
// a time that later audio has in the file. It is not written, and that is said.
func TestAudioWhoseTimeIsTakenIsMissing(t *testing.T) {
	const late = 700 * ms
	for name, tt := range map[string]struct {
		lag  time.Duration // how long it sends late
		lost bool
	}{
		"a moment": {500 * ms, false}, // waited for: nothing is out of place
		"for long": {5 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			const before, after = 4 * time.Second, 4 * time.Second
			r := inCall(t, Options{}, func(c *call) {
				a := c.audio()
				send := func(d time.Duration) {
					for range d / (20 * ms) {
						a.put(tone(a.seq))
						a.rtp += 960
						c.wait(20 * ms)
					}
				}
				send(before)
				c.wait(late)
				send(tt.lag)
				for range late / (20 * ms) {
					a.put(tone(a.seq))
					a.rtp += 960
				}
				send(after)
				a.Close()
				c.wait(3 * time.Second)
			})
			track := r.manifest.Streams[0].Tracks[0]
			sent := (before + tt.lag + late + after).Seconds()
			missing := track.Missing[ReasonLoss].Duration().Seconds()
			recorded := track.Recorded.Duration().Seconds()
			t.Logf("sent %.2f s, recorded %.2f s, missing %v, %d dropped", sent, recorded, track.Missing, track.Ledger.FramesDropped)
			if tt.lost != (track.Ledger.FramesDropped > 5) {
				t.Fatalf("%d packets were dropped", track.Ledger.FramesDropped)
			}
			if dropped := float64(track.Ledger.FramesDropped) * 0.02; missing < dropped-0.03 || missing > dropped+0.05 {
				t.Errorf("%.2f s are missing, %.2f s were dropped", missing, dropped)
			}
			if written := float64(track.Ledger.FramesWritten) * 0.02; recorded > written+0.1 {
				t.Errorf("%.2f s recorded, %.2f s were written", recorded, written)
			}
			if tt.lost && track.Completeness > 0.98 {
				t.Errorf("completeness %v", track.Completeness)
			}
		})
	}
}
