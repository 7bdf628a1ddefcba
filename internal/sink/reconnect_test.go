package sink

import (
	"errors"
	"runtime"
	"testing"
	"time"
	"weak"

	"recorder/internal/container"
)

// The last connection to deliver is written; until it does, the one before is.
func TestOverlappingConnectionsMakeOneFile(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		oldSound, oldPicture := c.audio(), c.video()
		newSound, newPicture := &leg{}, &leg{}
		for i := range 300 {
			if i == 100 {
				newSound, newPicture = c.audio(), c.video()
				newSound.ssrc, newSound.rtp, newPicture.ssrc, newPicture.rtp = 8, 555, 9, 777
			}
			if i >= 100 && i < 200 {
				newPicture.put(vp8Payload([]byte{0x10}, testPicture(i == 150)...))
				newSound.put(tone(0))
				newPicture.rtp, newSound.rtp = newPicture.rtp+3600, newSound.rtp+960
			}
			switch {
			case i < 200:
				c.step(oldSound, oldPicture, i == 0)
				if i >= 100 {
					newSound.put(tone(0))
					newSound.rtp += 960
				}
			default:
				oldSound.Close()
				oldPicture.Close()
				c.step(newSound, newPicture, false)
			}
		}
		c.wait(time.Second)
		newSound.Close()
		newPicture.Close()
	})
	length, packets := r.audioFile(t)
	if !near(length, 12*time.Second, 40*ms) || len(packets) < 598 || len(packets) > 602 {
		t.Errorf("%d packets of %v", len(packets), length)
	}
	frames, pts := pictures(t, r.of(video).file)
	if len(frames) < 298 || len(frames) > 301 || len(r.of(video).track.Parts) != 1 || pts[len(pts)-1] > 12*90000 {
		t.Errorf("%d pictures up to %d in %d parts", len(frames), pts[len(pts)-1], len(r.of(video).track.Parts))
	}
	if g := r.of(video).gaps() + r.of(audio).gaps(); g != "" {
		t.Errorf("gaps %s", g)
	}
}

// An outage is a gap of its length with its reason, in one file.
func TestOutageIsAGap(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		a, v := c.audio(), c.video()
		both := func(a, v *leg) {
			for i := range 50 {
				c.step(a, v, i == 0)
			}
		}
		both(a, v)
		a.Close()
		v.Close()
		c.stream.Outage(ReasonReconnect, time.Time{})
		c.wait(5 * time.Second)
		c.stream.Resume("alice again")
		a, v = c.leg("renamed sound", audio), c.leg("renamed picture", video)
		both(a, v)
		c.wait(time.Second)
		a.Close()
		v.Close()
	})
	if n := len(r.manifest.Streams[0].Tracks); n != 2 {
		t.Fatalf("%d tracks", n)
	}
	if length, _ := r.audioFile(t); !near(length, 9*time.Second, 20*ms) {
		t.Errorf("sound lasts %v", length)
	}
	r.of(audio).wantGaps(t, gapOf(ReasonReconnect, 2*time.Second, 5*time.Second))
	r.of(video).wantGaps(t, gapOf(ReasonReconnect, 2*time.Second, 5*time.Second))
	if c := r.of(video).track.Completeness; c < 0.43 || c > 0.46 {
		t.Errorf("completeness %v, want 4/9", c)
	}
	reconnects := r.manifest.Streams[0].Reconnects
	if len(reconnects) != 1 || reconnects[0].PeerID != "alice again" || reconnects[0].Resumed == nil ||
		!near(reconnects[0].Resumed.UTC.Sub(reconnects[0].Lost.UTC), 5020*ms, 20*ms) {
		t.Errorf("reconnects %+v", reconnects)
	}
	decode(t, r.of(video).file)
	decode(t, r.of(audio).file)
}

