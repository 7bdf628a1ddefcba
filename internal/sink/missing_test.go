package sink

import (
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

const minute = time.Minute

// wantMissing compares what is missing of a track for a reason, to half a second.
func (r recorded) wantMissing(t *testing.T, kind string, reason Reason, want time.Duration) {
	t.Helper()
	r = r.of(kind)
	if d := r.track.Missing[reason].Duration(); !near(d, want, 500*ms) {
		t.Errorf("%s: %v are missing for %s, want %v: %s", kind, d, reason, want, r.gaps())
	}
}

// outage is one of the stream, after a time.
func (c *call) outage(after, length time.Duration) {
	c.wait(after)
	c.stream.Outage(ReasonReconnect, time.Time{})
	c.wait(length)
}

// An outage is as long in the manifest as it was. A camera that was off before and after it was off.
func TestOutageTakesNoSilenceWithIt(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		a, v := c.audio(), c.video()
		c.talk(a, v, 4*time.Second)
		a.speak(5 * 60 * 50)
		c.outage(0, 5*time.Second)
		c.stream.Resume("alice")
		a.rtp += 5 * 48_000
		a.speak(5 * 60 * 50)
		v.rtp += (2*5*60 + 5) * 90_000
		c.talk(a, v, 4*time.Second)
		a.Close()
		v.Close()
		c.wait(time.Second)
	})
	r.wantMissing(t, audio, ReasonReconnect, 5*time.Second)
	r.wantMissing(t, video, ReasonReconnect, 5*time.Second)
	r.wantMissing(t, video, ReasonMute, 10*minute)
}

// A sender that stays silent after an outage is silent, and its file goes on.
func TestSilenceAfterAnOutageIsSilence(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		c.audio().speak(500)
		c.outage(0, 5*time.Second)
		c.stream.Resume("alice")
		c.wait(10 * minute)
	})
	if length, _ := r.audioFile(t); !near(length, 10*minute+15*time.Second, time.Second) {
		t.Errorf("the file lasts %v", length)
	}
	r.wantMissing(t, audio, ReasonReconnect, 5*time.Second)
	r.wantMissing(t, audio, ReasonMute, 10*minute)
}

// A camera that is taken away and added again, while the sound goes on, was off.
func TestTrackThatIsAddedAgainWasOff(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		c.connection = 1
		a, v := c.audio(), c.video()
		c.talk(a, v, 4*time.Second)
		v.Close()
		a.speak(5 * 60 * 50)
		v = c.video()
		v.ssrc = 9
		c.talk(a, v, 4*time.Second)
		a.Close()
		v.Close()
		c.wait(time.Second)
	})
	r.wantMissing(t, video, ReasonReconnect, 0)
	r.wantMissing(t, video, ReasonMute, 5*minute)
}

// A connection that takes its time to take another's place is an outage, though none was told of.
func TestFreshConnectionThatIsSlowIsAnOutage(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		c.connection = 1
		a, v := c.audio(), c.video()
		c.talk(a, v, 4*time.Second)
		c.wait(8 * time.Second)
		a.Close()
		v.Close()
		c.connection = 2
		b, w := c.audio(), c.video()
		b.ssrc, w.ssrc = 8, 9
		c.talk(b, w, 4*time.Second)
		b.Close()
		w.Close()
		c.wait(time.Second)
	})
	for _, kind := range []string{audio, video} {
		r.wantMissing(t, kind, ReasonReconnect, 8*time.Second)
		r.wantMissing(t, kind, ReasonMute, 0)
	}
}

// An outage of a sender that said nothing for long is as long as it was.
func TestOutageOfASilentSenderTakesNoSilenceWithIt(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		v := c.video()
		v.film(100, true)
		c.wait(10 * minute)
		up := time.Now()
		c.wait(5 * time.Second)
		c.stream.Outage(ReasonReconnect, up)
		c.wait(5 * time.Second)
		c.stream.Resume("alice")
		v.rtp += (10*60 + 10) * 90_000
		v.film(100, true)
		v.Close()
		c.wait(time.Second)
	})
	r.wantMissing(t, video, ReasonReconnect, 10*time.Second+outageNotice)
	r.wantMissing(t, video, ReasonMute, 10*minute-outageNotice)
}

