package session

import (
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"recorder/internal/lab/devserver"
	"recorder/internal/signaling"
	"recorder/internal/sink"
)

// omitEmpty has the service leave out presence that names nobody, and counts the bot's connections.
func (r *rig) omitEmpty() (connects *atomic.Int64) {
	connects = new(atomic.Int64)
	r.server.Intercept(func(to string, frame any) devserver.Verdict {
		switch f := frame.(type) {
		case *devserver.Welcome:
			if f.PeerID == "recorder" {
				connects.Add(1)
			}
		case *devserver.Presence:
			if to == "recorder" && len(f.Joined)+len(f.Left) == 0 {
				return devserver.Lose
			}
		}
		return devserver.Pass
	})
	return connects
}

func TestAnEmptySnapshotMayBeLeftOut(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		connects := r.omitEmpty()
		var w witness
		r.attend(w.watch)
		time.Sleep(time.Second)
		wantLines(t, "joining", w.since(), "idle → joining", "joining → joined", "joined room-42 as recorder")
		time.Sleep(2 * time.Minute)
		r.server.Drop("recorder", devserver.Drop{})
		time.Sleep(time.Second)
		wantLines(t, "our socket", w.since(), "joined → reconnecting", "reconnecting → joined")
		time.Sleep(2 * time.Minute)
		r.join(r.token(aliceID), "camera")
		time.Sleep(settling)
		if lines := w.since(); connects.Load() != 2 || !slices.Contains(lines, "alice: connecting → connected") {
			t.Errorf("%d connections, and alice: %q", connects.Load(), lines)
		}
	})
}

func TestMembersThatAreAllGoneAreNotWaitedForForEver(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		connects := r.omitEmpty()
		var w witness
		r.attend(w.watch)
		alice := r.join(r.token(aliceID), "camera")
		time.Sleep(settling)
		w.since()
		r.server.Refuse(503)
		r.server.Drop("recorder", devserver.Drop{})
		alice.Leave()
		time.Sleep(time.Second)
		r.server.Refuse(0)
		time.Sleep(time.Minute)
		if lines := w.since(); connects.Load() != 2 || !slices.Contains(lines, "reconnecting → joined") || !slices.Contains(lines, "- alice") {
			t.Errorf("%d connections: %q", connects.Load(), lines)
		}
	})
}

// A viewer that comes when the service has the bot back is nobody that was missed.
func TestWhoComesAfterAnOmittedSnapshotWasNotMissed(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.omitEmpty()
		r.start(true)
		time.Sleep(settling)
		r.server.Drop("recorder", devserver.Drop{})
		time.Sleep((1 + snapshotAttempts) * snapshotTimeout)
		r.joinFrom(r.host(), r.token("viewer"))
		time.Sleep(2 * newcomerPatience)
		r.on(func(s *Session) {
			if !s.reentry.allowed.IsZero() {
				t.Error("the channel was entered again for it")
			}
		})
	})
}

// A service may answer with an ack alone whoever is subscribed already. What comes next is no snapshot then, and bob no reason to
// take it that alice has left, be she silent for a while or out of reach.
func TestWhoIsNotInTheAnswerToAnotherSubscriptionHasNotLeft(t *testing.T) {
	for _, cut := range []bool{false, true} {
		inRig(t, devserver.Options{}, func(r *rig) {
			r.startWith(time.Minute)
			time.Sleep(settling)
			r.screen(aliceID, "screen-video")
			time.Sleep(5 * time.Second)
			r.server.Intercept(func(to string, frame any) devserver.Verdict {
				p, ok := frame.(*devserver.Presence)
				if ok && to == "recorder" && slices.ContainsFunc(p.Joined, func(m devserver.Member) bool { return m.PeerID == aliceID }) {
					return devserver.Lose
				}
				return devserver.Pass
			})
			r.on(func(s *Session) { s.subscribe() })
			r.cut.Store(cut)
			time.Sleep(10 * time.Second)
			r.speak("bob")
			time.Sleep(10 * time.Second)
			r.cut.Store(false)
			time.Sleep(20 * time.Second)
			if peers := r.set.Status()[0].Peers; len(peers) != 2 {
				t.Errorf("cut %v: members %v", cut, peers)
			}
			resets, _ := r.referee.counts()
			if m := r.finish(); len(m.Streams) != 1 || m.Streams[0].EndReason == sink.NotBack || resets > 0 {
				t.Errorf("cut %v: %d streams, %d connections replaced", cut, len(m.Streams), resets)
			}
		})
	}
}

// That a subscription was lost with the connection may be known after the connection was.
func TestNoSnapshotIsMissedWithoutAConnection(t *testing.T) {
	var log printed
	inRig(t, devserver.Options{}, func(r *rig) {
		r.log = slog.New(slog.NewTextHandler(&log, nil))
		r.start(true)
		time.Sleep(settling)
		r.server.Refuse(503)
		r.server.Drop("recorder", devserver.Drop{})
		time.Sleep(time.Second)
		r.on(func(s *Session) { s.subscribeFailed(signaling.ErrDisconnected) })
		time.Sleep(time.Minute)
	})
	for _, line := range []string{"could not subscribe", "no presence snapshot", "reconcile failed"} {
		if strings.Contains(log.text.String(), line) {
			t.Errorf("the log says that %s:\n%s", line, &log.text)
		}
	}
}

func TestTheSnapshotOfAFirstJoinThatIsLostIsMadeUpFor(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.join(r.token(aliceID), "camera")
		r.server.Next(r.presenceToBot, devserver.Lose)
		r.startWith(time.Minute)
		time.Sleep(time.Minute)
		r.wantRecorded(time.Minute, earlyPatience+3*time.Second)
	})
}

// She offered to the connection that was lost, and does not again.
func TestWhoCameWhileTheBotWasAwayIsAskedForUntilItIsKnown(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(time.Minute)
		time.Sleep(20 * time.Second)
		r.server.Next(r.presenceToBot, devserver.Lose)
		r.server.Drop("recorder", devserver.Drop{Presence: devserver.Silent})
		r.join(r.token(aliceID), "camera")
		time.Sleep(time.Minute)
		r.wantRecorded(time.Minute, snapshotTimeout+newcomerPatience+5*time.Second)
	})
}
