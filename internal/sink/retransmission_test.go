package sink

import (
	"testing"
	"time"
)

// Over a path that takes 50 ms there and back and loses one packet in twenty, requests are as many as the losses, those of
// packets that are sent again included: the twentieth of a twentieth, and so on, are 1.053.
func TestALostPacketIsAskedForOnce(t *testing.T) {
	for _, w := range []weather{
		{name: "loss", loss: 0.05, answered: true, back: linkDelay},
		{name: "bursts", loss: 0.05, burst: 4, answered: true, back: linkDelay},
		{name: "loss, reorder, duplicates", loss: 0.05, reorder: 30 * ms, duplicate: 0.05, answered: true, back: linkDelay},
	} {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			m := videoMedia(t)[0]
			var l *link
			r := record(t, m, Options{}, func(_ *Stream, track *Track) {
				l = newLink(w, 3)
				l.to = newSource(track, SourceInfo{Feedback: l}, map[uint8]Format{96: m.format})
				go l.run()
				m.play(l, 60)
				time.Sleep(3 * time.Second)
				l.to.Close()
				close(l.stop)
			})
			ratio := float64(l.asked) / float64(l.lost)
			t.Logf("%d packets asked for, %d lost: %.3f", l.asked, l.lost, ratio)
			if r.track.Ledger.Lost > 0 {
				t.Errorf("%d packets lost for good", r.track.Ledger.Lost)
			}
			if ratio > 1.1 {
				t.Errorf("%.3f requests for each lost packet", ratio)
			}
		})
	}
}
