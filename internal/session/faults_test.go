package session

import (
	"bytes"
	"slices"
	"sync"
	"testing"
	"time"

	"recorder/internal/lab/devserver"
	"recorder/internal/lab/member"
)

// fault is one way a call of two is disturbed, and what must come of it. The
// bot and alice have tokens where nothing else is said, and a key otherwise.
type fault struct {
	name             string
	botKey, aliceKey bool
	window           time.Duration // 0: aWindow
	strike           func(r *rig, alice *member.Member)
	calm             time.Duration // in which all must be well again; 0: 10 s
	want             outcome
	kept             bool // the connection lasts, and no stream is told of again
}

const aliceID = "alice"

// Limits of gaps: for a reconnect of ours, for that of a member, and for a
// path that is dead and has to be given up first.
const (
	ownGap    = 1500 * time.Millisecond
	memberGap = 3 * time.Second
	pathGap   = 13 * time.Second
)

// bot is the bot's peer id in the test's channel.
func (r *rig) bot() string { return r.set.sessions[channel].Status().PeerID }

var socketFaults = []fault{
	{name: "the bot's socket is reset and nobody is told", kept: true,
		strike: func(r *rig, _ *member.Member) { r.server.Drop(r.bot(), devserver.Drop{Presence: devserver.Silent}) }},
	{name: "the bot's socket is reset and the others are told", want: outcome{maxGap: ownGap},
		strike: func(r *rig, _ *member.Member) { r.server.Drop(r.bot(), devserver.Drop{}) }},
	{name: "the bot's socket is reset, with a key", botKey: true, want: outcome{maxGap: ownGap},
		strike: func(r *rig, _ *member.Member) { r.server.Drop(r.bot(), devserver.Drop{}) }},
	{name: "the bot's token expires", kept: true,
		strike: func(r *rig, _ *member.Member) {
			r.server.Drop(r.bot(), devserver.Drop{Code: devserver.CloseTokenExpired, Presence: devserver.Silent})
		}},
	{name: "the service goes away for a moment", kept: true,
		strike: func(r *rig, _ *member.Member) {
			r.server.Inject(r.bot(), &devserver.GoingAway{RetryAfterMs: 2000})
			r.server.Drop(r.bot(), devserver.Drop{Code: devserver.CloseGoingAway, Presence: devserver.Silent})
		}},
	{name: "the service is down for 90 s", kept: true,
		strike: func(r *rig, _ *member.Member) {
			r.server.Refuse(503)
			r.server.Drop(r.bot(), devserver.Drop{Presence: devserver.Silent})
			time.Sleep(90 * time.Second)
			r.server.Refuse(0)
		}, calm: 40 * time.Second}, // a client waits up to 30 s between two attempts
	{name: "a member's socket is reset, with a key", aliceKey: true, want: outcome{maxGap: memberGap},
		strike: func(r *rig, a *member.Member) { r.server.Drop(a.ID(), devserver.Drop{}) }},
	{name: "a member's socket is reset, with a key, and its ghost stays for 5 s", aliceKey: true, want: outcome{maxGap: memberGap},
		strike: func(r *rig, a *member.Member) {
			r.server.Drop(a.ID(), devserver.Drop{Presence: devserver.Silent, Linger: 5 * time.Second})
		}},
	{name: "a member's socket is reset: leave, join", want: outcome{maxGap: memberGap},
		strike: func(r *rig, a *member.Member) { r.server.Drop(a.ID(), devserver.Drop{}) }},
	{name: "a member's socket is reset: leave and join at its return", want: outcome{maxGap: memberGap},
		strike: func(r *rig, a *member.Member) {
			r.server.Drop(a.ID(), devserver.Drop{Presence: devserver.FlapTwoFrames})
		}},
	{name: "a member's socket is reset: leave and join in one frame", want: outcome{maxGap: memberGap},
		strike: func(r *rig, a *member.Member) {
			r.server.Drop(a.ID(), devserver.Drop{Presence: devserver.FlapOneFrame})
		}},
	{name: "a member's socket is reset: join only", want: outcome{maxGap: memberGap},
		strike: func(r *rig, a *member.Member) {
			r.server.Drop(a.ID(), devserver.Drop{Presence: devserver.StaleLeft, Stale: time.Hour})
		}},
	{name: "a member's socket is reset: join, and a stale leave", want: outcome{maxGap: memberGap},
		strike: func(r *rig, a *member.Member) {
			r.server.Drop(a.ID(), devserver.Drop{Presence: devserver.StaleLeft, Stale: time.Second})
		}},
	// What comes is a fresh connection on a live peer.
	{name: "a member's socket is reset: nothing is told", want: outcome{maxGap: memberGap},
		strike: func(r *rig, a *member.Member) {
			r.server.Drop(a.ID(), devserver.Drop{Presence: devserver.Silent})
		}},
	{name: "both sides drop at once", want: outcome{maxGap: memberGap},
		strike: func(r *rig, a *member.Member) {
			r.server.Drop(r.bot(), devserver.Drop{})
			r.server.Drop(a.ID(), devserver.Drop{})
		}},
	// What the first to return says may go to a socket that is gone.
	{name: "both sides drop at once and nobody is told", window: time.Minute, want: outcome{maxGap: mediaPatience + 8*time.Second},
		strike: func(r *rig, a *member.Member) {
			r.server.Drop(r.bot(), devserver.Drop{Presence: devserver.Silent})
			r.server.Drop(a.ID(), devserver.Drop{Presence: devserver.Silent})
		}, calm: 40 * time.Second},
	{name: "three drops in a row", want: outcome{maxGap: 3 * memberGap, drops: 3},
		strike: func(r *rig, a *member.Member) {
			for range 3 {
				r.server.Drop(a.ID(), devserver.Drop{})
				time.Sleep(2 * time.Second)
			}
		}},
	{name: "the snapshot after a reconnect is lost", kept: true,
		strike: func(r *rig, _ *member.Member) {
			r.server.Next(r.presenceToBot, devserver.Lose)
			r.server.Drop(r.bot(), devserver.Drop{Presence: devserver.Silent})
		}, calm: 20 * time.Second},
	{name: "the snapshot after a reconnect is empty", kept: true,
		strike: func(r *rig, _ *member.Member) {
			r.emptySnapshot()
			r.server.Drop(r.bot(), devserver.Drop{Presence: devserver.Silent})
		}, calm: 20 * time.Second},
	{name: "the snapshot after a reconnect is late", kept: true,
		strike: func(r *rig, _ *member.Member) {
			r.server.Next(r.presenceToBot, devserver.Delay(4*time.Second))
			r.server.Drop(r.bot(), devserver.Drop{Presence: devserver.Silent})
		}, calm: 20 * time.Second},
	{name: "the bot leaves and enters the channel again", want: outcome{maxGap: 500 * time.Millisecond},
		strike: func(r *rig, _ *member.Member) {
			r.on(func(s *Session) { s.reenter(time.Now()) })
		}},
}

