package remote

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestBitrateIsThatOfNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r reception
		send := func(d time.Duration, size int) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
				r.packet(make([]byte, size), time.Now(), 0, false)
			}
		}
		expect := func(what string, want float64) {
			t.Helper()
			if got := r.stats().Bitrate; got < want*0.98 || got > want*1.02 {
				t.Errorf("%s: %v bytes per second, want %v", what, got, want)
			}
		}
		send(500*time.Millisecond, 100)
		expect("before a second has passed", 0)
		send(2*time.Second, 100)
		expect("steady", 5000)
		send(3*time.Second, 400)
		expect("four times as much", 20000)
		time.Sleep(2 * time.Second)
		expect("silence", 0)
	})
}

func TestRequestsAreCounted(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, _ *publisher, _ func(string) []*sinkhole) {
		track := w.peer.Streams()[0].VideoTracks()[0]
		if err := track.NACK([]uint16{1, 2, 7}); err != nil {
			t.Fatal(err)
		}
		for _, fir := range []bool{false, true, false} {
			if err := track.RequestKeyFrame(fir); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range w.peer.Stats().Tracks {
			if s.ID == track.ID() && (s.NACKs != 3 || s.PLIs != 2 || s.FIRs != 1) {
				t.Errorf("got %+v", s)
			}
		}
	})
}
