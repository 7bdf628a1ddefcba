package session

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"recorder/internal/lab/devserver"
	"recorder/internal/signaling"
)

// outlasting is longer than all that is tried at once to bring a path back, and a retry follows soon.
const outlasting = retryPause

// recorded ends the recording and returns how much of sound and pictures there is in it together.
func (r *rig) recorded() (all time.Duration) {
	for _, s := range r.finish().Streams {
		for _, track := range s.Tracks {
			all += track.Recorded.Duration()
		}
	}
	return all
}

// wantRecorded wants nearly all of what picture and sound of a time come to.
func (r *rig) wantRecorded(of, lost time.Duration) {
	r.t.Helper()
	if d := r.recorded(); d < 2*(of-lost) {
		r.t.Errorf("%v of sound and pictures of %v are recorded, together", d, of)
	}
}

func TestAPathThatIsDownForLongIsTriedAgainForEver(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(3 * time.Second)
		time.Sleep(settling)
		alice := r.joinFrom(r.host(), r.token(aliceID), camera("camera")[:1]...)
		time.Sleep(5 * time.Second)
		r.cut.Store(true)
		time.Sleep(2 * outlasting) // entering the channel again helps for some minutes
		r.cut.Store(false)
		time.Sleep(2 * time.Minute)
		alice.Leave()
		if d := r.recorded(); d < time.Minute {
			t.Errorf("%v are recorded", d)
		}
	})
}

func TestAMemberThatJoinsWhileThePathIsDownIsReachedInTheEnd(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(3 * time.Second)
		time.Sleep(settling)
		r.cut.Store(true)
		alice := r.joinFrom(r.host(), r.token(aliceID), camera("camera")[:1]...)
		time.Sleep(outlasting)
		r.cut.Store(false)
		time.Sleep(2 * time.Minute)
		alice.Leave()
		if d := r.recorded(); d < time.Minute {
			t.Errorf("%v are recorded", d)
		}
	})
}

// The member has the larger id: it waits for the answer, and ignores offers of the bot's.
func TestAnAnswerThatIsLostWithTheSocketIsMadeUpFor(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(time.Minute)
		time.Sleep(settling)
		remove := r.server.Intercept(func(to string, frame any) devserver.Verdict {
			if d, ok := frame.(*devserver.Direct); ok && to == "zoe" && d.From == "recorder" {
				return devserver.Lose
			}
			return devserver.Pass
		})
		zoe := r.join(r.token("zoe"), "camera")
		time.Sleep(200 * time.Millisecond)
		r.server.Refuse(503)
		r.server.Drop(r.bot(), devserver.Drop{Presence: devserver.Silent})
		time.Sleep(30 * time.Second)
		remove()
		r.server.Refuse(0)
		time.Sleep(3 * time.Minute)
		zoe.Leave()
		r.wantRecorded(3*time.Minute, time.Minute)
	})
}

// It offers to a socket of the bot's that is gone, which the service has not noticed.
func TestAMemberThatJoinsWhileTheBotIsAwayIsRecorded(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(time.Minute)
		time.Sleep(settling)
		r.server.Drop(r.bot(), devserver.Drop{Presence: devserver.Silent})
		time.Sleep(100 * time.Millisecond)
		alice := r.join(r.token(aliceID), "camera")
		time.Sleep(2 * time.Minute)
		alice.Leave()
		r.wantRecorded(2*time.Minute, newcomerPatience+5*time.Second)
	})
}

// Members that join while the bot is away, and have nothing to send, do not cut the others time and again.
func TestViewersCutNobodyOff(t *testing.T) {
	for name, most := range map[string]int{"key": 0, "token": 1} {
		t.Run(name, func(t *testing.T) {
			inRig(t, devserver.Options{}, func(r *rig) {
				r.start(name == "token")
				time.Sleep(settling)
				r.join(r.token(aliceID), "camera")
				time.Sleep(5 * time.Second)
				entered, last := 0, time.Time{}
				for i := range 3 {
					r.server.Drop(r.bot(), devserver.Drop{})
					time.Sleep(100 * time.Millisecond)
					r.joinFrom(r.host(), r.token(fmt.Sprint("viewer-", i)))
					for range 25 {
						time.Sleep(time.Second)
						r.on(func(s *Session) {
							if s.reentry.allowed != last {
								entered, last = entered+1, s.reentry.allowed
							}
						})
					}
				}
				if entered > most {
					t.Errorf("the channel was entered again %d times for three viewers", entered)
				}
				r.finish()
			})
		})
	}
}