func TestAStreamKeepsItsFilesWhenSocketsDrop(t *testing.T) { strikeEach(t, socketFaults) }

func strikeEach(t *testing.T, faults []fault) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			inRig(t, devserver.Options{}, func(r *rig) {
				host, move := r.roam()
				r.move = move
				credential := r.token(aliceID)
				if f.aliceKey {
					credential = r.key()
				}
				alice := r.joinFrom(host, credential, camera("camera")...)
				r.begin(!f.botKey, max(f.window, aWindow))
				time.Sleep(5 * time.Second)
				f.strike(r, alice)
				time.Sleep(max(f.calm, 10*time.Second))
				if s := r.set.Status()[0]; s.State != StateJoined || len(s.Peers) != 1 {
					t.Errorf("the session is %v, with %d members", s.State, len(s.Peers))
				}
				alice.Leave()
				r.checkOneStream(r.finish(), f.want)
				if resets, added := r.referee.counts(); f.kept && (resets > 0 || added != 1) {
					t.Errorf("the connection was replaced %d times, the stream added %d times", resets, added)
				}
			})
		})
	}
}

// The service takes the answer at the second attempt only. A browser forgets candidates that come before it.
func TestCandidatesDoNotOvertakeAnAnswerThatIsSentAgain(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.start(true)
		time.Sleep(settling)
		var mu sync.Mutex
		var heard []string
		offered, refused, lost := false, false, false
		r.server.Intercept(func(to string, frame any) devserver.Verdict {
			switch f := frame.(type) {
			case *devserver.Direct:
				offered = offered || bytes.Contains(f.Data, []byte(`"offer"`))
				if to != aliceID {
					break
				}
				kind := "candidate"
				if bytes.Contains(f.Data, []byte(`"answer"`)) {
					kind = "answer"
				}
				if kind == "answer" && !lost {
					lost = true
					return devserver.Lose
				}
				mu.Lock()
				heard = append(heard, kind)
				mu.Unlock()
			case *devserver.Ack: // the first is that of the answer
				if to == "recorder" && offered && !refused {
					refused = true
					go r.server.Inject("recorder", &devserver.Error{Code: "backend_error", RequestID: f.RequestID})
					return devserver.Lose
				}
			}
			return devserver.Pass
		})
		r.join(r.token(aliceID), "camera")
		time.Sleep(settling)
		mu.Lock()
		defer mu.Unlock()
		// The end of candidates follows the answer, which has the others.
		if len(heard) < 2 || heard[0] != "answer" || slices.Contains(heard[1:], "answer") {
			t.Errorf("alice heard: %q", heard)
		}
	})
}

func (r *rig) presenceToBot(to string, frame any) bool {
	_, ok := frame.(*devserver.Presence)
	return ok && to == "recorder"
}

// emptySnapshot has the next presence frame to the bot name nobody.
func (r *rig) emptySnapshot() {
	done := false
	r.server.Intercept(func(to string, frame any) devserver.Verdict {
		if p, ok := frame.(*devserver.Presence); ok && to == "recorder" && !done {
			done = true
			p.Joined = []devserver.Member{}
		}
		return devserver.Pass
	})
}
