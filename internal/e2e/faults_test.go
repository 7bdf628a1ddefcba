package e2e

import (
	"math"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"recorder/internal/lab/devserver"
	"recorder/internal/sink"
)

// The recorder's side of what the official SDK does when sockets drop. Limits
// are for the gap in the files; "key" and "token" are who uses which.
var faults = []struct {
	name         string
	bot, browser string
	strike       func(s *devserver.Server, botID, browserID string)
	maxGap       time.Duration
}{
	{"the bot's socket is reset and nobody is told", "token", "token",
		func(s *devserver.Server, bot, _ string) { s.Drop(bot, devserver.Drop{Presence: devserver.Silent}) }, 0},
	{"the bot's socket is reset and the others are told", "token", "token",
		func(s *devserver.Server, bot, _ string) { s.Drop(bot, devserver.Drop{}) }, 1500 * time.Millisecond},
	{"the bot's socket is reset, with a key", "publishable key", "token",
		func(s *devserver.Server, bot, _ string) { s.Drop(bot, devserver.Drop{}) }, 1500 * time.Millisecond},
	{"the browser's socket is reset, with a key", "token", "publishable key",
		func(s *devserver.Server, _, browser string) { s.Drop(browser, devserver.Drop{}) }, 3 * time.Second},
	{"the browser's socket is reset: leave and join", "token", "token",
		func(s *devserver.Server, _, browser string) { s.Drop(browser, devserver.Drop{}) }, 3 * time.Second},
	{"the browser's socket is reset: leave and join in one frame", "token", "token",
		func(s *devserver.Server, _, browser string) {
			s.Drop(browser, devserver.Drop{Presence: devserver.FlapOneFrame})
		}, 3 * time.Second},
	{"the browser's socket is reset: nothing is told", "token", "token",
		func(s *devserver.Server, _, browser string) {
			s.Drop(browser, devserver.Drop{Presence: devserver.Silent})
		}, 3 * time.Second},
}

func TestABrowsersStreamKeepsItsFilesThroughReconnects(t *testing.T) {
	browser := StartBrowser(t)
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			r, server := startFaultyRig(t, credentials[f.bot].config, "")
			page := browser.Open(t)
			id := r.join(page, credentials[f.browser].browser(t))
			page.Do(`addClapper('clapper')`)
			page.Do(`until(async () => (await sent()).frames > 0, 45000)`)
			began := time.Now()
			page.Do("sleep(3000)")
			f.strike(server, other(server.Members("room-42"), id), id)
			struck := time.Since(began)
			page.Do("sleep(12000)")
			ended := time.Since(began)
			page.Do("leave()")
			r.recorder.Stop()

			dir, m := r.recording()
			if len(m.Streams) != 1 || len(m.Streams[0].Tracks) != 2 {
				t.Fatalf("want one stream of two tracks, have %d streams", len(m.Streams))
			}
			for _, track := range m.Streams[0].Tracks {
				checkTrack(t, dir, track, f.maxGap)
			}
			before, afterwards := phase{"before", 0, struck.Seconds()}, phase{"afterwards", (struck + f.maxGap + 500*time.Millisecond).Seconds(), ended.Seconds()}
			checkTogether(t, dir, m.Streams[0], []phase{afterwards})
			checkClaps(t, dir, m.Streams[0], before, afterwards)
		})
	}
}

func TestAReloadedPageIsANewStream(t *testing.T) {
	browser := StartBrowser(t)
	r, _ := startFaultyRig(t, credentials["publishable key"].config, "    reconnect_window: 3s")
	page := browser.Open(t)
	for range 2 {
		r.join(page, credentials["publishable key"].browser(t))
		page.Do(`addClapper('clapper')`)
		page.Do(`until(async () => (await sent()).frames > 20, 45000)`)
		page.Do("sleep(6000)")
		page.Reload()
	}
	r.recorder.Stop()
	dir, m := r.recording()
	if len(m.Streams) != 2 {
		t.Fatalf("want two streams, have %d", len(m.Streams))
	}
	for _, s := range m.Streams {
		for _, track := range s.Tracks {
			checkTrack(t, dir, track, 0)
		}
		checkTogether(t, dir, s, []phase{{"all the time", 0, 10}})
	}
	if first := m.Streams[0]; first.Ended == nil || !first.Ended.UTC.Before(m.Ended.UTC.Add(-time.Second)) {
		t.Error("the first stream was not closed when its window ended")
	}
}

// checkClaps wants the beeps of a browser, one a second, in both phases at the same
// fractions of a second: what was missing between is as long in the file as it was.
func checkClaps(t *testing.T, dir string, s *sink.ManifestStream, before, afterwards phase) {
	t.Helper()
	for _, track := range s.Tracks {
		if track.Kind != "audio" {
			continue
		}
		var fractions [2][]float64 // of seconds, beside the first
		beeps := Beeps(t, filepath.Join(dir, filepath.FromSlash(track.Parts[0].File)))
		for i, phase := range []phase{before, afterwards} {
			for _, beep := range beeps {
				if beep >= phase.from && beep <= phase.until {
					fractions[i] = append(fractions[i], math.Remainder(beep-beeps[0], 1))
				}
			}
			slices.Sort(fractions[i])
		}
		if len(fractions[0]) < 2 || len(fractions[1]) < 4 {
			t.Fatalf("beeps at %.3f", beeps)
		}
		moved := math.Remainder(fractions[1][len(fractions[1])/2]-fractions[0][len(fractions[0])/2], 1)
		t.Logf("the sound stands %.0f ms later after the outage", 1000*moved)
		if math.Abs(moved) > 0.1 {
			t.Errorf("the sound stands %.0f ms later after the outage: beeps at %.3f", 1000*moved, beeps)
		}
	}
}

// other returns the member that is not the given one: the bot.
func other(members []string, id string) string {
	for _, m := range members {
		if m != id {
			return m
		}
	}
	return ""
}

// checkTrack wants one part that decodes, and nothing missing but what an
// outage of up to maxGap explains.
func checkTrack(t *testing.T, dir string, track *sink.ManifestTrack, maxGap time.Duration) {
	t.Helper()
	if len(track.Parts) != 1 {
		t.Errorf("%s: want one part, have %d", track.Kind, len(track.Parts))
	}
	for _, part := range track.Parts {
		DecodesCleanly(t, filepath.Join(dir, filepath.FromSlash(part.File)))
	}
	var missing time.Duration
	for _, gap := range track.Gaps {
		t.Logf("%s: gap of %v at %v: %s", track.Kind, time.Duration(gap.Duration), time.Duration(gap.Start), gap.Reason)
		missing += time.Duration(gap.Duration)
		if gap.Reason != sink.ReasonReconnect && gap.Reason != sink.ReasonKeyFrameWait {
			t.Errorf("%s: gap because of %q", track.Kind, gap.Reason)
		}
	}
	if missing > maxGap+50*time.Millisecond {
		t.Errorf("%s: %v are missing, want at most %v", track.Kind, missing, maxGap)
	}
}
