package sink

import (
	"testing"
	"time"
)

// off lets time pass in which a camera sends nothing, though the sound, if there is one, goes on.
func (c *call) off(a, v *leg, length time.Duration) {
	v.rtp += uint32(length / time.Millisecond * 90)
	if a == nil {
		c.wait(length)
		return
	}
	for range length / (40 * ms) {
		c.step(a, nil, false)
	}
}

// shoot sends so many pictures that no key picture is among, with the sound.
func (c *call) shoot(a, v *leg, pictures int) {
	for range pictures {
		c.step(a, v, false)
	}
}

// lose has so many pictures sent of which nothing comes, though the sound does.
func (c *call) lose(a, v *leg, pictures int) {
	v.seq += uint16(pictures)
	c.off(a, v, time.Duration(pictures)*40*ms)
}

// headless sends a picture that lacks its first packet.
func (l *leg) headless() {
	l.put(vp8Payload([]byte{0x00}, testPicture(false)...))
	l.rtp += 3600
}

// A camera is off for as long as it is, whatever is lost or cannot be decoded before it goes off and
// after it is back.
func TestAPauseStaysAPauseBesideALoss(t *testing.T) {
	const pause = minute
	type gaps map[Reason]time.Duration
	for name, test := range map[string]struct {
		call func(c *call, a, v *leg)
		want gaps
	}{
		"the last packet is lost": {func(c *call, a, v *leg) {
			v.seq++
			c.off(a, v, pause)
		}, gaps{ReasonLoss: 40 * ms, ReasonMute: pause - 40*ms}},
		"the end of the last picture is lost": {func(c *call, a, v *leg) {
			v.WriteRTP(rtpPacket(v.pt, false, v.seq, v.rtp, v.ssrc, vp8Payload([]byte{0x10}, testPicture(false)...)), time.Now())
			v.seq += 2
			c.off(a, v, pause)
		}, gaps{ReasonLoss: 80 * ms, ReasonMute: pause - 80*ms}},
		"another SSRC comes back": {func(c *call, a, v *leg) {
			c.off(a, v, pause)
			v.ssrc, v.seq, v.rtp = 99, 33333, 0x12345678
		}, gaps{ReasonMute: pause}},
		"another SSRC comes back, not with a key picture": {func(c *call, a, v *leg) {
			c.off(a, v, pause)
			v.ssrc, v.seq, v.rtp = 99, 33333, 0x12345678
			c.shoot(a, v, 50)
		}, gaps{ReasonMute: pause, ReasonKeyFrameWait: 2 * time.Second}},
		"a random sequence number comes back": {func(c *call, a, v *leg) {
			c.off(a, v, pause)
			v.seq, v.rtp = v.seq+20_000, 0x12345678
		}, gaps{ReasonMute: pause}},
		"it goes off before a key picture comes": {func(c *call, a, v *leg) {
			c.lose(a, v, 5)
			c.shoot(a, v, 50)
			c.off(a, v, pause)
			c.shoot(a, v, 25)
		}, gaps{ReasonLoss: 200 * ms, ReasonKeyFrameWait: 3 * time.Second, ReasonMute: pause}},
		"an outage meanwhile": {func(c *call, a, v *leg) {
			v.seq++
			c.off(a, v, pause/2)
			c.outage(0, 5*time.Second)
			c.stream.Resume("alice")
			a.rtp, v.rtp = a.rtp+5*48_000, v.rtp+5*90_000
			c.off(a, v, pause/2)
			c.shoot(a, v, 50)
		}, gaps{ReasonReconnect: 5 * time.Second, ReasonMute: pause, ReasonKeyFrameWait: 2 * time.Second}},
		"a new connection, in the midst of a picture": {func(c *call, a, v *leg) {
			c.off(a, v, pause)
			v.Close()
			c.outage(0, 5*time.Second)
			c.stream.Resume("alice")
			a.rtp += 5 * 48_000
			old := v.Source
			*v = leg{call: v.call, Source: c.video().Source, pt: v.pt, ssrc: 9}
			if v.Source == old {
				c.Fatal("the same source")
			}
			v.headless()
			c.step(a, nil, false)
			c.shoot(a, v, 49)
		}, gaps{ReasonReconnect: 5 * time.Second, ReasonMute: pause, ReasonKeyFrameWait: 2 * time.Second}},
		"while the disk takes no pictures": {func(c *call, a, v *leg) {
			level := c.root.level.Load()
			c.root.level.Store(int32(pressureHigh))
			c.shoot(a, v, 50)
			c.off(a, v, pause)
			c.shoot(a, v, 50)
			c.root.level.Store(level)
		}, gaps{ReasonDisk: 4 * time.Second, ReasonMute: pause}},
	} {
		t.Run(name, func(t *testing.T) {
			r := inCall(t, Options{}, func(c *call) {
				a, v := c.audio(), c.video()
				c.talk(a, v, 2*time.Second)
				test.call(c, a, v)
				c.talk(a, v, 2*time.Second)
				a.Close()
				v.Close()
				c.wait(3 * time.Second)
			})
			r.wantOnly(t, test.want)
		})
	}
}

