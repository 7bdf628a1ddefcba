package e2e

import (
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"recorder/internal/lab/devserver"
	"recorder/internal/sink"
)

// mutes are the two ways of a page: the tracks go on black and silent, or nothing is sent.
var mutes = []struct{ name, on, off string }{
	{"tracks disabled", `streams.clapper.getTracks().forEach(t => t.enabled = false)`,
		`streams.clapper.getTracks().forEach(t => t.enabled = true)`},
	{"nothing sent", `pause('clapper')`, `resume('clapper')`},
}

func TestPictureAndSoundStayTogether(t *testing.T) {
	browser := StartBrowser(t)
	for _, mute := range mutes {
		t.Run(mute.name, func(t *testing.T) {
			t.Parallel()
			r, server := startFaultyRig(t, credentials["token"].config, "")
			page := browser.Open(t)
			id := r.join(page, credentials["token"].browser(t))
			page.Do(`addClapper('clapper')`)
			page.Do(`until(async () => (await sent()).frames > 0, 45000)`)
			began := time.Now()
			page.Do("sleep(6000)")
			page.Do("%s", mute.on)
			muted := time.Since(began).Seconds()
			page.Do("sleep(20000)")
			page.Do("%s", mute.off)
			unmuted := time.Since(began).Seconds()
			logApart(t, r)
			page.Do("sleep(6000)")
			dropped := time.Since(began).Seconds()
			server.Drop(id, devserver.Drop{})
			page.Do("sleep(8000)")
			ended := time.Since(began).Seconds()
			logApart(t, r)
			page.Do("leave()")
			r.recorder.Stop()

			dir, m := r.recording()
			if len(m.Streams) != 1 {
				t.Fatalf("want one stream, have %d", len(m.Streams))
			}
			checkTogether(t, dir, m.Streams[0], []phase{
				{"at the start", 0, muted},
				{"after a mute of 20 s", unmuted, dropped},
				{"after a reconnect", dropped + 1.5, ended},
			})
		})
	}
}

// logApart says what the sender itself puts its pictures apart from its sound by: a browser that lacks a core sends its
// sound late, and stamps it so.
func logApart(t *testing.T, r *rig) {
	t.Helper()
	for line := range strings.Lines(metrics(t, r.http)) {
		if value, ok := strings.CutPrefix(line, "recorder_sink_stream_av_drift_seconds{"); ok {
			t.Logf("recorded apart from what the reports say: %s", strings.TrimSpace(value))
		}
	}
}

// phase is a stretch of a stream's clock, in seconds.
type phase struct {
	name        string
	from, until float64
}

// checkTogether wants the flashes and the beeps of a stream of two files to coincide in each phase.
func checkTogether(t *testing.T, dir string, s *sink.ManifestStream, phases []phase) {
	t.Helper()
	const limit = 0.040 // seconds
	files := make(map[string]string)
	for _, track := range s.Tracks {
		if len(track.Parts) != 1 {
			t.Fatalf("%s: want one part, have %d", track.Kind, len(track.Parts))
		}
		files[track.Kind] = filepath.Join(dir, filepath.FromSlash(track.Parts[0].File))
		for _, gap := range track.Gaps {
			t.Logf("%s: gap of %v at %v: %s", track.Kind, gap.Duration.Duration(), gap.Start.Duration(), gap.Reason)
		}
	}
	if files["audio"] == "" || files["video"] == "" {
		t.Fatalf("want sound and picture, have %v", files)
	}
	webm := Mux(t, files["audio"], files["video"])
	flashes, beeps := Flashes(t, webm), Beeps(t, webm)
	for _, phase := range phases {
		offsets := offsets(flashes, beeps, phase.from, phase.until)
		if len(offsets) < 4 {
			t.Errorf("%s: only %d flashes with a beep: flashes at %.3f, beeps at %.3f", phase.name, len(offsets), flashes, beeps)
			continue
		}
		slices.Sort(offsets)
		t.Logf("%s: the flash is %.0f ms after the beep (%.0f to %.0f, %d of them)", phase.name,
			1000*offsets[len(offsets)/2], 1000*offsets[0], 1000*offsets[len(offsets)-1], len(offsets))
		if middle := offsets[len(offsets)/2]; math.Abs(middle) > limit {
			t.Errorf("%s: picture and sound are %.0f ms apart", phase.name, 1000*middle)
		}
	}
}

// offsets is by how much each flash within a stretch is later than the beep it belongs to.
func offsets(flashes, beeps []float64, from, until float64) (offsets []float64) {
	for _, flash := range flashes {
		if flash < from || flash > until {
			continue
		}
		for _, beep := range beeps {
			if math.Abs(flash-beep) < 0.5 {
				offsets = append(offsets, flash-beep)
			}
		}
	}
	return offsets
}
