package sink

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestPressureLevels(t *testing.T) {
	const least = 1000
	for _, c := range []struct {
		was  pressure
		free int64
		want pressure
	}{
		{pressureNone, 1000, pressureNone}, {pressureNone, 999, pressureLow}, {pressureNone, 500, pressureLow},
		{pressureNone, 499, pressureHigh}, {pressureNone, 249, pressureFull}, {pressureNone, 0, pressureFull},
		{pressureLow, 1050, pressureLow}, {pressureLow, 1101, pressureNone}, {pressureFull, 260, pressureFull},
		{pressureFull, 276, pressureHigh}, {pressureFull, 1101, pressureNone}, {pressureHigh, 540, pressureHigh},
	} {
		if is := c.was.next(c.free, least); is != c.want {
			t.Errorf("%v with %d free: %v, want %v", c.was, c.free, is, c.want)
		}
	}
}

// The ladder: as space shrinks first new recordings are refused, then pictures, then everything,
// and what was written is final. As it comes back so does all that, with gaps that say why.
func TestDiskPressure(t *testing.T) {
	var free atomic.Int64
	const least = 1 << 30
	free.Store(least)
	var expected, recorded Seconds
	r := inCall(t, Options{MinFree: least, free: func(*os.Root) (int64, error) { return free.Load(), nil }}, func(c *call) {
		a, v := c.audio(), c.video()
		talk := func(share float64) {
			free.Store(int64(share * least))
			c.skip(pressureInterval) // noticed by then
			a.rtp, v.rtp = a.rtp+48_000, v.rtp+90_000
			c.talk(a, v, 4*time.Second)
			c.wait(ms)
		}
		another := func() error {
			rec, err := c.root.NewRecording(RecordingInfo{Channel: "hall"})
			if err == nil {
				err = rec.Close(context.Background())
			}
			return err
		}
		talk(1)
		if err := errors.Join(c.root.Err(), another()); err != nil {
			t.Error(err)
		}
		talk(0.9)
		if !errors.Is(another(), ErrDiskFull) || !errors.Is(c.root.Err(), ErrDiskFull) {
			t.Error("a recording began below min_free")
		}
		talk(0.4)
		if w := c.stream.tracks[1].writer.(*videoWriter); w.part == nil || v.plis > 1 {
			t.Errorf("pictures stopped: part %v, %d key frames asked for", w.part, v.plis)
		}
		talk(0.2)
		synctest.Wait()
		for _, track := range c.stream.tracks {
			track.account(c.rec.now())
			if p := track.manifest.Parts; len(p) != 1 || !p[0].Final || p[0].Error != "" {
				t.Errorf("%s is not final: %+v", track.kind, p)
			}
		}
		expected, recorded = c.stream.tracks[0].manifest.Expected, c.stream.tracks[0].manifest.Recorded
		talk(0.6)
		talk(1.2)
		if err := c.root.Err(); err != nil {
			t.Error(err)
		}
		c.wait(time.Second)
		a.Close()
		v.Close()
		c.wait(ms)
	})
	// 5 s each: full, low, no pictures, nothing, low, full; the first second of each is a pause.
	if !near(recorded.Duration(), 12*time.Second, 300*ms) || expected-recorded < Seconds(3500*ms) {
		t.Errorf("while nothing was recorded: %v of %v recorded", recorded.Duration(), expected.Duration())
	}
	for kind, want := range map[string]time.Duration{audio: 4 * time.Second, video: 11 * time.Second} {
		r := r.of(kind)
		var disk time.Duration
		for _, g := range r.track.Gaps {
			if g.Reason == ReasonDisk {
				disk += g.Duration.Duration()
			}
		}
		if len(r.track.Parts) != 2 || !near(disk, want, 1100*ms) {
			t.Errorf("%s: %d parts, %v missing for want of space, gaps %s", kind, len(r.track.Parts), disk, r.gaps())
		}
		for _, p := range r.track.Parts {
			decode(t, filepath.Join(r.dir, filepath.FromSlash(p.File)))
		}
	}
	if length, _ := r.audioFile(t); !near(length, 29*time.Second, 100*ms) {
		t.Errorf("the sound after it ends at %v", length)
	}
}

// Sound that a full disk refuses to the end is missing, and said to be.
func TestSoundThatNeverFitsIsMissing(t *testing.T) {
	for name, after := range map[string]int{"from the start": 0, "after a while": 100} {
		t.Run(name, func(t *testing.T) {
			r := inCall(t, Options{}, func(c *call) {
				d := new(disk)
				c.rec.create = d.wrap(c.rec.create)
				a := c.audio()
				a.speak(after)
				d.set(nil, syscall.ENOSPC)
				a.speak(500)
				a.Close()
				c.wait(3 * time.Second)
			})
			want := time.Duration(after+500) * 20 * ms
			if !near(r.track.Expected.Duration(), want, 100*ms) || !near(r.track.Recorded.Duration(), time.Duration(after)*20*ms, 1100*ms) {
				t.Errorf("%v of %v, gaps %s", r.track.Recorded.Duration(), r.track.Expected.Duration(), r.gaps())
			}
			for _, g := range r.track.Gaps {
				if g.Reason != ReasonDisk {
					t.Errorf("gaps %s", r.gaps())
				}
			}
		})
	}
}
