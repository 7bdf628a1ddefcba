package sink

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"recorder/internal/container"
)

// waitingMost is the most a fill may have waiting for the disk: what is written at once, and a step.
const waitingMost = partWrite + 512<<10

// skipped lets d pass at once for a sender whose clock goes on.
func (l *leg) skipped(d time.Duration) {
	l.skip(d)
	l.rtp += uint32(int64(d/time.Millisecond) * 48 % (1 << 32))
}

// A file that is begun late in a stream, here for a second channel, holds silence up to there. That
// is laid out little by little, and no packet is lost to it.
func TestLongSilenceIsFilledStepByStep(t *testing.T) {
	const days = 3
	const after = 500 // packets
	r := inCall(t, Options{}, func(c *call) {
		a := c.audio()
		a.speak(50)
		a.skipped(days * 24 * time.Hour)
		a.speak(50)
		for i := range after {
			a.put([]byte{0xfc, 0xff, 0xfe, byte(i)}) // in stereo
			a.rtp += 960
			c.wait(20 * ms)
			if n := c.stream.tracks[0].writer.unwritten(); n > waitingMost {
				t.Fatalf("%d bytes wait for the disk", n)
			}
		}
		a.Close()
		c.wait(time.Second)
	})
	if len(r.track.Parts) != 2 || r.track.Ledger.FramesDropped > 0 || r.track.Ledger.FramesWritten != 100+after {
		t.Fatalf("%d parts, %+v", len(r.track.Parts), r.track.Ledger)
	}
	const length = days*24*time.Hour + (100+after)*20*ms
	if d := r.track.Parts[1].Duration.Duration(); !near(d, length, 40*ms) {
		t.Errorf("the second file lasts %v, want %v", d, length)
	}
	r.wantGaps(t, gapOf(ReasonMute, time.Second, days*24*time.Hour))
}

// While a sender is silent its file keeps up, so that nothing is left to do for a hurried end.
func TestFileKeepsUpWithSilence(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		a := c.audio()
		a.speak(50)
		for range 10 {
			a.skipped(time.Minute)
			c.wait(time.Second)
			a.rtp += 48_000
			track := c.stream.tracks[0]
			behind := c.rec.now() - c.stream.origin - track.manifest.Parts[0].Duration.Duration()
			if behind > 2*silenceLag*time.Second/container.OpusRate+time.Second {
				t.Fatalf("the file is %v behind", behind)
			}
			if expected, recorded := track.seconds(); !near(expected.Duration(), time.Second, 20*ms) || expected != recorded {
				t.Fatalf("%v of %v are recorded", recorded, expected)
			}
		}
		a.speak(50)
		a.Close()
		c.wait(time.Second)
	})
	length, packets := r.audioFile(t)
	if !near(length, 612*time.Second, 40*ms) {
		t.Errorf("the file lasts %v", length)
	}
	r.wantGaps(t, gapOf(ReasonMute, time.Second, 610*time.Second))
	if last := packets[len(packets)-1]; string(last) != string(tone(65000+99)) {
		t.Errorf("it ends with %x", last)
	}
	decode(t, r.file)
}

// refusing is a file whose writes fail.
type refusing struct{ File }

func (refusing) WriteAt([]byte, int64) (int, error) { return 0, errors.New("disk quota exceeded") }

// A disk that takes nothing is not given days of silence with each attempt.
func TestFillsForADiskThatTakesNothingAreBounded(t *testing.T) {
	inCall(t, Options{}, func(c *call) {
		create, refuse := c.rec.create, false
		c.rec.create = func(name string) (File, error) {
			f, err := create(name)
			if refuse {
				return refusing{f}, err
			}
			return f, err
		}
		a := c.audio()
		a.speak(50)
		a.skipped(72 * time.Hour)
		a.speak(50)
		refuse = true
		for i := range 3000 { // a minute of attempts
			a.put([]byte{0xfc, 0xff, 0xfe, byte(i)}) // in stereo, which takes another file
			a.rtp += 960
			c.wait(20 * ms)
			if n := c.stream.tracks[0].writer.unwritten(); n > waitingMost {
				t.Fatalf("%d bytes wait for the disk", n)
			}
		}
		if n := c.stream.tracks[0].drops[dropDisk]; n < 2900 {
			t.Errorf("%d packets were dropped", n)
		}
		refuse = false
		c.wait(2 * time.Minute)
		a.rtp += 120 * 48_000
		a.speak(500)
		parts := c.stream.tracks[0].manifest.Parts
		info, err := os.Stat(filepath.Join(c.root.options.Dir, c.rec.Dir(), parts[len(parts)-1].File))
		if err != nil || info.Size() < 30_000_000 {
			t.Errorf("the last file: %v, %v", info, err)
		}
		a.Close()
	})
}
