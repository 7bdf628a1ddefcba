package sink

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// While a disk takes nothing, what is missing for it rises with the time, of pictures as of sound, in
// the metrics and in the manifest. When it takes files again that is told once.
func TestAFullDiskIsCountedWhileItLastsAndItsEndIsTold(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	var log bytes.Buffer
	const again = "media files are written again"
	r := inCall(t, Options{Registerer: registry, Logger: slog.New(slog.NewTextHandler(&log, nil))}, func(c *call) {
		d := new(disk)
		c.rec.create = d.wrap(c.rec.create)
		a, v := c.audio(), c.video()
		c.talk(a, v, 3*time.Second)
		d.set(nil, syscall.ENOSPC)
		for full := 2 * time.Second; full <= 26*time.Second; full += 2 * time.Second {
			for i := range 50 {
				c.step(a, v, i%25 == 0)
			}
			gaps := gathered(t, registry, "recorder_sink_gap_seconds_total")
			for _, track := range c.stream.tracks {
				track.account(c.rec.now())
				counted := time.Duration(gaps["kind="+track.kind+" reason=disk"] * float64(time.Second))
				noted := track.manifest.Missing[ReasonDisk].Duration()
				if !near(counted, full, 1600*ms) || !near(noted, counted, ms) {
					t.Errorf("after %v %v of %s are counted, %v noted", full, counted, track.kind, noted)
				}
				if n := len(track.manifest.Gaps); n > 6 {
					t.Errorf("%s has %d gaps", track.kind, n)
				}
			}
		}
		if strings.Contains(log.String(), again) {
			t.Error("said to be over")
		}
		d.set(nil, nil)
		for i := range 1000 {
			c.step(a, v, i%25 == 0)
		}
	})
	if n := strings.Count(log.String(), again); n != 1 {
		t.Errorf("the end is told %d times:\n%s", n, &log)
	}
	report, err := Verify(t.Context(), r.dir, nil)
	if err != nil || !report.OK {
		t.Fatalf("%+v, %v", report, err)
	}
	for _, p := range report.Recordings[0].Parts {
		if p.Unwritten != (p.Size == 0) {
			t.Errorf("%s of %d bytes is unwritten: %v", p.File, p.Size, p.Unwritten)
		}
	}
	if n := len(slices.DeleteFunc(report.Recordings[0].Parts, func(p PartReport) bool { return !p.Unwritten })); n > 1 {
		t.Errorf("attempts left %d files of nothing", n)
	}
}

// What the manifest says of a file that could not be written names it as the manifest does.
func TestThePathOfTheRecordingsIsNoPartOfAnError(t *testing.T) {
	var dir string
	r := inCall(t, Options{}, func(c *call) {
		dir = c.root.options.Dir
		create := c.rec.create
		c.rec.create = func(name string) (File, error) {
			f, err := create(name)
			if err == nil {
				f.Close() // so that writing to it fails
			}
			return f, err
		}
		c.audio().speak(50)
	})
	got, file := r.track.Parts[0].Error, r.track.Parts[0].File
	if !strings.HasPrefix(got, "write: write "+file+": ") || strings.Contains(got, dir) {
		t.Errorf("%s: %s", file, got)
	}
}