// What was sent before an outage and written only then, having waited for a packet that was lost,
// does not end it: the time up to the next media is missing for the outage's reason.
func TestWhatWasHeldBackDoesNotEndAnOutage(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		a, v := c.audio(), c.video()
		for i := range 50 {
			c.step(a, v, i == 0)
		}
		a.seq++
		a.rtp += 960
		v.seq++
		v.rtp += 3600
		for i := range 10 {
			c.step(a, v, i == 0)
		}
		c.wait(time.Second)
		c.stream.Outage(ReasonReconnect, time.Time{})
		c.wait(9 * time.Second)
		c.stream.Resume("alice")
		a.rtp += 480_000
		v.rtp += 900_000
		for i := range 50 {
			c.step(a, v, i == 0)
		}
		c.wait(3 * time.Second)
		a.Close()
		v.Close()
	})
	r.of(audio).wantGaps(t, gapOf(ReasonLoss, 2*time.Second, 20*ms), gapOf(ReasonReconnect, 2420*ms, 10*time.Second))
	r.of(video).wantGaps(t, gapOf(ReasonLoss, 2*time.Second, 40*ms), gapOf(ReasonReconnect, 2440*ms, 10*time.Second))
	for _, kind := range []string{audio, video} {
		if c := r.of(kind).track.Completeness; c < 0.29 || c > 0.32 {
			t.Errorf("completeness of %s is %v, want 4.4/14.4", kind, c)
		}
	}
}

// Whoever asks for a stream by an id that another has gets one of its own, with files of its own.
func TestAStreamThatIsBegunIsAlwaysNew(t *testing.T) {
	inCall(t, Options{}, func(c *call) {
		c.audio()
		dirs := map[string]bool{c.stream.manifest.Dir: true}
		for _, peer := range []string{"mallory", "alice", "alice"} {
			s, err := c.rec.NewStream(StreamInfo{PeerID: peer, StreamID: "camera"})
			if err != nil || dirs[s.manifest.Dir] {
				t.Fatalf("%s got files that another has: %v", peer, err)
			}
			dirs[s.manifest.Dir] = true
		}
	})
}

// What is fed to a stream that is closed is no media of it, and its owner is told.
func TestAStreamThatIsClosedTakesNothing(t *testing.T) {
	inCall(t, Options{}, func(c *call) {
		track := trackOf(c.stream, TrackInfo{ID: "a", Kind: audio})
		if c.stream.Closed() {
			t.Error("it is closed")
		}
		c.stream.Close("over")
		if !c.stream.Closed() {
			t.Error("it is not closed")
		}
		if _, err := c.stream.Track(TrackInfo{ID: "a", Kind: audio}); !errors.Is(err, ErrClosed) {
			t.Errorf("the track it has: %v", err)
		}
		if _, err := c.stream.Track(TrackInfo{ID: "b", Kind: audio}); !errors.Is(err, ErrClosed) {
			t.Errorf("another track: %v", err)
		}
		if _, err := track.NewSource(SourceInfo{}); !errors.Is(err, ErrClosed) {
			t.Errorf("another connection: %v", err)
		}
	})
}

// A stream that is lost and does not come back ended when it was lost.
func TestAStreamThatStaysAwayEndedWhenItWasLost(t *testing.T) {
	for _, closed := range []bool{true, false} {
		r := inCall(t, Options{}, func(c *call) {
			a := c.audio()
			a.speak(100)
			c.stream.Outage(ReasonReconnect, time.Time{})
			c.wait(2 * time.Second)
			c.stream.Resume("alice")
			a.rtp += 96_000
			a.speak(100)
			a.Close()
			c.wait(3 * time.Second)
			c.stream.Outage(ReasonReconnect, time.Time{})
			c.wait(10 * time.Second)
			if closed {
				c.stream.Close("not back")
				c.wait(5 * time.Second)
			}
		})
		s := r.manifest.Streams[0]
		if !near(s.Ended.UTC.Sub(s.Started.UTC), 6*time.Second, 40*ms) {
			t.Errorf("lasted %v, want 6 s", s.Ended.UTC.Sub(s.Started.UTC))
		}
		if len(s.Reconnects) != 1 || s.Reconnects[0].Resumed == nil {
			t.Errorf("reconnects %+v", s.Reconnects)
		}
		if length, _ := r.audioFile(t); !near(length, 6*time.Second, 20*ms) {
			t.Errorf("sound lasts %v", length)
		}
	}
}

