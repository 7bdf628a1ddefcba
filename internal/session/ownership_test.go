package session

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"recorder/internal/lab/devserver"
	"recorder/internal/lab/member"
	"recorder/internal/signaling"
	"recorder/internal/sink"
)

// slides is a picture that stands still for a while after so long, and so on, as a shared screen does.
func slides(moving, still time.Duration) member.Source {
	return func(yield func([]byte, time.Duration) bool) {
		var shown time.Duration
		for b := range member.Picture() {
			d := 100 * time.Millisecond
			if shown += d; shown >= moving {
				shown, d = 0, still
			}
			if !yield(b, d) {
				return
			}
		}
	}
}

// share has a member join that sends pictures to the bot alone, in a stream of one name for all.
func (r *rig) share(c signaling.Credential, track string, source member.Source) *member.Member {
	m, err := member.Join(context.Background(), member.Options{
		URL: "ws://127.0.0.1", Credential: c, Channel: channel, HTTPClient: r.http, Settings: r.host(),
		Meet:   func(peer string) bool { return peer == "recorder" },
		Tracks: []member.Track{{StreamID: "screen", TrackID: track, MimeType: webrtc.MimeTypeVP8, Source: source}},
	})
	r.must(err)
	r.defers(m.Leave)
	return m
}

// written is how many pictures of a track are in the files of the streams of a peer, and in those of others.
func written(m sink.Manifest, peer, track string) (own, others int) {
	for _, s := range m.Streams {
		for _, t := range s.Tracks {
			switch {
			case t.ID != track:
			case s.PeerID == peer:
				own += int(t.Ledger.FramesWritten)
			default:
				others += int(t.Ledger.FramesWritten)
			}
		}
	}
	return own, others
}

func sent(m *member.Member) (frames int) {
	for _, s := range m.Sent() {
		frames += s.Frames
	}
	return frames
}

// thefts are what others do with the name of a stream that its owner, who is in the channel, shares all the time:
// four seconds of pictures, and four in which the screen stands still.
var thefts = []struct {
	name string
	do   func(r *rig)
}{
	{"taken and left", func(r *rig) {
		time.Sleep(5700 * time.Millisecond) // the screen has stood still for 1.7 s
		mallory := r.share(r.token("mallory"), "m", slides(time.Hour, 0))
		time.Sleep(4 * time.Second)
		mallory.Leave()
	}},
	{"present before", func(r *rig) {
		mallory := r.join(r.token("mallory"), "other")
		time.Sleep(5700 * time.Millisecond)
		mallory.Publish(member.Track{StreamID: "screen", TrackID: "m", MimeType: webrtc.MimeTypeVP8, Source: slides(time.Hour, 0)})
		time.Sleep(4 * time.Second)
		mallory.Leave()
	}},
	{"two thieves", func(r *rig) {
		time.Sleep(5 * time.Second)
		one := r.share(r.token("mallory"), "m", slides(time.Hour, 0))
		two := r.share(r.token("trudy"), "t", slides(time.Hour, 0))
		time.Sleep(5 * time.Second)
		one.Leave()
		time.Sleep(time.Second)
		two.Leave()
	}},
	{"again and again", func(r *rig) {
		for i := range 5 {
			thief := r.share(r.token(fmt.Sprint("mallory-", i)), "m", slides(time.Hour, 0))
			time.Sleep(2300 * time.Millisecond)
			thief.Leave()
		}
	}},
	{"while the recording is followed by another", func(r *rig) {
		time.Sleep(5700 * time.Millisecond)
		mallory := r.share(r.token("mallory"), "m", slides(time.Hour, 0))
		time.Sleep(300 * time.Millisecond)
		r.on(func(s *Session) { fill(r.t, &s.bindings) })
		time.Sleep(4 * time.Second)
		mallory.Leave()
	}},
	{"while its owner's socket is reset", func(r *rig) {
		time.Sleep(5 * time.Second)
		r.server.Drop("victim", devserver.Drop{})
		mallory := r.share(r.token("mallory"), "m", slides(time.Hour, 0))
		time.Sleep(6 * time.Second)
		mallory.Leave()
	}},
	{"while its owner's socket is reset and nobody is told", func(r *rig) {
		time.Sleep(4500 * time.Millisecond)
		mallory := r.share(r.token("mallory"), "m", slides(time.Hour, 0))
		r.server.Drop("victim", devserver.Drop{Presence: devserver.Silent})
		time.Sleep(6 * time.Second)
		mallory.Leave()
	}},
}

