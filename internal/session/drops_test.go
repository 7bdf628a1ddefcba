package session

import (
	"slices"
	"testing"
	"time"

	"recorder/internal/lab/devserver"
)

// The service tells the members at once that the bot's socket has dropped. All of them connect anew
// when it is back.
func TestADropOfOurSocketCostsNextToNothing(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		const drops = 20
		alice := r.joinFrom(r.host(), r.token(aliceID), camera("camera")[:1]...) // sound
		r.startWith(aWindow)
		time.Sleep(settling)
		for range drops {
			time.Sleep(31 * time.Second)
			r.server.Drop(r.bot(), devserver.Drop{})
		}
		time.Sleep(settling)
		alice.Leave()
		var gaps []time.Duration
		for _, track := range r.finish().Streams[0].Tracks {
			if track.Kind == "audio" {
				for _, gap := range track.Gaps {
					gaps = append(gaps, gap.Duration.Duration())
				}
			}
		}
		slices.Sort(gaps)
		if n := len(gaps); n < drops/2 || gaps[n*95/100] > 300*time.Millisecond {
			t.Errorf("%d gaps: %v", n, gaps)
		}
	})
}
