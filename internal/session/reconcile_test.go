package session

import (
	"slices"
	"testing"
	"time"

	"recorder/internal/devserver"
)

// omitEmpty has the service leave out presence that names nobody, and counts the bot's connections.
func (r *rig) omitEmpty() (connects *int) {
	connects = new(int)
	r.server.Intercept(func(to string, frame any) devserver.Verdict {
		switch f := frame.(type) {
		case *devserver.Welcome:
			if f.PeerID == "recorder" {
				*connects++
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
		if lines := w.since(); *connects != 2 || !slices.Contains(lines, "alice: connecting → connected") {
			t.Errorf("%d connections, and alice: %q", *connects, lines)
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
		if lines := w.since(); *connects != 2 || !slices.Contains(lines, "reconnecting → joined") || !slices.Contains(lines, "- alice") {
			t.Errorf("%d connections: %q", *connects, lines)
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
		time.Sleep(2 * snapshotTimeout)
		r.joinFrom(r.host(), r.token("viewer"))
		time.Sleep(2 * newcomerPatience)
		r.on(func(s *Session) {
			if !s.reentry.allowed.IsZero() {
				t.Error("the channel was entered again for it")
			}
		})
	})
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
