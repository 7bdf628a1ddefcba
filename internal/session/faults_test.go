package session

import (
	"slices"
	"testing"
	"time"

	"recorder/internal/devserver"
	"recorder/internal/member"
	"recorder/internal/sink"
)

// fault is one way a call is disturbed, and what its files must show of it:
// one stream, one part per track, and a gap no longer than maxGap.
type fault struct {
	name   string
	bot    bool // the bot has a token, else a key
	alice  bool // alice has a token, else a key
	strike func(r *rig, alice *member.Member)
	maxGap time.Duration
	drops  int  // times the media is interrupted; 0 means at most once
	path   bool // packets are lost on the way, so that not all that is sent is recorded
	loss   bool // without the connection having noticed
}

const aliceID = "alice"

// bot is the bot's peer id in the test's channel.
func (r *rig) bot() string { return r.set.sessions[channel].Status().PeerID }

var faults = []fault{
	{name: "the bot's socket is reset and nobody is told", bot: true, alice: true,
		strike: func(r *rig, _ *member.Member) { r.server.Drop(r.bot(), devserver.Drop{Presence: devserver.Silent}) }},
	{name: "the bot's socket is reset and the others are told", bot: true, alice: true, maxGap: 1500 * time.Millisecond,
		strike: func(r *rig, _ *member.Member) { r.server.Drop(r.bot(), devserver.Drop{}) }},
	{name: "the bot's socket is reset, with a key", bot: false, alice: true, maxGap: 1500 * time.Millisecond,
		strike: func(r *rig, _ *member.Member) { r.server.Drop(r.bot(), devserver.Drop{}) }},
	{name: "the bot's token expires", bot: true, alice: true,
		strike: func(r *rig, _ *member.Member) {
			r.server.Drop(r.bot(), devserver.Drop{Code: devserver.CloseTokenExpired, Presence: devserver.Silent})
		}},
	{name: "the service goes away for a moment", bot: true, alice: true,
		strike: func(r *rig, _ *member.Member) {
			r.server.Inject(r.bot(), &devserver.GoingAway{RetryAfterMs: 2000})
			r.server.Drop(r.bot(), devserver.Drop{Code: devserver.CloseGoingAway, Presence: devserver.Silent})
		}},
	{name: "the service is down for 90 s", bot: true, alice: true,
		strike: func(r *rig, _ *member.Member) {
			r.server.Refuse(503)
			r.server.Drop(r.bot(), devserver.Drop{Presence: devserver.Silent})
			time.Sleep(90 * time.Second)
			r.server.Refuse(0)
		}},
	{name: "a member's socket is reset, with a key", bot: true, alice: false, maxGap: 3 * time.Second,
		strike: func(r *rig, a *member.Member) { r.server.Drop(a.ID(), devserver.Drop{}) }},
	{name: "a member's socket is reset, with a key, and its ghost stays for 5 s", bot: true, alice: false, maxGap: 3 * time.Second,
		strike: func(r *rig, a *member.Member) {
			r.server.Drop(a.ID(), devserver.Drop{Presence: devserver.Silent, Linger: 5 * time.Second})
		}},
	{name: "a member's socket is reset: leave, join", bot: true, alice: true, maxGap: 3 * time.Second,
		strike: func(r *rig, a *member.Member) { r.server.Drop(a.ID(), devserver.Drop{}) }},
	{name: "a member's socket is reset: leave and join at its return", bot: true, alice: true, maxGap: 3 * time.Second,
		strike: func(r *rig, a *member.Member) {
			r.server.Drop(a.ID(), devserver.Drop{Presence: devserver.FlapTwoFrames})
		}},
	{name: "a member's socket is reset: leave and join in one frame", bot: true, alice: true, maxGap: 3 * time.Second,
		strike: func(r *rig, a *member.Member) {
			r.server.Drop(a.ID(), devserver.Drop{Presence: devserver.FlapOneFrame})
		}},
	{name: "a member's socket is reset: join, and a stale leave", bot: true, alice: true, maxGap: 3 * time.Second,
		strike: func(r *rig, a *member.Member) {
			r.server.Drop(a.ID(), devserver.Drop{Presence: devserver.StaleLeft, Stale: time.Second})
		}},
	{name: "a member's socket is reset: nothing is told", bot: true, alice: true, maxGap: 3 * time.Second,
		strike: func(r *rig, a *member.Member) {
			r.server.Drop(a.ID(), devserver.Drop{Presence: devserver.Silent})
		}},
	{name: "both sides drop at once", bot: true, alice: true, maxGap: 3 * time.Second,
		strike: func(r *rig, a *member.Member) {
			r.server.Drop(r.bot(), devserver.Drop{})
			r.server.Drop(a.ID(), devserver.Drop{})
		}},
	{name: "three drops in a row", bot: true, alice: true, maxGap: 6 * time.Second, drops: 3,
		strike: func(r *rig, a *member.Member) {
			for range 3 {
				r.server.Drop(a.ID(), devserver.Drop{})
				time.Sleep(2 * time.Second)
			}
		}},
	{name: "the path is cut for 5 s", bot: true, alice: true, maxGap: 6 * time.Second, path: true, loss: true,
		strike: func(r *rig, _ *member.Member) { r.cutFor(5 * time.Second) }},
	{name: "the path is cut for 9 s", bot: true, alice: true, maxGap: 11 * time.Second, path: true,
		strike: func(r *rig, _ *member.Member) { r.cutFor(9 * time.Second) }},
	{name: "the snapshot after a reconnect is lost", bot: true, alice: true,
		strike: func(r *rig, _ *member.Member) {
			r.server.Next(r.presenceToBot, devserver.Lose)
			r.server.Drop(r.bot(), devserver.Drop{Presence: devserver.Silent})
			time.Sleep(20 * time.Second)
		}},
	{name: "the snapshot after a reconnect is empty", bot: true, alice: true,
		strike: func(r *rig, _ *member.Member) {
			done := false
			r.server.Intercept(func(to string, frame any) devserver.Verdict {
				if p, ok := frame.(*devserver.Presence); ok && to == "recorder" && !done {
					done = true
					p.Joined = []devserver.Member{}
				}
				return devserver.Pass
			})
			r.server.Drop(r.bot(), devserver.Drop{Presence: devserver.Silent})
			time.Sleep(20 * time.Second)
		}},
	{name: "the snapshot after a reconnect is late", bot: true, alice: true,
		strike: func(r *rig, _ *member.Member) {
			r.server.Next(r.presenceToBot, devserver.Delay(4*time.Second))
			r.server.Drop(r.bot(), devserver.Drop{Presence: devserver.Silent})
			time.Sleep(20 * time.Second)
		}},
	{name: "the bot leaves and enters the channel again", bot: true, alice: true, maxGap: 500 * time.Millisecond,
		strike: func(r *rig, _ *member.Member) {
			s := r.set.sessions[channel].Session
			s.post(func() { s.reenter(time.Now()) })
		}},
}

