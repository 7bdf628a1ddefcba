package session

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"recorder/internal/lab/devserver"
	"recorder/internal/lab/member"
	"recorder/internal/signaling"
	"recorder/internal/sink"
)

func (r *rig) apply(configs ...Config) {
	r.t.Helper()
	r.must(r.set.Apply(configs))
}

// enter has a member join a channel of its own choice, with tracks of its own.
func (r *rig) enter(name, id string, tracks []member.Track) *member.Member {
	m, err := member.Join(context.Background(), member.Options{
		URL: "ws://127.0.0.1", Credential: r.token(id), Channel: name, HTTPClient: r.http, Settings: r.host(), Tracks: tracks,
	})
	r.must(err)
	return m
}

// recordings returns every manifest, by channel.
func (r *rig) recordings() map[string][]sink.Manifest {
	all := make(map[string][]sink.Manifest)
	found, _ := filepath.Glob(filepath.Join(r.dir, "*", "*", sink.ManifestName))
	for _, file := range found {
		data, err := os.ReadFile(file)
		r.must(err)
		var m sink.Manifest
		r.must(json.Unmarshal(data, &m))
		all[m.Channel] = append(all[m.Channel], m)
	}
	return all
}

// checkWhole fails the test unless a recording holds every frame that was sent.
// One that is on its way as the member leaves may not be.
func checkWhole(t *testing.T, m sink.Manifest, sent []member.Sent) {
	t.Helper()
	frames := make(map[string]int)
	for _, s := range sent {
		frames[s.TrackID] += s.Frames
	}
	for _, s := range m.Streams {
		for _, track := range s.Tracks {
			if n := frames[track.ID]; n == 0 || int(track.Ledger.FramesWritten) < n-1 || track.Ledger.Lost != 0 || len(track.Parts) != 1 {
				t.Errorf("%s: %d frames were sent, %d are written, %d packets lost, %d parts", track.ID, n,
					track.Ledger.FramesWritten, track.Ledger.Lost, len(track.Parts))
			}
			if len(track.Gaps) != 0 {
				t.Errorf("%s: gaps %+v", track.ID, *track.Gaps[0])
			}
		}
	}
}

func TestApplyDoesNotTouchWhatDidNotChange(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		same := Config{Channel: channel, Bot: "recorder", ReconnectWindow: aWindow, Roles: []string{"camera"}}
		r.start(false)
		r.apply(same, Config{Channel: "removed"}, Config{Channel: "changed", ReconnectWindow: time.Second})
		time.Sleep(settling)
		alice := r.enter(channel, "alice", camera("alice"))
		bob := r.enter("changed", "bob", camera("bob"))
		carol := r.enter("removed", "carol", camera("carol"))
		time.Sleep(4 * time.Second)

		r.apply(same, Config{Channel: "changed", ReconnectWindow: time.Minute, MaxDuration: time.Hour}, Config{Channel: "added"})
		if m := r.recordings()["removed"]; len(m) != 1 || m[0].State != sink.StateComplete {
			t.Errorf("the removed channel's recordings when Apply returned: %d", len(m))
		}
		time.Sleep(4 * time.Second)
		states := make(map[string]State)
		for _, s := range r.set.Status() {
			states[s.Channel] = s.State
		}
		if len(states) != 3 || states[channel] != StateJoined || states["changed"] != StateJoined || states["added"] != StateJoined {
			t.Errorf("states %v", states)
		}
		alice.Leave()
		bob.Leave()
		carol.Leave()
		r.set.Close()
		all := r.recordings()
		for name, m := range map[string]*member.Member{channel: alice, "changed": bob} {
			if len(all[name]) != 1 {
				t.Fatalf("%s: %d recordings", name, len(all[name]))
			}
			checkWhole(t, all[name][0], m.Sent())
		}
	})
}

