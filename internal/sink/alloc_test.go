//go:build !race

// The race detector makes sync.Pool forget at random.

package sink

import "testing"

// In steady state a packet costs no allocation, on its way from WriteRTP to the file's buffer.
func TestPacketsCostNoAllocation(t *testing.T) {
	for _, m := range append(videoMedia(t), opusMedia(), voiceMedia(t)) {
		for _, w := range conditions {
			t.Run(m.name+"/"+w.name, func(t *testing.T) {
				p := newPlayer(t, m, w.loss, w.JitterBuffer)
				for range 5000 {
					p.step()
				}
				// Gaps are listed in the manifest, and that list grows, in large steps.
				limit := 0.0
				if w.loss > 0 {
					limit = 0.01
				}
				if n := testing.AllocsPerRun(20, func() {
					for range 500 {
						p.step()
					}
				}) / 500; n > limit {
					t.Errorf("%v allocations a packet", n)
				}
			})
		}
	}
}
