package session

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"recorder/internal/lab/devserver"
	"recorder/internal/sink"
)

// tokenLife is how long the bot's tokens live in tests that cross their end.
const tokenLife = time.Minute

// taken is how a service treats a second connection under one peer id, and what that may cost.
var taken = []struct {
	name string
	how  *devserver.Drop
	gap  time.Duration // at the first expiry; 0: none
}{
	{"both stay", nil, 0},
	{"silent", &devserver.Drop{Presence: devserver.Silent}, 0},
	{"silent, with a close code",
		&devserver.Drop{Presence: devserver.Silent, Code: devserver.ClosePolicy}, 0},
	{"silent, closed as by an admin",
		&devserver.Drop{Presence: devserver.Silent, Code: devserver.CloseAdminDisconnect}, 0},
	{"left at once", &devserver.Drop{Presence: devserver.LeftAtOnce}, time.Second},
	{"flap", &devserver.Drop{Presence: devserver.FlapTwoFrames}, time.Second},
	{"flap in one", &devserver.Drop{Presence: devserver.FlapOneFrame}, time.Second},
	{"stale left at once",
		&devserver.Drop{Presence: devserver.StaleLeft, Stale: 50 * time.Millisecond}, time.Second},
	{"stale left",
		&devserver.Drop{Presence: devserver.StaleLeft, Stale: 4 * time.Second}, time.Second},
}

func TestATokenThatEndsCostsNoMediaOrLessThanASecond(t *testing.T) {
	for _, tt := range taken {
		t.Run(tt.name, func(t *testing.T) {
			inRig(t, devserver.Options{}, func(r *rig) {
				r.ttl = tokenLife
				r.server.Takeover(tt.how)
				alice := r.joinFrom(r.host(), r.token(aliceID), camera("camera")...)
				r.startWith(aWindow)
				time.Sleep(tokenLife + 5*time.Second)
				firstResets, _ := r.referee.counts()
				time.Sleep(tokenLife)
				if s := r.set.Status()[0]; s.State != StateJoined || len(s.Peers) != 1 {
					t.Errorf("the session is %v, with %d members", s.State, len(s.Peers))
				}
				took, replaced := r.renewed("took_over"), r.renewed("replaced")
				if n := took + replaced; n < 2 || n > 3 || tt.gap == 0 && replaced > 0 ||
					tt.gap > 0 && took != 1 {
					t.Errorf("renewed %v times by taking over, %v times otherwise", took, replaced)
				}
				alice.Leave()
				want := outcome{maxGap: tt.gap, drops: 3}
				if tt.gap > 0 {
					want.maxGap *= time.Duration(took + replaced)
				}
				m := r.finish()
				r.checkOneStream(m, want)
				for _, track := range m.Streams[0].Tracks {
					for _, gap := range track.Gaps {
						if d := gap.Duration.Duration(); d > time.Second {
							t.Errorf("%s: gap of %v", track.Kind, d)
						}
					}
				}
				if resets, _ := r.referee.counts(); tt.gap == 0 && (firstResets > 0 || resets > 0) {
					t.Errorf("the connection was replaced %d times", resets)
				}
			})
		})
	}
}

// renewed is how many renewals of the test's channel ended like that.
func (r *rig) renewed(result string) (n float64) {
	families, err := r.reg.Gather()
	r.must(err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == "recorder_signaling_renewals_total" && l.GetValue() == result {
					n += m.GetCounter().GetValue()
				}
			}
		}
	}
	return n
}

func TestLiveConnectionsGetTheServersOfARenewal(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.ttl = tokenLife
		welcomes := 0
		r.server.Intercept(func(to string, frame any) devserver.Verdict {
			if w, ok := frame.(*devserver.Welcome); ok && to == "recorder" {
				welcomes++
				w.Metadata = json.RawMessage(fmt.Sprintf(
					`{"iceServers":[{"urls":"turn:10.0.0.200:3478","username":"u","credential":"c%d"}]}`, welcomes))
			}
			return devserver.Pass
		})
		r.join(r.token(aliceID), "camera")
		r.startWith(aWindow)
		time.Sleep(tokenLife + 5*time.Second)
		servers := r.set.Status()[0].Peers[0].PeerConnection().GetConfiguration().ICEServers
		if welcomes != 2 || len(servers) != 1 || servers[0].Credential != "c2" {
			t.Errorf("%d welcomes, servers %+v", welcomes, servers)
		}
	})
}