func (r *rig) presenceToBot(to string, frame any) bool {
	_, ok := frame.(*devserver.Presence)
	return ok && to == r.bot()
}

func (r *rig) cutFor(d time.Duration) {
	r.cut.Store(true)
	time.Sleep(d)
	r.cut.Store(false)
}

func TestAStreamKeepsItsFilesThroughEveryFault(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			inRig(t, devserver.Options{}, func(r *rig) {
				credential := r.key()
				if f.alice {
					credential = r.token(aliceID)
				}
				alice := r.join(credential, "camera")
				r.start(f.bot)
				time.Sleep(5 * time.Second)
				f.strike(r, alice)
				time.Sleep(10 * time.Second)
				alice.Leave()
				m := r.finish()
				if f.loss {
					checkOneFilePerTrack(t, m, f.maxGap, sink.ReasonLoss, sink.ReasonKeyFrameWait)
				} else {
					checkOneFilePerTrack(t, m, f.maxGap)
				}
				if !f.path {
					checkRecorded(t, m, alice.Sent(), time.Duration(max(f.drops, 1))*100*time.Millisecond)
				}
			})
		})
	}
}

// checkOneFilePerTrack wants one stream with one part per track, missing no
// more than maxGap, for the given reasons; an outage is the default.
func checkOneFilePerTrack(t *testing.T, m sink.Manifest, maxGap time.Duration, reasons ...sink.Reason) {
	t.Helper()
	if len(reasons) == 0 {
		reasons = []sink.Reason{sink.ReasonReconnect, sink.ReasonKeyFrameWait}
	}
	if len(m.Streams) != 1 {
		t.Errorf("want 1 stream, have %d", len(m.Streams))
	}
	for _, s := range m.Streams {
		if len(s.Tracks) != 2 {
			t.Errorf("stream %q: want 2 tracks, have %d", s.ID, len(s.Tracks))
		}
		for _, track := range s.Tracks {
			if len(track.Parts) != 1 {
				t.Errorf("%s: want 1 part, have %d", track.Kind, len(track.Parts))
			}
			var missing time.Duration
			for _, gap := range track.Gaps {
				missing += time.Duration(gap.Duration)
				if !slices.Contains(reasons, gap.Reason) {
					t.Errorf("%s: gap of %v at %v because of %q", track.Kind, time.Duration(gap.Duration), time.Duration(gap.Start), gap.Reason)
				}
			}
			if missing > maxGap {
				t.Errorf("%s: %v are missing, want at most %v", track.Kind, missing, maxGap)
			}
		}
	}
}

// checkRecorded compares what the manifest says was recorded with what was
// sent: a gap is as long as the outage, and no longer.
func checkRecorded(t *testing.T, m sink.Manifest, sent []member.Sent, within time.Duration) {
	t.Helper()
	played := make(map[string]time.Duration)
	for _, s := range sent {
		played[s.TrackID] += s.Played
	}
	for _, s := range m.Streams {
		for _, track := range s.Tracks {
			if d := played[track.ID] - time.Duration(track.Recorded); d.Abs() > within {
				t.Errorf("%s: %v were sent, %v are recorded", track.Kind, played[track.ID], time.Duration(track.Recorded))
			}
		}
	}
}