// wantOnly compares what is missing of the pictures, to 100 ms.
func (r recorded) wantOnly(t *testing.T, want map[Reason]time.Duration) {
	t.Helper()
	r = r.of(video)
	for _, reason := range Reasons {
		if got := r.track.Missing[reason].Duration(); !near(got, want[reason], 100*ms) || (got > 0) != (want[reason] > 0) {
			t.Errorf("%v are missing for %s, want %v: %s", got, reason, want[reason], r.gaps())
		}
	}
}

// So it is at the end, and when nothing but the picture could tell.
func TestAPauseStaysAPauseThoughNothingElseComes(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		v := c.video()
		v.film(50, true)
		v.seq++
		c.off(nil, v, minute)
		v.film(50, false)
		c.off(nil, v, minute)
	})
	// A path that is silent for a second may be down for so long.
	r.wantOnly(t, map[Reason]time.Duration{ReasonReconnect: pathSilence, ReasonMute: 2*minute - pathSilence, ReasonKeyFrameWait: 2 * time.Second})
}

// What was sent and is not there was lost, however much that is and whatever comes of it.
func TestLossStaysLoss(t *testing.T) {
	for name, test := range map[string]struct {
		call func(c *call, a, v *leg)
		want time.Duration
	}{
		"many pictures": {func(c *call, a, v *leg) { c.lose(a, v, 250) }, 10 * time.Second},
		"of several packets each": {func(c *call, a, v *leg) {
			v.seq += 4 * 250
			c.lose(a, v, 250)
		}, 10 * time.Second},
		"behind the first of a picture": {func(c *call, a, v *leg) {
			v.WriteRTP(rtpPacket(v.pt, false, v.seq, v.rtp, v.ssrc, vp8Payload([]byte{0x10}, testPicture(false)...)), time.Now())
			v.seq++
			c.lose(a, v, 250)
		}, 10 * time.Second},
		"up to the last of a picture": {func(c *call, a, v *leg) {
			c.lose(a, v, 250)
			v.headless()
			c.step(a, nil, false)
		}, 10*time.Second + 40*ms},
		"pictures that come slowly": {func(c *call, a, v *leg) {
			for range 10 {
				c.step(a, v, false)
				c.off(a, v, 960*ms)
			}
			v.seq += 10
			c.off(a, v, 10*time.Second)
		}, 10*time.Second + 900*ms}, // nothing tells how long the last one is to be shown
		"pictures that came fast just before": {func(c *call, a, v *leg) {
			v.put(vp8Payload([]byte{0x10}, testPicture(false)...))
			v.rtp += 90
			v.put(vp8Payload([]byte{0x10}, testPicture(false)...))
			c.off(a, v, 40*ms)
			c.lose(a, v, 250)
		}, 10*time.Second + 40*ms},
		"so many that the sequence seems another": {func(c *call, a, v *leg) {
			v.seq += farAhead
			c.lose(a, v, 250)
		}, 10 * time.Second},
		"a sender that begins anew at once": {func(c *call, a, v *leg) {
			c.off(a, v, time.Second)
			v.ssrc, v.seq, v.rtp = 99, 33333, 0x12345678
		}, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			r := inCall(t, Options{}, func(c *call) {
				a, v := c.audio(), c.video()
				c.talk(a, v, 4*time.Second)
				test.call(c, a, v)
				c.talk(a, v, 2*time.Second)
				a.Close()
				v.Close()
				c.wait(3 * time.Second)
			})
			r.wantOnly(t, map[Reason]time.Duration{ReasonLoss: test.want})
		})
	}
}