// wantGaps wants no gap in the one stream of a manifest to be longer, and no more of them.
func (r *rig) wantGaps(m sink.Manifest, longest time.Duration, most int) {
	r.t.Helper()
	if len(m.Streams) != 1 {
		r.t.Fatalf("%d streams", len(m.Streams))
	}
	for _, track := range m.Streams[0].Tracks {
		if n := len(track.Gaps); n > most {
			r.t.Errorf("%s: %d gaps", track.Kind, n)
		}
		for _, gap := range track.Gaps {
			if d := gap.Duration.Duration(); d > longest {
				r.t.Errorf("%s: gap of %v at %v", track.Kind, d, gap.Start.Duration())
			}
		}
	}
}

// What befalls the service as the bot's token ends costs no media.
func TestATokenThatEndsAtABadMomentCostsNoMedia(t *testing.T) {
	for name, strike := range map[string]func(r *rig){
		"the service is down": func(r *rig) {
			time.Sleep(tokenLife / 2)
			r.server.Refuse(503)
			time.Sleep(tokenLife)
			r.server.Refuse(0)
		},
		"nothing welcomes the second connection": func(r *rig) {
			time.Sleep(tokenLife / 2)
			r.server.Next(func(to string, frame any) bool {
				_, ok := frame.(*devserver.Welcome)
				return ok && to == "recorder"
			}, devserver.Lose)
			time.Sleep(tokenLife / 2)
		},
		"the second connection gets no snapshot": func(r *rig) {
			time.Sleep(tokenLife / 2)
			r.server.Next(r.presenceToBot, devserver.Lose)
			time.Sleep(tokenLife)
		},
		"the second connection is not told that it has entered": func(r *rig) {
			time.Sleep(tokenLife / 2)
			r.server.Next(func(to string, frame any) bool {
				_, ok := frame.(*devserver.Ack)
				return ok && to == "recorder"
			}, devserver.Lose)
			time.Sleep(tokenLife)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inRig(t, devserver.Options{}, func(r *rig) {
				r.ttl = tokenLife
				r.server.Takeover(&devserver.Drop{Presence: devserver.Silent})
				alice := r.joinFrom(r.host(), r.token(aliceID), camera("camera")...)
				r.startWith(aWindow)
				r.silentExpiry()
				strike(r)
				time.Sleep(45 * time.Second) // a client waits up to 36 s between two attempts
				if s := r.set.Status()[0]; s.State != StateJoined || len(s.Peers) != 1 {
					t.Errorf("the session is %v, with %d members", s.State, len(s.Peers))
				}
				alice.Leave()
				r.wantGaps(r.finish(), 0, 0)
			})
		})
	}
}

// The service lets in no more than alice and the bot. There is a place for it once its token has ended.
func TestABotThatFillsTheLastPlaceIsBackAtOnce(t *testing.T) {
	inRig(t, devserver.Options{Limits: devserver.Limits{Connections: 2}}, func(r *rig) {
		r.ttl = tokenLife
		alice := r.joinFrom(r.host(), r.token(aliceID), camera("camera")...)
		r.startWith(aWindow)
		time.Sleep(2*tokenLife + 10*time.Second)
		if failed, took := r.renewed("failed"), r.renewed("took_over"); failed < 2 || took > 0 {
			t.Errorf("%v renewals failed, %v did not", failed, took)
		}
		alice.Leave()
		r.wantGaps(r.finish(), 300*time.Millisecond, 2)
	})
}

// silentExpiry has the service tell nobody of a token of the bot's that ends.
func (r *rig) silentExpiry() {
	time.AfterFunc(tokenLife-500*time.Millisecond, func() {
		r.server.Drop("recorder",
			devserver.Drop{Code: devserver.CloseTokenExpired, Presence: devserver.Silent})
	})
}

