package sink

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// waiting is a stream of bob's that was offered a second ago.
func (c *call) waiting(reason Reason) *Stream {
	c.Helper()
	s, err := c.rec.NewStream(StreamInfo{PeerID: "bob", StreamID: "camera"})
	if err != nil {
		c.Fatal(err)
	}
	s.Wait(reason, time.Now().Add(-time.Second))
	return s
}

// What is offered to a stream that waits is missing, in the sums as well, and in no file.
func TestAStreamThatWaitsSaysWhatIsMissing(t *testing.T) {
	for name, tt := range map[string]struct {
		then     func(c *call, s *Stream)
		waited   time.Duration // of its sound
		recorded time.Duration
		reason   string
	}{
		"for ever":   {func(c *call, s *Stream) { c.wait(3 * time.Second) }, 4 * time.Second, 0, NoPlace},
		"and closes": {func(c *call, s *Stream) { c.wait(3 * time.Second); s.Close(NotBack); c.wait(time.Second) }, 4 * time.Second, 0, NoPlace},
		"and its member leaves": {func(c *call, s *Stream) {
			c.rec.PeerJoined("bob", nil)
			c.wait(3 * time.Second)
			c.rec.PeerLeft("bob")
			c.wait(time.Second)
		}, 4 * time.Second, 0, NoPlace},
		"and is admitted": {func(c *call, s *Stream) {
			c.wait(3 * time.Second)
			s.Admit()
			c.stream = s
			c.leg("bob's sound", audio).speak(100)
		}, 4 * time.Second, 2 * time.Second, Closed},
		"and nothing comes then": {func(c *call, s *Stream) { c.wait(3 * time.Second); s.Admit(); c.wait(time.Second) }, 4 * time.Second, 0, Closed},
		"and is admitted twice":  {func(c *call, s *Stream) { c.wait(3 * time.Second); s.Admit(); c.wait(time.Second); s.Admit() }, 4 * time.Second, 0, Closed},
	} {
		t.Run(name, func(t *testing.T) {
			r := inCall(t, Options{}, func(c *call) {
				c.wait(2 * time.Second)
				s := c.waiting(ReasonCapacity)
				if _, err := s.Track(TrackInfo{ID: "bob's sound", Kind: audio, Offered: time.Now().Add(-time.Second)}); err != nil {
					t.Fatal(err)
				}
				tt.then(c, s)
			})
			s := r.manifest.Streams[1]
			track := s.Tracks[0]
			if !near(track.Waited.Duration(), tt.waited, 50*ms) || track.Missing[ReasonCapacity] != track.Waited ||
				!near(track.Recorded.Duration(), tt.recorded, 50*ms) || !near((track.Expected-track.Recorded).Duration(), tt.waited, 50*ms) {
				t.Errorf("waited %v, recorded %v of %v, missing %v", track.Waited.Duration(), track.Recorded.Duration(), track.Expected.Duration(), track.Missing)
			}
			if s.EndReason != tt.reason || s.Waited == nil || (s.Waited.Until == nil) != (tt.reason == NoPlace) {
				t.Errorf("ended as %q, %+v", s.EndReason, s.Waited)
			}
			if len(track.Gaps) > 0 || tt.recorded > 0 && track.Parts[0].Duration.Duration() > tt.recorded+50*ms {
				t.Errorf("gaps %+v, parts %+v", track.Gaps, track.Parts)
			}
		})
	}
}

// What was before the recording is not missing from it, and a track that comes later waited for less.
func TestOnlyWhatIsOfferedDuringARecordingIsMissing(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		c.wait(2 * time.Second)
		s, _ := c.rec.NewStream(StreamInfo{PeerID: "bob", StreamID: "camera"})
		s.Wait(ReasonDisk, time.Now().Add(-time.Hour))
		for _, offered := range []time.Time{time.Now().Add(-time.Hour), time.Now(), {}} {
			trackOf(s, TrackInfo{ID: offered.String(), Kind: audio, Offered: offered})
		}
		c.wait(time.Second)
		s.Admit()
		trackOf(s, TrackInfo{ID: "late", Kind: video, Offered: time.Now().Add(-500 * ms)})
		c.wait(time.Second)
		trackOf(s, TrackInfo{ID: "later", Kind: video, Offered: time.Now()})
	})
	var waited []time.Duration
	for _, track := range r.manifest.Streams[1].Tracks {
		waited = append(waited, track.Waited.Duration().Round(100*ms))
	}
	for i, want := range []time.Duration{3 * time.Second, time.Second, time.Second, 500 * ms, 0} {
		if waited[i] != want {
			t.Errorf("track %d waited for %v, want %v", i, waited[i], want)
		}
	}
}

// A stop and a crash lose nothing of what is known of a wait, and what had no place does not go on without one.
func TestAWaitOutlastsTheRecorder(t *testing.T) {
	for name, stops := range map[string]bool{"stop": true, "crash": false} {
		t.Run(name, func(t *testing.T) {
			dir, crashed := t.TempDir(), t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				c := begin(t, dir)
				c.wait(2 * time.Second)
				s := c.waiting(ReasonCapacity)
				trackOf(s, TrackInfo{ID: "b", Kind: audio, Offered: time.Now()})
				admitted, _ := c.rec.NewStream(StreamInfo{PeerID: "carol", StreamID: "phone"})
				admitted.Wait(ReasonCapacity, time.Now())
				trackOf(admitted, TrackInfo{ID: "c", Kind: audio, Offered: time.Now()})
				time.Sleep(3 * time.Second)
				admitted.Admit()
				time.Sleep(saveIdle)
				if stops {
					c.suspend()
				} else {
					c.crash(crashed)
					c.end()
					dir = crashed
				}
				root, rec := restart(t, dir, slog.DiscardHandler)
				again := &call{T: t, root: root, rec: rec, pumped: true}
				if asleep := rec.Asleep("camera"); len(asleep) != 1 || asleep[0] != "alice" {
					t.Errorf("of %q the stream goes on", asleep)
				}
				back := make(chan *Stream, 1)
				if !rec.Reopen("carol", StreamInfo{PeerID: "carol", StreamID: "phone"}, func(s *Stream) { back <- s }) || <-back == nil {
					t.Error("the stream that has its place does not go on")
				}
				time.Sleep(time.Second)
				again.rec.Close(context.Background())
				root.Close()
			})
			r := readRecording(t, find(t, dir, 1)[0])
			for _, s := range r.manifest.Streams[1:] {
				want := 3 * time.Second
				if s.PeerID == "bob" { // who waited until the recorder ended
					want = s.Ended.UTC.Sub(s.Started.UTC)
				}
				if track := s.Tracks[0]; !near(track.Waited.Duration(), want, 10*ms) || want < 3*time.Second || (s.EndReason == NoPlace) != (s.PeerID == "bob") {
					t.Errorf("%s waited for %v, ended as %q", s.PeerID, track.Waited.Duration(), s.EndReason)
				}
			}
		})
	}
}
