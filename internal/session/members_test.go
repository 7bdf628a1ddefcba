package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"recorder/internal/lab/devserver"
	"recorder/internal/lab/member"
	"recorder/internal/signaling"
)

// offerOf is an offer by hand of so many streams, STREAM00 and on.
func offerOf(r *rig, streams int) string {
	s := webrtc.SettingEngine{}
	r.host()(&s)
	pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(s)).NewPeerConnection(webrtc.Configuration{})
	r.must(err)
	r.defers(func() { pc.Close() })
	for i := range streams {
		track, err := webrtc.NewTrackLocalStaticSample(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000},
			fmt.Sprintf("TRK%02d", i), fmt.Sprintf("STREAM%02d", i))
		r.must(err)
		_, err = pc.AddTransceiverFromTrack(track, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
		r.must(err)
	}
	offer, err := pc.CreateOffer(nil)
	r.must(err)
	return offer.SDP
}

// screen has a member join that shares a screen of one picture each 1.5 s.
func (r *rig) screen(id, track string) *member.Member {
	m, err := member.Join(context.Background(), member.Options{
		URL: "ws://127.0.0.1", Credential: r.token(id), Channel: channel, HTTPClient: r.http, Settings: r.host(),
		Meet: func(peer string) bool { return peer == "recorder" },
		Tracks: []member.Track{{StreamID: "screen", TrackID: track, MimeType: webrtc.MimeTypeVP8, Source: func(yield func([]byte, time.Duration) bool) {
			for b := range member.Picture() {
				if !yield(b, 1500*time.Millisecond) {
					return
				}
			}
		}}},
	})
	r.must(err)
	r.defers(m.Leave)
	return m
}

// on runs f where the session's state is owned.
func (r *rig) on(f func(s *Session)) {
	s := r.set.sessions[channel].Session
	done := make(chan struct{})
	s.post(func() { f(s); close(done) })
	<-done
}

func TestAStaleLeaveBeforeOurOwnOutageLosesNothing(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		alice := r.join(r.token("alice"), "camera")
		r.startWith(2 * time.Minute)
		time.Sleep(5 * time.Second)
		r.server.Inject(r.bot(), &devserver.Presence{Channel: channel, Joined: []devserver.Member{}, Left: []devserver.Member{{PeerID: "alice"}}})
		time.Sleep(100 * time.Millisecond)
		r.server.Refuse(503)
		r.server.Drop(r.bot(), devserver.Drop{Presence: devserver.Silent})
		time.Sleep(20 * time.Second)
		r.server.Refuse(0)
		time.Sleep(20 * time.Second)
		alice.Leave()
		m := r.finish()
		r.checkOneStream(m, outcome{})
	})
}

func TestASenderThatIsDisplacedGetsAStreamOfItsOwn(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(10 * time.Second)
		time.Sleep(settling)
		alice := r.screen("alice", "a-video")
		time.Sleep(20 * time.Second)
		mallory := r.screen("mallory", "m-video")
		time.Sleep(40 * time.Second)
		var played time.Duration
		for _, s := range append(alice.Sent(), mallory.Sent()...) {
			played += s.Played
		}
		alice.Leave()
		m := r.finish()
		var recorded time.Duration
		for _, s := range m.Streams {
			for _, track := range s.Tracks {
				for _, p := range track.Parts {
					t.Logf("%s of %s: %v recorded in %s", track.ID, s.PeerID, time.Duration(track.Recorded), p.File)
				}
				recorded += time.Duration(track.Recorded)
			}
		}
		if recorded < played-15*time.Second {
			t.Errorf("%v of the %v of both are recorded", recorded, played)
		}
	})
}

// Bob waits for a stream id that alice has while nothing comes from her, and gets a stream of his own.
func TestAMemberThatCannotBeHeardForAMomentKeepsItsFiles(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(time.Minute)
		time.Sleep(settling)
		r.join(r.token("alice"), "camera")
		time.Sleep(5 * time.Second)
		r.dead.Store("10.0.0.2", true) // alice
		time.Sleep(300 * time.Millisecond)
		r.join(r.token("bob"), "camera")
		time.Sleep(2500 * time.Millisecond)
		r.dead.Delete("10.0.0.2")
		time.Sleep(30 * time.Second)
		m := r.finish()
		if len(m.Streams) != 2 {
			t.Fatalf("%d streams, want one of each", len(m.Streams))
		}
		for _, s := range m.Streams {
			for _, track := range s.Tracks {
				if track.Recorded.Duration() < 30*time.Second || len(track.Parts) != 1 || len(s.Reconnects) > 1 {
					t.Errorf("%s of %s: %v are recorded in %d files", track.Kind, s.PeerID, track.Recorded.Duration(), len(track.Parts))
				}
			}
		}
	})
}

