package session

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"recorder/internal/lab/devserver"
	"recorder/internal/lab/member"
)

// left is a frame by which the service says that members have left.
func left(ids ...string) *devserver.Presence {
	p := &devserver.Presence{Channel: channel, Joined: []devserver.Member{}}
	for _, id := range ids {
		p.Left = append(p.Left, devserver.Member{PeerID: id})
	}
	return p
}

func TestAMemberWithoutASocketIsRecordedForAsLongAsItSends(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(time.Minute)
		time.Sleep(settling)
		alice := r.join(r.token(aliceID), "camera")
		time.Sleep(10 * time.Second)
		r.server.Refuse(503)
		r.server.Drop(aliceID, devserver.Drop{})
		time.Sleep(40 * time.Second)
		r.server.Refuse(0)
		time.Sleep(40 * time.Second)
		alice.Leave()
		r.wantRecorded(90*time.Second, 3*time.Second)
	})
}

func TestAStaleLeaveWhoseCorrectionIsLostCostsNothing(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(aWindow)
		time.Sleep(settling)
		alice := r.join(r.token(aliceID), "camera")
		time.Sleep(5 * time.Second)
		r.server.Next(r.presenceToBot, devserver.Lose)
		r.server.Inject(r.bot(), left(aliceID))
		time.Sleep(time.Minute)
		alice.Leave()
		r.wantRecorded(65*time.Second, time.Second)
	})
}

func TestOneDepartureFrameAsksTheServiceOnce(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.start(true)
		time.Sleep(settling)
		ids := []string{"a", "b", "c", "d"}
		for _, id := range ids {
			r.joinFrom(r.host(), r.token(id), camera(id)[:1]...)
		}
		time.Sleep(settling)
		var snapshots atomic.Int64
		r.server.Intercept(func(to string, frame any) devserver.Verdict {
			if r.presenceToBot(to, frame) {
				snapshots.Add(1)
			}
			return devserver.Pass
		})
		r.server.Inject(r.bot(), left(ids...))
		time.Sleep(30 * time.Second)
		if snapshots.Load() != 1 || len(r.set.Status()[0].Peers) != len(ids) {
			t.Errorf("%d snapshots, %d members", snapshots.Load(), len(r.set.Status()[0].Peers))
		}
	})
}

func TestTheBotDoesNotMeetItsFormerSelf(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.start(false)
		time.Sleep(settling)
		former := r.bot()
		r.server.Drop(former, devserver.Drop{Presence: devserver.Silent, Linger: 5 * time.Second})
		time.Sleep(3 * time.Second)
		if r.bot() == former {
			t.Fatal("the bot has the id of before")
		}
		if peers := r.set.Status()[0].Peers; len(peers) != 0 {
			t.Errorf("%v is met", peers)
		}
		if m := r.finish(); len(m.Peers) != 0 {
			t.Errorf("the manifest has %+v", m.Peers)
		}
	})
}

func TestAMemberThatHasLeftHoldsNoPlaceThoughItSends(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(time.Minute)
		r.apply(Config{Channel: channel, Bot: "recorder", ReconnectWindow: time.Minute, MaxMembers: 1})
		time.Sleep(settling)
		r.join(r.token(aliceID), "camera")
		time.Sleep(5 * time.Second)
		r.server.Refuse(503)
		r.server.Drop(aliceID, devserver.Drop{})
		time.Sleep(time.Minute)
		r.server.Refuse(0)
		r.join(r.token("bob"), "bob-camera")
		time.Sleep(settling)
		if peers := r.set.Status()[0].Peers; len(peers) != 1 || peers[0].ID() != "bob" {
			t.Errorf("members %v, want bob alone", peers)
		}
	})
}

// Its connection is up, and a service that leaves out empty snapshots says nothing more of it.
func TestAMemberThatHasLeftAndSendsNothingIsLetGoOf(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.omitEmpty()
		r.startWith(time.Minute)
		time.Sleep(settling)
		brief := func(yield func([]byte, time.Duration) bool) {
			n := 0
			for frame, d := range member.Sound() {
				if n++; n > 100 || !yield(frame, d) {
					return
				}
			}
		}
		r.joinFrom(r.host(), r.token(aliceID), member.Track{StreamID: "brief", TrackID: "brief-audio", MimeType: webrtc.MimeTypeOpus, Source: brief})
		time.Sleep(5 * time.Second)
		r.server.Refuse(503)
		r.server.Drop(aliceID, devserver.Drop{})
		time.Sleep(time.Minute)
		if peers := r.set.Status()[0].Peers; len(peers) != 0 {
			t.Errorf("members %v", peers)
		}
	})
}

// The session may hear of a loss when there is another connection already.
func TestTheBotIsNoMemberThoughItHearsLateThatItWasLost(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.start(false)
		time.Sleep(settling)
		former := r.bot()
		r.on(func(s *Session) {
			r.server.Drop(former, devserver.Drop{Presence: devserver.Silent, Linger: 30 * time.Second})
			time.Sleep(5 * time.Second)
		})
		time.Sleep(5 * time.Second)
		if r.bot() == former {
			t.Fatal("it has its id again")
		}
		if peers := r.set.Status()[0].Peers; len(peers) > 0 {
			t.Errorf("members %v", peers)
		}
	})
}
