package session

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"recorder/internal/lab/devserver"
	"recorder/internal/lab/member"
	"recorder/internal/sink"
)

// recordedOf is the streams of a recording that have files.
func recordedOf(m sink.Manifest) []*sink.ManifestStream {
	return slices.DeleteFunc(slices.Clone(m.Streams), func(s *sink.ManifestStream) bool {
		return !slices.ContainsFunc(s.Tracks, func(t *sink.ManifestTrack) bool { return len(t.Parts) > 0 })
	})
}

// wantWaited wants every stream to have waited for its place for so long, about, and what was offered meanwhile
// to count as missing.
func wantWaited(t *testing.T, m sink.Manifest, d time.Duration, placed bool) {
	t.Helper()
	if len(m.Streams) == 0 {
		t.Error("no stream waited")
	}
	for _, s := range m.Streams {
		if s.Waited == nil || s.Waited.Reason != sink.ReasonCapacity || (s.Waited.Until != nil) != placed || (s.EndReason == sink.NoPlace) == placed {
			t.Errorf("stream %q: %+v, ended as %q", s.ID, s.Waited, s.EndReason)
			continue
		}
		if len(s.Tracks) == 0 {
			t.Errorf("stream %q has no tracks", s.ID)
		}
		for _, track := range s.Tracks {
			if off := track.Waited.Duration() - d; off.Abs() > 2*time.Second || track.Missing[sink.ReasonCapacity] != track.Waited {
				t.Errorf("%s waited for %v, want %v; missing %v", track.ID, track.Waited.Duration(), d, track.Missing)
			}
			whole := track.Waited + track.Recorded + track.Missing[sink.ReasonKeyFrameWait] // a second at most in these tests
			if off := (track.Expected - whole).Duration(); off < 0 || off > 100*time.Millisecond {
				t.Errorf("%s: %v are expected, %v recorded", track.ID, track.Expected.Duration(), track.Recorded.Duration())
			}
			if c := float64(track.Recorded) / float64(whole); track.Completeness > c+0.001 || track.Completeness < c-0.001 {
				t.Errorf("%s: completeness %v, want %v", track.ID, track.Completeness, c)
			}
			if !placed && (len(track.Parts) > 0 || track.Recorded > 0) {
				t.Errorf("%s: %v are recorded", track.ID, track.Recorded.Duration())
			}
		}
	}
}

// said is how often the log has a line with that text.
func (p *printed) said(text string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Count(p.text.String(), text)
}

// Bob's tracks wait for a place for so long. What is recorded of them is what is sent from then on.
func TestATrackThatWaitsForAPlaceIsRecordedFromThenOn(t *testing.T) {
	for _, waits := range []time.Duration{500 * time.Millisecond, 5 * time.Second, 40 * time.Second, 2 * time.Minute} {
		t.Run(waits.String(), func(t *testing.T) {
			inRig(t, devserver.Options{}, func(r *rig) {
				var log printed
				r.log = slog.New(slog.NewTextHandler(&log, nil))
				r.set = NewSet(r.options(true))
				r.reg.MustRegister(r.set)
				r.apply(Config{Channel: channel, Bot: "recorder", ReconnectWindow: time.Minute, MaxStreams: 1})
				time.Sleep(settling)
				alice := r.join(r.token(aliceID), "alice-camera")
				time.Sleep(settling)
				r.join(r.token("bob"), "bob-camera")
				time.Sleep(waits)
				if n := r.set.Status()[0].Waiting; n != 2 {
					t.Errorf("%d tracks wait, want 2", n)
				}
				alice.Leave()
				placed := time.Now()
				time.Sleep(20 * time.Second)
				if n := r.set.Status()[0].Waiting; n != 0 {
					t.Errorf("%d tracks wait, want none", n)
				}
				if n := log.said("tracks wait for a place"); n != 1 {
					t.Errorf("said %d times that tracks wait", n)
				}
				if n := r.counted("recorder_session_refused_total", "streams"); n != 2 {
					t.Errorf("%v tracks are counted, want 2", n)
				}
				m := of(r.finish(), "bob")
				wantWaited(t, m, waits, true)
				for _, s := range m.Streams {
					if late := s.Started.UTC.Sub(placed); late < 0 || late > time.Second {
						t.Errorf("it began %v after there was a place", late)
					}
					for _, track := range s.Tracks {
						asked := track.Kind == "audio" || track.Ledger.PLIs+track.Ledger.FIRs > 0
						for _, g := range track.Gaps {
							asked = asked && g.Reason == sink.ReasonKeyFrameWait && g.Start.Duration() < 100*time.Millisecond
						}
						if !asked || track.Recorded.Duration() < 18*time.Second || track.Ledger.Lost > 0 {
							t.Errorf("%s: %v are recorded, missing %v", track.ID, track.Recorded.Duration(), track.Missing)
						}
						if p := track.Parts; len(p) != 1 || p[0].Duration.Duration() > 21*time.Second || p[0].HeldFirst && p[0].LastPTS > 21*90000 {
							t.Errorf("%s: files %+v", track.ID, p)
						}
					}
				}
			})
		})
	}
}