// Whatever others claim, a member that is in the channel keeps its files, and nothing of it is lost.
func TestAMemberThatIsThereKeepsItsFilesWhoeverClaimsThem(t *testing.T) {
	for _, theft := range thefts {
		t.Run(theft.name, func(t *testing.T) {
			inRig(t, devserver.Options{}, func(r *rig) {
				r.startWith(3 * time.Second)
				time.Sleep(settling)
				victim := r.share(r.token("victim"), "v", slides(4*time.Second, 4*time.Second))
				theft.do(r)
				time.Sleep(30 * time.Second)
				victim.Leave()
				time.Sleep(time.Second)
				r.set.Close()
				r.set = nil
				all := sent(victim)
				var own, others, stolen int
				for _, m := range r.recordings()[channel] {
					o, other := written(m, "victim", "v")
					foreign, _ := written(m, "victim", "m")
					own, others, stolen = own+o, others+other, stolen+foreign
				}
				t.Logf("%d of %d pictures", own, all)
				if own < all-20 || others > 0 {
					t.Errorf("of %d pictures %d are in the victim's files and %d in others'", all, own, others)
				}
				if stolen > 0 {
					t.Errorf("%d pictures of another are in the victim's files", stolen)
				}
			})
		})
	}
}

// After a restart each member finds its own files, whoever asks first.
func TestNobodyFindsTheFilesOfAMemberThatIsThereAfterARestart(t *testing.T) {
	for name, first := range map[string]string{"the owner is first": "victim", "another is first": "mallory"} {
		t.Run(name, func(t *testing.T) {
			inRig(t, devserver.Options{}, func(r *rig) {
				r.share(r.token("victim"), "v", slides(4*time.Second, 2*time.Second))
				r.startWith(aWindow)
				time.Sleep(6 * time.Second)
				// Whose offer comes first is recorded first: that of the other is held up.
				r.server.Intercept(func(to string, frame any) devserver.Verdict {
					if d, ok := frame.(*devserver.Direct); ok && to == "recorder" && d.From != first {
						return devserver.Delay(300 * time.Millisecond)
					}
					return devserver.Pass
				})
				r.share(r.token("mallory"), "m", slides(time.Hour, 0))
				r.restart(context.Background(), 2*time.Second, aWindow)
				time.Sleep(30 * time.Second)
				m := r.finish()
				for _, s := range m.Streams {
					for _, track := range s.Tracks {
						t.Logf("%s of %s: %s, %v recorded, %d reconnects", track.ID, s.PeerID, s.Dir, track.Recorded.Duration(), len(s.Reconnects))
						if (track.ID == "v") != (s.PeerID == "victim") {
							t.Errorf("track %s is in the files of %s", track.ID, s.PeerID)
						}
					}
				}
				if n := len(of(m, "victim").Streams); n != 1 {
					t.Errorf("%d streams of the victim, want one", n)
				}
			})
		})
	}
}

// Whatever closes the files of a stream that is sent, its owner notices, says so and goes on in others.
func TestAMemberWhoseFilesWereClosedGoesOnInOthers(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		var log printed
		r.log = slog.New(slog.NewTextHandler(&log, nil))
		r.start(true)
		time.Sleep(settling)
		r.join(r.token(aliceID), "camera")
		time.Sleep(5 * time.Second)
		for range 2 {
			r.on(func(s *Session) { s.bindings.streams[0].sink.Close("by mistake") })
			time.Sleep(5 * time.Second)
		}
		if n := log.said("the files of a stream were closed while it was sent"); n != 2 {
			t.Errorf("said %d times", n)
		}
		m := r.finish()
		if len(m.Streams) != 3 {
			t.Fatalf("%d streams, want 3", len(m.Streams))
		}
		for i, s := range m.Streams {
			for _, track := range s.Tracks {
				if d := track.Recorded.Duration(); d < 3500*time.Millisecond || len(track.Parts) != 1 {
					t.Errorf("stream %d, %s: %v recorded in %d files", i, track.Kind, d, len(track.Parts))
				}
			}
		}
	})
}