// What was sent while the recorder stood still, as a container that is paused, it did not receive.
func TestStandstillIsTheRecordersOwn(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		a := c.audio()
		a.speak(500)
		from := c.rec.now()
		time.Sleep(100 * time.Second)
		c.rec.stood(from, c.rec.now())
		c.skip(0)
		c.outage(0, 5*time.Second)
		c.stream.Resume("alice")
		a.Close()
		b := c.audio()
		b.ssrc = 8
		b.speak(500)
		b.Close()
		c.wait(time.Second)
	})
	r.wantMissing(t, audio, ReasonRestart, 100*time.Second)
	r.wantMissing(t, audio, ReasonReconnect, 5*time.Second)
	r.wantMissing(t, audio, ReasonMute, 0)
}

// A stream whose connection never came up is missing until the member leaves, the track is not wanted
// any more or the connection is up; after that it is silent.
func TestStreamThatNeverCameIsMissingWhileItCouldNot(t *testing.T) {
	for name, test := range map[string]struct {
		call func(c *call)
		want time.Duration
	}{
		"until the member leaves": {func(c *call) {
			c.rec.PeerJoined("alice", nil)
			a := c.audio()
			c.outage(15*time.Second, 5*time.Second)
			a.Close()
			c.rec.PeerLeft("alice")
			c.wait(minute)
			c.stream.Close(NotBack)
		}, 20 * time.Second},
		"until it is not wanted": {func(c *call) {
			c.audio()
			c.outage(15*time.Second, 5*time.Second)
			c.stream.tracks[0].Pause()
			c.wait(minute)
		}, 20 * time.Second},
		"until it is connected": {func(c *call) {
			c.audio()
			c.outage(15*time.Second, 5*time.Second)
			c.stream.Resume("alice")
			c.outage(minute, minute)
		}, 20 * time.Second},
		"not if it was connected": {func(c *call) {
			c.audio()
			c.stream.Connected()
			c.outage(minute, minute)
		}, 0},
		"to the end": {func(c *call) {
			c.audio()
			c.outage(15*time.Second, minute)
		}, minute + 15*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			r := inCall(t, Options{}, test.call)
			r.wantMissing(t, audio, ReasonReconnect, test.want)
			if complete := r.track.Completeness == 1; complete != (test.want == 0) || r.track.Recorded != 0 ||
				!near(r.track.Expected.Duration(), test.want, 500*ms) {
				t.Errorf("completeness %v of %v", r.track.Completeness, r.track.Expected.Duration())
			}
		})
	}
}

// That is in the manifest after a crash, too, and when the recording goes on.
func TestStreamThatNeverCameIsMissingAfterACrash(t *testing.T) {
	dir, dead := t.TempDir(), filepath.Join(t.TempDir(), "crashed")
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, dir)
		c.audio()
		c.outage(15*time.Second, 30*time.Second)
		crashed := c.crash(dead)
		c.end()
		root, rec := restart(t, crashed, slog.DiscardHandler)
		track := rec.manifest.Streams[0].Tracks[0]
		if e, m := track.Expected.Duration(), track.Missing[ReasonReconnect].Duration(); e != m || !near(e, 44*time.Second, 1500*ms) {
			t.Errorf("repaired: %v expected, %v missing", e, m)
		}
		c = &call{T: t, root: root, rec: rec, pumped: true}
		c.open("alice")
		c.audio()
		c.outage(15*time.Second, 20*time.Second)
		c.end()
		if track.Expected.Duration() < 43*time.Second || track.Completeness > 0 {
			t.Errorf("continued: %v expected, completeness %v", track.Expected.Duration(), track.Completeness)
		}
	})
}

// The end of a call does not wait for days of silence to be filled in; for hours it does.
func TestLastWordsAreRecordedBehindALongSilence(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		a := c.audio()
		a.speak(50)
		a.skipped(8 * time.Hour)
		a.speak(50)
		a.put([]byte{0xfc, 0xff, 0xfe}) // in stereo, which takes another file
		a.Close()
	})
	if n := r.track.Ledger.FramesDropped; n > 0 || len(r.track.Parts) != 2 {
		t.Errorf("%d packets were dropped, %d files", n, len(r.track.Parts))
	}
}