func TestOneMemberCannotTakeEverybodysPlaces(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.start(true)
		time.Sleep(settling)
		mallory := r.speak("mallory")
		sdp := offerOf(r, 12)
		for i := range 20 {
			<-mallory.SendAsync(r.bot(), description("offer", strings.ReplaceAll(sdp, "STREAM", fmt.Sprintf("s%d-", i))))
			<-mallory.SendAsync(r.bot(), description("offer", strings.ReplaceAll(sdp, "a=sendonly", "a=inactive")))
			time.Sleep(20 * time.Millisecond)
		}
		alice := r.join(r.token("alice"), "alice-camera")
		time.Sleep(5 * time.Second)
		alice.Leave()
		m := r.finish()
		streams := make(map[string]int)
		for _, s := range m.Streams {
			streams[s.PeerID]++
		}
		if streams["alice"] != 1 || streams["mallory"] > maxStreams {
			t.Errorf("streams by member: %v", streams)
		}
	})
}

func TestAMemberThatNeverConnectedDoesNotCutTheOthers(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(30 * time.Second)
		time.Sleep(settling)
		alice := r.join(r.token("alice"), "camera")
		time.Sleep(5 * time.Second)
		bob := r.speak("bob")
		<-bob.SendAsync(r.bot(), description("offer", offerOf(r, 1)))
		time.Sleep(90 * time.Second)
		toBot := slices.DeleteFunc(alice.Sent(), func(s member.Sent) bool { return s.Peer != "recorder" })
		if len(toBot) != 2 {
			t.Errorf("alice's connection was made anew: %v", toBot)
		}
	})
}

func TestReenteringWithoutAnAckStillReenters(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.start(true)
		r.join(r.token("alice"), "camera")
		time.Sleep(5 * time.Second)
		ack := func(to string, frame any) bool {
			_, ok := frame.(*devserver.Ack)
			return ok && to == r.bot()
		}
		r.on(func(s *Session) {
			r.server.Next(ack, devserver.Lose)
			s.reenter(time.Now())
		})
		time.Sleep(time.Minute)
		if members := r.server.Members(channel); len(members) != 2 {
			t.Errorf("in the channel: %v", members)
		}
	})
}

func TestADropWhileReenteringKeepsUsOutNoLonger(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(time.Minute)
		r.join(r.token("alice"), "camera")
		time.Sleep(5 * time.Second)
		ack := func(to string, frame any) bool {
			_, ok := frame.(*devserver.Ack)
			return ok && to == "recorder"
		}
		r.on(func(s *Session) {
			r.server.Next(ack, devserver.Lose)
			s.reenter(time.Now())
		})
		time.Sleep(time.Second)
		r.server.Drop("recorder", devserver.Drop{})
		time.Sleep(settling)
		if members := r.server.Members(channel); len(members) != 2 {
			t.Errorf("in the channel: %v", members)
		}
	})
}

func TestANewTrackIDAcrossASwapContinuesTheFile(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(30 * time.Second)
		time.Sleep(settling)
		join := func(suffix string) *member.Member {
			tracks := camera("camera")
			for i := range tracks {
				tracks[i].TrackID += suffix
			}
			m, err := member.Join(context.Background(), member.Options{
				URL: "ws://127.0.0.1", Credential: r.token("alice"), Channel: channel, HTTPClient: r.http, Settings: r.host(), Tracks: tracks,
			})
			r.must(err)
			r.defers(m.Leave)
			return m
		}
		r.server.Takeover(&devserver.Drop{Presence: devserver.Silent})
		first := join("-1")
		time.Sleep(5 * time.Second)
		second := join("-2")
		time.Sleep(5 * time.Second)
		first.Leave()
		second.Leave()
		for _, s := range r.finish().Streams {
			if len(s.Tracks) != 2 {
				t.Errorf("stream %q of %q has %d tracks", s.ID, s.PeerID, len(s.Tracks))
			}
		}
	})
}

// Alice's other track is announced first, and takes nothing from the one that is back.
func TestATrackThatComesWithOneThatReturnsIsRecordedBesideIt(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("over a restart %v", restart), func(t *testing.T) {
			inRig(t, devserver.Options{}, func(r *rig) {
				r.startWith(time.Minute)
				time.Sleep(settling)
				known := camera("camera")[1]
				other := camera("camera")[1]
				other.TrackID = "other-video"
				alice := r.joinFrom(r.host(), r.token("alice"), known)
				time.Sleep(5 * time.Second)
				alice.Leave()
				time.Sleep(2 * time.Second)
				if restart {
					r.restart(context.Background(), 2*time.Second, time.Minute)
				}
				alice = r.joinFrom(r.host(), r.token("alice"), other, known)
				time.Sleep(20 * time.Second)
				alice.Leave()
				m := r.finish()
				if len(m.Streams) != 1 {
					t.Fatalf("%d streams", len(m.Streams))
				}
				recorded := make(map[string]time.Duration)
				for _, track := range m.Streams[0].Tracks {
					recorded[track.ID] = track.Recorded.Duration()
				}
				if len(recorded) != 2 || recorded["camera-video"] < 23*time.Second || recorded["other-video"] < 18*time.Second {
					t.Errorf("recorded %v", recorded)
				}
			})
		})
	}
}