// A connection that takes another's place may take its time. That is no silence of the member's.
func TestASlowFreshConnectionIsNoSilence(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(time.Minute)
		time.Sleep(settling)
		alice := r.join(r.token(aliceID), "camera")
		time.Sleep(10 * time.Second)
		r.on(func(s *Session) { s.reenter(time.Now()) })
		r.cutFor(8 * time.Second)
		time.Sleep(20 * time.Second)
		alice.Leave()
		r.checkOneStream(r.finish(), outcome{minGap: 7 * time.Second, maxGap: 9 * time.Second})
	})
}

func TestAStaleLeaveWhileAConnectionIsMadeLosesNobody(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(time.Minute)
		time.Sleep(settling)
		r.cut.Store(true) // it takes a moment
		alice := r.join(r.token(aliceID), "camera")
		time.Sleep(300 * time.Millisecond)
		r.server.Inject(r.bot(), &devserver.Presence{Channel: channel, Joined: []devserver.Member{}, Left: []devserver.Member{{PeerID: aliceID}}})
		time.Sleep(200 * time.Millisecond)
		r.cut.Store(false)
		time.Sleep(time.Minute)
		alice.Leave()
		r.wantRecorded(time.Minute, 5*time.Second)
	})
}

func TestAStreamThatWasTakenAwayHoldsNoPlace(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.set = NewSet(r.options(true))
		r.must(r.set.Apply([]Config{{Channel: channel, Bot: "recorder", ReconnectWindow: 10 * time.Minute, MaxStreams: 2}}))
		time.Sleep(settling)
		alice := r.join(r.token(aliceID), "camera")
		for _, name := range []string{"screen-1", "screen-2"} {
			for _, track := range camera(name) {
				alice.Publish(r.tape.Record(track))
			}
			time.Sleep(10 * time.Second)
			alice.Unpublish(name)
			time.Sleep(5 * time.Second)
		}
		alice.Leave()
		var ids []string
		for _, s := range r.finish().Streams {
			ids = append(ids, s.ID)
		}
		if got := fmt.Sprint(ids); got != "[camera screen-1 screen-2]" {
			t.Errorf("streams %s", got)
		}
	})
}

// Two members have one stream id, and the first has fallen silent.
func TestATrackGoesToTheStreamOfItsOwnMember(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(time.Minute)
		time.Sleep(settling)
		r.joinFrom(r.host(), r.token(aliceID), camera("camera")[:1]...)
		time.Sleep(2 * time.Second)
		mallory := r.joinFrom(r.host(), r.token("mallory"), camera("camera")[:1]...)
		time.Sleep(5 * time.Second)
		r.dead.Store("10.0.0.2", true) // alice's address
		time.Sleep(8 * time.Second)
		mallory.Publish(r.tape.Record(camera("camera")[1]))
		time.Sleep(10 * time.Second)
		for _, s := range r.finish().Streams {
			if n := len(s.Tracks); (n == 2) != (s.PeerID == "mallory") {
				t.Errorf("%d tracks in the stream of %s", n, s.PeerID)
			}
		}
	})
}