func TestAKindCanBeTurnedOffAndOnWhileTheOtherIsRecorded(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		both := Config{Channel: channel, Bot: "recorder", ReconnectWindow: aWindow}
		deaf := both
		deaf.SkipAudio = true
		alice := r.join(r.token("alice"), "alice")
		r.start(false)
		time.Sleep(5 * time.Second)
		r.apply(deaf)
		time.Sleep(3 * time.Second)
		r.apply(both)
		time.Sleep(5 * time.Second)
		alice.Leave()
		m := r.finish()
		if len(m.Streams) != 1 || len(m.Streams[0].Tracks) != 2 {
			t.Fatalf("streams %+v", m.Streams)
		}
		for _, track := range m.Streams[0].Tracks {
			if len(track.Parts) != 1 || track.Completeness < 0.99 {
				t.Errorf("%s: %d parts, complete to %.3f", track.Kind, len(track.Parts), track.Completeness)
			}
			if track.Kind == "video" {
				if len(track.Gaps) != 0 {
					t.Errorf("video: gap %+v", *track.Gaps[0])
				}
				continue
			}
			if len(track.Gaps) != 1 || track.Gaps[0].Reason != sink.ReasonMute || (time.Duration(track.Gaps[0].Duration)-3*time.Second).Abs() > 200*time.Millisecond {
				for _, gap := range track.Gaps {
					t.Errorf("audio: gap %+v", *gap)
				}
				t.Errorf("audio: %d gaps", len(track.Gaps))
			}
		}
	})
}

func TestOnlyStreamsOfAWantedRoleAreRecorded(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		screen := member.Track{StreamID: "alice-screen", TrackID: "alice-screen-video", MimeType: webrtc.MimeTypeVP8,
			Source: member.Picture(), Metadata: map[string]any{"role": "screen"}}
		nameless := member.Track{StreamID: "nameless", TrackID: "nameless-audio", MimeType: webrtc.MimeTypeOpus, Source: member.Sound()}
		config := Config{Channel: channel, Bot: "recorder", ReconnectWindow: aWindow, Roles: []string{"screen"}}
		r.start(false)
		r.apply(config)
		time.Sleep(settling)
		alice := r.enter(channel, "alice", append(camera("alice"), screen, nameless))
		ids := func() string {
			time.Sleep(4 * time.Second)
			var open []string
			for _, s := range r.recordings()[channel][0].Streams {
				if s.Ended == nil {
					open = append(open, s.ID)
				}
			}
			return strings.Join(open, " ")
		}
		if got := ids(); got != "alice-screen" {
			t.Errorf("with role screen: %q", got)
		}
		config.Roles = []string{"camera"}
		r.apply(config)
		if got := ids(); got != "alice" {
			t.Errorf("with role camera: %q", got)
		}
		config.Roles, config.SkipVideo = nil, true
		r.apply(config)
		if got := ids(); got != "alice nameless" {
			t.Errorf("sound of all roles: %q", got)
		}
		config.Roles, config.SkipVideo = []string{"screen"}, false
		r.apply(config)
		if got := ids(); got != "alice-screen" {
			t.Errorf("with role screen again: %q", got)
		}
		alice.Leave()
		m := r.finish()
		for _, s := range m.Streams {
			for _, track := range s.Tracks {
				if track.Kind == "audio" && track.Completeness < 0.99 { // pictures wait for the member's next key frame
					t.Errorf("%s: complete to %.3f, gaps %+v", track.ID, track.Completeness, *track.Gaps[0])
				}
			}
		}
	})
}

