package sink

import (
	"bytes"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
	"github.com/prometheus/client_golang/prometheus"
)

// send sends a picture in as many packets as it takes, and goes on to the time of the next.
func (l *leg) send(pt uint8, payloader rtp.Payloader, frame []byte, every time.Duration) {
	payloads := payloader.Payload(1200, frame)
	for i, p := range payloads {
		l.WriteRTP(rtpPacket(pt, i == len(payloads)-1, l.seq, l.rtp, l.ssrc, p), time.Now())
		l.seq++
		if i%200 == 199 {
			l.wait(pumpInterval)
		}
	}
	l.rtp += uint32(every * 90000 / time.Second)
	l.wait(every)
}

// A member cannot lay the blame for what it loses on the disk: not with more files than it may have, not with pictures
// that are too large.
func TestAMemberCannotBlameTheDisk(t *testing.T) {
	sps, _ := h264Sets(t)
	h264 := videoMedia(t)[5].frames[0]
	large := append(bytes.Clone(testPicture(true)), make([]byte, partQueue/2)...)
	for name, tt := range map[string]struct {
		frame func(l *leg, i int)
		want  Reason
	}{
		"another SPS in each picture": {func(l *leg, i int) {
			other := bytes.Clone(sps)
			other[3] = byte(i) // level
			l.send(ptH264, &codecs.H264Payloader{}, bytes.Replace(h264, sps, other, 1), 40*ms)
		}, ReasonCapacity},
		"another codec in each picture": {func(l *leg, i int) {
			if i%2 == 0 {
				l.send(ptH264, &codecs.H264Payloader{}, h264, 40*ms)
			} else {
				l.send(ptVP8, &codecs.VP8Payloader{}, testPicture(true), 40*ms)
			}
		}, ReasonCapacity},
		"pictures too large to be held": {func(l *leg, i int) {
			if i < 3 { // none begins the stream, so the first one would stand twice in its file
				l.send(ptVP8, &codecs.VP8Payloader{}, large, time.Second)
			}
		}, ReasonCapacity},
	} {
		t.Run(name, func(t *testing.T) {
			registry := prometheus.NewPedanticRegistry()
			r := inCall(t, Options{Registerer: registry}, func(c *call) {
				c.audio().speak(50)
				v := c.video()
				for i := range 60 {
					tt.frame(v, i)
				}
				c.wait(3 * time.Second)
				drops := gathered(t, registry, "recorder_sink_frames_dropped_total")
				if drops["kind=video reason=disk"] > 0 || drops["kind=video reason="+string(tt.want)] == 0 {
					t.Errorf("dropped: %v", drops)
				}
				v.Close()
			})
			if r = r.of(video); r.track.Missing[ReasonDisk] > 0 || r.track.Missing[tt.want] == 0 {
				t.Errorf("missing %v, gaps %s", r.track.Missing, r.gaps())
			}
		})
	}
}

// What the process may not have is no fault of the disk's, and neither is a sound that nothing but a limit refuses.
func TestALimitOfTheProcessIsNotTheDisk(t *testing.T) {
	for _, err := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		t.Run(err.Error(), func(t *testing.T) {
			r := inCall(t, Options{}, func(c *call) {
				d := new(disk)
				c.rec.create = d.wrap(c.rec.create)
				a, v := c.audio(), c.video()
				d.set(nil, err)
				c.talk(a, v, 5*time.Second)
				d.set(nil, nil)
				for range 4 {
					c.talk(a, v, time.Second)
				}
				a.Close()
				v.Close()
			})
			for _, kind := range []string{audio, video} {
				r = r.of(kind)
				reasons := slices.Collect(func(yield func(Reason) bool) {
					for _, g := range r.track.Gaps {
						if !yield(g.Reason) {
							return
						}
					}
				})
				want := []Reason{ReasonCapacity}
				if exhausted(err) {
					want = nil // what comes waits for a descriptor, see TestFilesWaitForADescriptor
				}
				if !slices.Equal(slices.Compact(reasons), want) || r.track.Missing[ReasonCapacity] > Seconds(7*time.Second) {
					t.Errorf("%s: gaps %s", kind, r.gaps())
				}
			}
		})
	}
}