// However a wait ends without a place, the manifest says that there was one.
func TestWhatNeverGetsAPlaceIsSaid(t *testing.T) {
	for name, tt := range map[string]struct {
		ends   func(r *rig, bob *member.Member)
		waited time.Duration
		placed bool
	}{
		"the recording ends":         {func(*rig, *member.Member) {}, 10 * time.Second, false},
		"the member leaves":          {func(_ *rig, bob *member.Member) { bob.Leave(); time.Sleep(5 * time.Second) }, 10 * time.Second, false},
		"the stream is taken away":   {func(_ *rig, bob *member.Member) { bob.Unpublish("bob-camera"); time.Sleep(5 * time.Second) }, 10 * time.Second, false},
		"there is a place by and by": {func(r *rig, _ *member.Member) { r.limit(2); time.Sleep(5 * time.Second) }, 10 * time.Second, true},
		"another recording goes on": {func(r *rig, _ *member.Member) {
			r.on(func(s *Session) { fill(r.t, &s.bindings) })
			time.Sleep(time.Second)
		}, 10 * time.Second, false},
		"the recorder is stopped":     {func(r *rig, _ *member.Member) { r.set.Close(); r.set = NewSet(r.options(true)) }, 10 * time.Second, false},
		"pictures are not wanted":     {func(r *rig, _ *member.Member) { r.limit(1, "video"); time.Sleep(5 * time.Second) }, 0, false},
		"nothing of it is wanted now": {func(r *rig, _ *member.Member) { r.limit(1, "video", "audio"); time.Sleep(5 * time.Second) }, 10 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			inRig(t, devserver.Options{}, func(r *rig) {
				r.set = NewSet(r.options(true))
				r.limit(1)
				time.Sleep(settling)
				r.join(r.token(aliceID), "alice-camera")
				time.Sleep(settling)
				bob := r.join(r.token("bob"), "bob-camera")
				time.Sleep(10 * time.Second)
				tt.ends(r, bob)
				r.set.Close()
				r.set = nil
				all := r.recordings()[channel]
				m := of(all[0], "bob")
				if len(m.Streams) != 1 {
					t.Fatalf("%d streams of bob", len(m.Streams))
				}
				if tt.waited > 0 {
					wantWaited(t, m, tt.waited, tt.placed)
				}
				for _, next := range all[1:] { // which it waits in, too
					wantWaited(t, of(next, "bob"), time.Second, false)
				}
			})
		})
	}
}

// limit has the channel recorded with so many streams at once, and without some kinds.
func (r *rig) limit(streams int, without ...string) {
	r.apply(Config{
		Channel: channel, Bot: "recorder", ReconnectWindow: time.Minute, MaxStreams: streams,
		SkipVideo: slices.Contains(without, "video"), SkipAudio: slices.Contains(without, "audio"),
	})
}