func TestAStreamThatGetsAnotherRoleIsRecordedByThat(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.start(false)
		r.apply(Config{Channel: channel, Bot: "recorder", ReconnectWindow: aWindow, Roles: []string{"screen"}})
		time.Sleep(settling)
		alice := r.enter(channel, "alice", []member.Track{{StreamID: "shared", TrackID: "shared-audio", MimeType: webrtc.MimeTypeOpus,
			Source: member.Sound(), Metadata: map[string]any{"role": "screen"}}})
		label := func(metadata string) {
			time.Sleep(10 * time.Second)
			r.server.Inject(r.bot(), &devserver.Direct{From: "alice", Data: json.RawMessage(`{"__meteredTrackMeta":{"trackId":"shared-audio"` + metadata + `}}`)})
		}
		label(`,"metadata":{"role":"camera"}`)
		label(`,"metadata":{"role":"screen"}`)
		label("") // cleared: nothing says that it is another
		time.Sleep(10 * time.Second)
		alice.Leave()
		time.Sleep(settling)
		var got []string
		for _, s := range r.finish().Streams {
			got = append(got, fmt.Sprintf("%.0f s: %s", s.Tracks[0].Recorded.Duration().Seconds(), s.EndReason))
		}
		if want := []string{"10 s: not recorded any more", "20 s: the member left"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// A member may label a track just after its offer, and correct that. One that has left has taken nothing back.
func TestTheManifestHasTheLatestLabels(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.start(true)
		time.Sleep(settling)
		tracks := camera("camera")
		for i := range tracks {
			tracks[i].Metadata = nil
		}
		alice := r.joinFrom(r.host(), r.token("alice"), tracks...)
		for _, role := range []string{"came late", "corrected"} {
			time.Sleep(3 * time.Second)
			r.server.Inject(r.bot(), &devserver.Direct{From: "alice", Data: json.RawMessage(`{"__meteredTrackMeta":{"trackId":"camera-audio","metadata":{"role":"` + role + `"}}}`)})
			time.Sleep(3 * time.Second)
			if role == "corrected" {
				alice.Leave()
				time.Sleep(3 * time.Second)
			}
			m := r.recordings()[channel][0]
			for what, metadata := range map[string]json.RawMessage{"stream": m.Streams[0].Metadata, "track": m.Streams[0].Tracks[0].Metadata} {
				var label struct{ Role string }
				if json.Unmarshal(metadata, &label) != nil || label.Role != role {
					t.Errorf("the %s is labelled %s, want %s", what, metadata, role)
				}
			}
		}
	})
}

func TestASessionEndsAtItsLimits(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config func(now time.Time) Config
		guest  time.Duration // how long somebody else is there
		after  time.Duration // when it is over
		reason string
	}{
		{"alone from the start", func(time.Time) Config { return Config{AloneTimeout: 5 * time.Second} },
			0, 5 * time.Second, "left, having been alone for 5s"},
		{"alone after a guest", func(time.Time) Config { return Config{AloneTimeout: 5 * time.Second} },
			4 * time.Second, 9 * time.Second, "left, having been alone for 5s"},
		{"longest stay", func(time.Time) Config { return Config{MaxDuration: 7 * time.Second} },
			20 * time.Second, 7 * time.Second, "left after the longest stay configured, 7s"},
		{"stop time", func(now time.Time) Config { return Config{Stop: now.Add(6 * time.Second)} },
			20 * time.Second, 6 * time.Second, "left at the configured time, 2000-01-01T00:00:06Z"},
		{"longest stay after a start time", func(now time.Time) Config {
			return Config{Start: now.Add(30 * time.Second), MaxDuration: 7 * time.Second}
		}, 0, 37 * time.Second, "left after the longest stay configured, 7s"},
		{"stop time that has passed", func(now time.Time) Config { return Config{Start: now.Add(time.Hour), Stop: now.Add(-time.Hour)} },
			0, 0, "left at the configured time, 1999-12-31T23:00:00Z"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inRig(t, devserver.Options{}, func(r *rig) {
				r.start(false)
				r.apply() // only the credential of start is of use
				config := tt.config(time.Now().UTC())
				config.Channel = "limited"
				began := time.Now()
				r.apply(config)
				if tt.guest > 0 {
					guest := r.enter("limited", "alice", camera("alice"))
					go func() {
						time.Sleep(tt.guest)
						guest.Leave()
					}()
				}
				session := r.set.sessions["limited"]
				<-session.done
				if d := time.Since(began) - tt.after; d < 0 || d > 800*time.Millisecond {
					t.Errorf("over after %v, want %v", time.Since(began), tt.after)
				}
				status := session.Status()
				if status.State != StateClosed || status.Err == nil || status.Err.Error() != tt.reason {
					t.Errorf("%v, %v", status.State, status.Err)
				}
				if n := len(r.recordings()["limited"]); tt.after == 0 && n > 0 {
					t.Errorf("%d recordings of a channel whose time was over", n)
				}
				for _, m := range r.recordings()["limited"] {
					if m.State != sink.StateComplete {
						t.Errorf("recording is %q", m.State)
					}
				}
				r.apply(config)
				if r.set.sessions["limited"] != session {
					t.Error("begun again, though nothing changed")
				}
				time.Sleep(tt.guest)
			})
		})
	}
}