// What is missing from an outage is missing for its reason, though a part of what was sent then
// comes through: it is asked for again. What is lost at other times is lost.
func TestLossInAnOutageIsTheOutages(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		a := c.audio()
		lose := func(n int) {
			for range n {
				a.seq++
				a.rtp += 960
				c.wait(20 * ms)
			}
		}
		a.speak(100)
		lose(10)
		a.speak(90)
		lose(100)
		c.stream.Outage(ReasonReconnect, time.Time{})
		lose(100)
		a.speak(1) // late
		lose(20)
		c.stream.Resume("alice")
		lose(5)
		a.speak(100)
		lose(10)
		a.speak(100)
		c.wait(3 * time.Second)
		a.Close()
	})
	r.wantGaps(t, gapOf(ReasonLoss, 2*time.Second, 200*ms), gapOf(ReasonReconnect, 4*time.Second, 4520*ms-20*ms),
		gapOf(ReasonLoss, 10520*ms, 200*ms))
}

// When for more than a second nothing of a stream comes through, the path was
// down, whoever noticed. While another track comes it was not, and what was not
// sent is not missing.
func TestASecondInWhichNothingComesThroughIsAnOutage(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		a, v := c.audio(), c.video()
		lose := func(n int) { a.seq, a.rtp = a.seq+uint16(n), a.rtp+960*uint32(n) }
		a.speak(100)
		lose(40)
		c.wait(800 * ms)
		a.speak(110)
		lose(60)
		c.wait(1200 * ms)
		a.speak(100)
		v.film(50, true)
		lose(100)
		a.speak(100)
		a.rtp += 2 * container.OpusRate
		c.wait(2 * time.Second)
		a.speak(100)
		c.wait(3 * time.Second)
		a.Close()
		v.Close()
	})
	r.of(audio).wantGaps(t, gapOf(ReasonLoss, 2*time.Second, 800*ms), gapOf(ReasonReconnect, 5*time.Second, 1200*ms),
		gapOf(ReasonLoss, 8200*ms, 2*time.Second), gapOf(ReasonMute, 12200*ms, 2*time.Second))
}

// Of a connection that has ended nothing is kept: a recording may see thousands.
func TestAnEndedConnectionIsLetGo(t *testing.T) {
	inCall(t, Options{}, func(c *call) {
		var ended []weak.Pointer[leg]
		for range 3 {
			a, v := c.audio(), c.video()
			ended = append(ended, weak.Make(a), weak.Make(v))
			for i := range 50 {
				c.step(a, v, i == 0)
				a.seq++ // asks for what is missing
			}
			a.Close()
			v.Close()
			c.wait(3 * time.Second)
		}
		runtime.GC()
		for i, p := range ended[:4] { // the last may still be in a variable
			if p.Value() != nil {
				t.Errorf("connection %d is still held", i)
			}
		}
	})
}

// More packets may be lost in a row than a sequence number may jump. When the sender's clock tells that
// it has not begun anew they are counted.
func TestThousandsOfPacketsLostStayLost(t *testing.T) {
	const lost = farAhead + 500
	for name, test := range map[string]struct {
		anew func(v *leg)
		want uint64
	}{
		"the sender goes on":           {func(v *leg) { v.rtp += 10 * 90_000 }, lost},
		"it has a clock that is fresh": {func(v *leg) { v.rtp = 0x12345678 }, 0},
		"it has another SSRC":          {func(v *leg) { v.rtp, v.ssrc = v.rtp+10*90_000, 99 }, 0},
		"it counts from anywhere":      {func(v *leg) { v.rtp, v.seq = v.rtp+10*90_000, v.seq+40_000 }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := inCall(t, Options{}, func(c *call) {
				v := c.video()
				v.film(50, true)
				v.seq += lost
				test.anew(v)
				c.wait(10 * time.Second)
				v.film(50, true)
				v.Close()
			})
			if n := r.track.Ledger.Lost; n != test.want {
				t.Errorf("%d packets lost, want %d", n, test.want)
			}
		})
	}
}