// In one description a track moves to another stream, and another takes its place.
func TestATrackThatMovesGoesOn(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(time.Minute)
		time.Sleep(settling)
		r.server.Intercept(func(to string, frame any) devserver.Verdict {
			if d, ok := frame.(*devserver.Direct); ok && to == "recorder" && bytes.Contains(d.Data, []byte("second-video")) {
				d.Data = []byte(strings.NewReplacer("camera camera-video", "moved camera-video", "second second-video", "camera second-video").
					Replace(string(d.Data)))
			}
			return devserver.Pass
		})
		alice := r.join(r.token(aliceID), "camera")
		time.Sleep(5 * time.Second)
		alice.Publish(r.tape.Record(camera("second")[1]))
		time.Sleep(20 * time.Second)
		alice.Leave()
		recorded := make(map[string]time.Duration)
		for _, s := range r.finish().Streams {
			for _, track := range s.Tracks {
				recorded[track.ID] += track.Recorded.Duration()
			}
		}
		for id, least := range map[string]time.Duration{"camera-audio": 24 * time.Second, "camera-video": 24 * time.Second, "second-video": 18 * time.Second} {
			if recorded[id] < least {
				t.Errorf("%v of %s are recorded, want %v", recorded[id], id, least)
			}
		}
	})
}

// A member renames the sections of its connection with every offer, each of which pion keeps.
func TestSectionsOfAConnectionAreBounded(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.start(true)
		time.Sleep(settling)
		var offer []byte
		remove := r.server.Intercept(func(to string, frame any) devserver.Verdict {
			if d, ok := frame.(*devserver.Direct); ok && to == "recorder" && bytes.Contains(d.Data, []byte(`"offer"`)) {
				offer = bytes.Clone(d.Data)
			}
			return devserver.Pass
		})
		r.join(r.token(aliceID), "camera")
		time.Sleep(settling)
		remove()
		most := 0
		for i := range 150 {
			text := strings.NewReplacer("BUNDLE 0 1", fmt.Sprintf("BUNDLE a%d b%d", i, i),
				`a=mid:0\r`, fmt.Sprintf(`a=mid:a%d\r`, i), `a=mid:1\r`, fmt.Sprintf(`a=mid:b%d\r`, i)).Replace(string(offer))
			r.server.Inject("recorder", &devserver.Direct{From: aliceID, Data: []byte(text)})
			time.Sleep(600 * time.Millisecond)
			r.on(func(s *Session) {
				if pc := s.members[aliceID].peer.PeerConnection(); pc != nil {
					most = max(most, len(pc.GetTransceivers()))
				}
			})
		}
		if most < 200 || most > 260 {
			t.Errorf("up to %d sections at once", most)
		}
	})
}

// A credential that lacks the permission to send is replaced.
func TestAPermissionThatIsGivenLaterIsNoTroubleAnyMore(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		o := r.options(true)
		permissions := []string{"subscribe", "presence"}
		o.Signaling = func(string) (*signaling.Client, error) {
			return signaling.NewClient(signaling.Options{URL: "ws://127.0.0.1", HTTPClient: r.http, Logger: r.log, Credential: reloaded(func() signaling.Credential {
				c, err := signaling.NewSecretKey(signaling.SecretKeyOptions{
					ID: keyID, Secret: secret, PeerID: "recorder", Channels: []string{"*"}, TTL: time.Hour, Permissions: permissions,
				})
				r.must(err)
				return c
			})})
		}
		r.set = NewSet(o)
		r.must(r.set.Apply([]Config{{Channel: channel, Bot: "recorder", ReconnectWindow: aWindow}}))
		time.Sleep(settling)
		r.join(r.token(aliceID), "camera")
		time.Sleep(settling)
		if s := r.set.Status()[0]; s.Err == nil {
			t.Fatal("the permission is not missed")
		}
		permissions = append(permissions, "send")
		r.server.Drop(r.bot(), devserver.Drop{})
		time.Sleep(10 * time.Second)
		if s := r.set.Status()[0]; s.Err != nil {
			t.Error(s.Err)
		}
	})
}

// reloaded is whatever credential the function returns now.
type reloaded func() signaling.Credential

func (c reloaded) Authorize(ctx context.Context) (string, string, error) { return c().Authorize(ctx) }
func (c reloaded) Renewable() bool                                       { return true }
func (c reloaded) String() string                                        { return "reloaded" }