// The bot is between leaving and entering again as it is to be renewed.
func TestATokenThatEndsDuringAReEntryEndsInTheChannel(t *testing.T) {
	for _, after := range []time.Duration{0, 50 * time.Millisecond, 900 * time.Millisecond} {
		inRig(t, devserver.Options{}, func(r *rig) {
			r.ttl = tokenLife
			alice := r.joinFrom(r.host(), r.token(aliceID), camera("camera")...)
			r.startWith(aWindow)
			time.Sleep(settling)
			slow := func(to string, frame any) devserver.Verdict { // a round trip takes a second
				if _, ok := frame.(*devserver.Ack); ok && to == "recorder" {
					return devserver.Delay(time.Second)
				}
				return devserver.Pass
			}
			reentered := make(chan struct{})
			welcomes := 0
			r.server.Intercept(func(to string, frame any) devserver.Verdict {
				if _, ok := frame.(*devserver.Welcome); ok && to == "recorder" {
					if welcomes++; welcomes == 1 {
						time.AfterFunc(after, func() {
							r.server.Intercept(slow)
							r.on(func(s *Session) { s.reenter(time.Now()) })
							close(reentered)
						})
					}
				}
				return devserver.Pass
			})
			<-reentered
			time.Sleep(30 * time.Second)
			if s := r.set.Status()[0]; s.State != StateJoined || len(s.Peers) != 1 ||
				!slices.Contains(r.server.Members(channel), "recorder") {
				t.Errorf("after %v: the session is %v, with %d members", after, s.State, len(s.Peers))
			}
			alice.Leave()
			r.wantGaps(r.finish(), 3*time.Second, 2)
		})
	}
}

// A drop of the bot's socket, too, may be told in a way that loses it for the members.
func TestMembersThatLoseTheBotAreWonBackAtOnce(t *testing.T) {
	for name, strike := range map[string]func(r *rig){
		"both in one frame": func(r *rig) {
			r.server.Drop(r.bot(), devserver.Drop{Presence: devserver.FlapOneFrame})
		},
		"a stale leave": func(r *rig) {
			r.server.Drop(r.bot(), devserver.Drop{Presence: devserver.StaleLeft, Stale: 20 * time.Second})
		},
	} {
		t.Run(name, func(t *testing.T) {
			inRig(t, devserver.Options{}, func(r *rig) {
				alice := r.joinFrom(r.host(), r.token(aliceID), camera("camera")...)
				r.startWith(aWindow)
				time.Sleep(5 * time.Second)
				strike(r)
				time.Sleep(40 * time.Second)
				alice.Leave()
				r.wantGaps(r.finish(), time.Second, 1)
			})
		})
	}
}

// A service may tell the bot itself that it has left, though members have gone on sending so far.
func TestABotThatIsSaidToHaveLeftEntersAgain(t *testing.T) {
	self := []devserver.Member{{PeerID: "recorder"}}
	leave := &devserver.Presence{Channel: channel, Left: self}
	join := &devserver.Presence{Channel: channel, Joined: self}
	both := &devserver.Presence{Channel: channel, Joined: self, Left: self}
	for name, tt := range map[string]struct {
		frames []*devserver.Presence
		enters int
	}{
		"left":              {[]*devserver.Presence{leave}, 1},
		"both in one":       {[]*devserver.Presence{both}, 1},
		"left, then joined": {[]*devserver.Presence{leave, join}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inRig(t, devserver.Options{}, func(r *rig) {
				r.start(true)
				r.join(r.token(aliceID), "camera")
				time.Sleep(5 * time.Second)
				entered := 0
				r.server.Intercept(func(to string, frame any) devserver.Verdict {
					if p, ok := frame.(*devserver.Presence); ok && to == aliceID && len(p.Joined) > 0 {
						entered++
					}
					return devserver.Pass
				})
				for _, frame := range tt.frames {
					r.server.Inject("recorder", frame)
				}
				time.Sleep(2 * time.Minute)
				if entered != tt.enters {
					t.Errorf("entered again %d times", entered)
				}
			})
		})
	}
}

// Its page closes its connections first, and the service says later that it has left.
func TestAMemberThatLeavesSlowlyCutsNobodyOff(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(aWindow)
		alice := r.join(r.token(aliceID), "camera")
		r.join(r.token("bob"), "bob-camera")
		time.Sleep(settling)
		r.server.Intercept(func(to string, frame any) devserver.Verdict {
			if p, ok := frame.(*devserver.Presence); ok && to == "recorder" && len(p.Left) > 0 {
				return devserver.Delay(3 * time.Second)
			}
			return devserver.Pass
		})
		alice.Leave()
		time.Sleep(10 * time.Second)
		if resets, _ := r.referee.counts(); resets > 0 || len(r.set.Status()[0].Peers) != 1 {
			t.Errorf("%d connections replaced, members %v", resets, r.set.Status()[0].Peers)
		}
		r.finish()
	})
}