func TestAChangedLimitBeginsASessionAgain(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.start(false)
		config := Config{Channel: channel, Bot: "recorder", AloneTimeout: time.Second}
		r.apply(config)
		time.Sleep(3 * time.Second)
		if s := r.set.Status()[0]; s.State != StateClosed {
			t.Fatalf("state %v", s.State)
		}
		config.AloneTimeout = time.Hour
		r.apply(config)
		time.Sleep(settling)
		if s := r.set.Status()[0]; s.State != StateJoined || s.Err != nil {
			t.Errorf("state %v, %v", s.State, s.Err)
		}
	})
}

func TestAFailedSessionIsTriedAgainByTheNextApply(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		right := false
		r.set = NewSet(Options{Root: r.root, API: r.api, Logger: r.log,
			Signaling: func(string) (*signaling.Client, error) {
				credential := signaling.StaticToken("no.token.atall")
				if right {
					credential = r.key()
				}
				return signaling.NewClient(signaling.Options{URL: "ws://127.0.0.1", Credential: credential, HTTPClient: r.http, Logger: r.log})
			}})
		config := Config{Channel: channel}
		r.apply(config)
		time.Sleep(settling)
		if s := r.set.Status()[0]; s.State != StateFailed {
			t.Fatalf("state %v", s.State)
		}
		right = true
		r.apply(config)
		time.Sleep(settling)
		if s := r.set.Status()[0]; s.State != StateJoined {
			t.Errorf("state %v, %v", s.State, s.Err)
		}
	})
}

// It may take a while to finish its files.
func TestAFailedSessionThatIsStillLeavingIsTriedAgain(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.set = NewSet(r.options(true))
		config := Config{Channel: channel}
		failed, err := New(config, r.options(true))
		r.must(err)
		r.set.sessions[channel] = &running{Session: failed, config: config}
		failed.setState(StateLeaving)
		go func() {
			time.Sleep(5 * time.Second)
			failed.setState(StateFailed)
			failed.hub.Close()
			close(failed.done)
		}()
		r.apply(config)
		time.Sleep(settling)
		if s := r.set.Status()[0]; s.State != StateJoined {
			t.Errorf("state %v, %v", s.State, s.Err)
			<-failed.done
			r.set = nil
		}
	})
}

func TestASessionThatWaitsForItsTimeCanBeLeft(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.start(false)
		time.Sleep(settling)
		r.apply(Config{Channel: channel, Start: time.Now().Add(time.Hour)})
		time.Sleep(settling)
		session := r.set.sessions[channel]
		if s := session.Status(); s.State != StateJoined { // it had begun: a start time holds nobody back who is there
			t.Errorf("state %v", s.State)
		}
		r.apply(Config{Channel: "later", Start: time.Now().Add(time.Hour)})
		time.Sleep(settling)
		session = r.set.sessions["later"]
		if s := session.Status(); s.State != StateIdle || len(r.recordings()["later"]) != 0 {
			t.Errorf("state %v", s.State)
		}
		r.apply()
		if s := session.Status(); s.State != StateClosed || s.Err != nil {
			t.Errorf("state %v, %v", s.State, s.Err)
		}
	})
}