// The file of the one goes on with the other, and is that one's when the first is sent, too.
func TestATrackThatReturnsBesideItsSuccessorIsRecordedBesideIt(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(time.Minute)
		time.Sleep(settling)
		first := camera("camera")[1]
		second := camera("camera")[1]
		second.TrackID = "second-video"
		alice := r.joinFrom(r.host(), r.token("alice"), first)
		time.Sleep(5 * time.Second)
		alice.Leave()
		alice = r.joinFrom(r.host(), r.token("alice"), second)
		time.Sleep(5 * time.Second)
		alice.Publish(r.tape.Record(first))
		time.Sleep(20 * time.Second)
		alice.Leave()
		m := r.finish()
		if len(m.Streams) != 1 || len(m.Streams[0].Tracks) != 2 {
			t.Fatalf("streams %+v", m.Streams)
		}
		tracks := m.Streams[0].Tracks
		if one, two := tracks[0].Recorded.Duration(), tracks[1].Recorded.Duration(); one < 28*time.Second || two < 18*time.Second {
			t.Errorf("%v and %v are recorded", one, two)
		}
		if tracks[0].ID != "second-video" || tracks[1].ID != "camera-video" {
			t.Errorf("tracks %q and %q", tracks[0].ID, tracks[1].ID)
		}
	})
}

func TestAUsedUpQuotaDoesNotEndARecording(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.start(true)
		time.Sleep(settling)
		r.on(func(s *Session) {
			s.subscribeFailed(&signaling.RequestError{Op: "subscribe", Target: channel, Code: signaling.CodeOverMessageQuota})
		})
		time.Sleep(settling)
		if state := r.set.Status()[0].State; state != StateJoined {
			t.Errorf("the session is %v", state)
		}
	})
}

func TestAnUnwantedTrackWaitsOnce(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.set = NewSet(r.options(true))
		r.must(r.set.Apply([]Config{{Channel: channel, Bot: "recorder", ReconnectWindow: aWindow, SkipVideo: true}}))
		time.Sleep(settling)
		mallory := r.speak("mallory")
		sdp := offerOf(r, 1)
		for i := range 50 {
			<-mallory.SendAsync(r.bot(), description("offer", strings.ReplaceAll(sdp, "STREAM00", fmt.Sprintf("s%d", i))))
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(settling)
		r.on(func(s *Session) {
			if n := len(s.bindings.waiting); n > 1 {
				t.Errorf("%d arrivals of one track wait", n)
			}
		})
	})
}

func TestAMissingSendPermissionIsSaidClearly(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		o := r.options(true)
		o.Signaling = func(string) (*signaling.Client, error) {
			mute, err := signaling.NewSecretKey(signaling.SecretKeyOptions{
				ID: keyID, Secret: secret, PeerID: "recorder", Channels: []string{"*"}, TTL: time.Hour, Permissions: []string{"subscribe", "presence"},
			})
			r.must(err)
			return signaling.NewClient(signaling.Options{URL: "ws://127.0.0.1", Credential: mute, HTTPClient: r.http, Logger: r.log})
		}
		r.set = NewSet(o)
		r.must(r.set.Apply([]Config{{Channel: channel, Bot: "recorder", ReconnectWindow: aWindow}}))
		time.Sleep(settling)
		r.join(r.token("alice"), "camera")
		time.Sleep(settling)
		if err := r.set.Status()[0].Err; !errors.Is(err, errNoSendPermission) {
			t.Errorf("the session's error is %v", err)
		}
	})
}

func TestMembersThatBeginOneStreamIDAtOnceAreKeptApart(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.start(true)
		time.Sleep(settling)
		for i := range 6 {
			r.join(r.token(fmt.Sprintf("visitor-%d", i)), "camera")
		}
		time.Sleep(10 * time.Second)
		m := r.finish()
		if len(m.Streams) != 6 {
			t.Errorf("%d streams of 6 members", len(m.Streams))
		}
		for _, s := range m.Streams {
			for _, track := range s.Tracks {
				if len(track.Parts) != 1 || time.Duration(track.Recorded) < 5*time.Second {
					t.Errorf("%s of %s: %d parts, %v recorded", track.Kind, s.PeerID, len(track.Parts), time.Duration(track.Recorded))
				}
			}
		}
	})
}
