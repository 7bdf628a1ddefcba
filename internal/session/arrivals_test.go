package session

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"recorder/internal/lab/devserver"
)

// Something goes wrong while the two meet. Nothing that alice sent is missing,
// and sending begins within so long.
var arrivals = []struct {
	name   string
	first  string // who is in the channel first: bot or alice
	strike func(r *rig)
	within time.Duration
}{
	{"nothing", "bot", func(*rig) {}, time.Second},
	{"signals overtake presence", "bot", func(r *rig) { r.server.Next(r.newsOfAlice, devserver.Delay(2*time.Second)) }, 3 * time.Second},
	{"presence of a member is lost", "bot", func(r *rig) { r.server.Next(r.newsOfAlice, devserver.Lose) }, 15 * time.Second},
	{"the answer is lost", "bot", func(r *rig) { r.server.Next(r.answerToAlice, devserver.Lose) }, answerWithin},
	{"two answers are lost", "bot", func(r *rig) {
		r.server.Next(r.answerToAlice, devserver.Lose)
		r.server.Next(r.answerToAlice, devserver.Lose)
	}, 2 * answerWithin},
	{"the first snapshot is late", "alice", func(r *rig) { r.server.Next(r.presenceToBot, devserver.Delay(8*time.Second)) }, 9 * time.Second},
	{"the first snapshot is lost", "alice", func(r *rig) { r.server.Next(r.presenceToBot, devserver.Lose) }, snapshotTimeout + time.Second},
	{"two snapshots are lost", "alice", func(r *rig) {
		r.server.Next(r.presenceToBot, devserver.Lose)
		r.server.Next(r.presenceToBot, devserver.Lose)
	}, 2*snapshotTimeout + time.Second},
	{"the first snapshot is empty", "alice", func(r *rig) { r.emptySnapshot() }, 15 * time.Second},
}

// answerWithin is after how long an answer is sent again, and what follows takes.
const answerWithin = 4 * time.Second

func TestAMemberIsRecordedHoweverItIsMet(t *testing.T) {
	for _, a := range arrivals {
		t.Run(a.name, func(t *testing.T) {
			inRig(t, devserver.Options{}, func(r *rig) {
				if a.first == "bot" {
					r.start(true)
					time.Sleep(settling)
				}
				a.strike(r)
				met := time.Now()
				alice := r.join(r.token(aliceID), "camera")
				if a.first == "alice" {
					time.Sleep(settling)
					met = time.Now()
					r.start(true)
				}
				time.Sleep(30 * time.Second)
				alice.Leave()
				m := r.finish()
				r.checkOneStream(m, outcome{})
				for _, s := range m.Streams {
					if began := s.Started.UTC.Sub(met); began > a.within {
						t.Errorf("recorded from %v on, want %v", began, a.within)
					}
				}
			})
		})
	}
}

func (r *rig) newsOfAlice(to string, frame any) bool {
	p, ok := frame.(*devserver.Presence)
	return ok && to == "recorder" && len(p.Joined) > 0 && p.Joined[0].PeerID == aliceID
}

func (r *rig) answerToAlice(to string, frame any) bool {
	d, ok := frame.(*devserver.Direct)
	return ok && to == aliceID && d.From == "recorder" && bytes.Contains(d.Data, []byte(`"type":"answer"`))
}

func TestARecordingThatBeginsLateTellsOfWhatIsInItAlone(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		inTheWay := filepath.Join(r.dir, channel)
		r.must(os.WriteFile(inTheWay, nil, 0o600))
		r.start(true)
		time.Sleep(settling)
		alice := r.join(r.token(aliceID), "camera")
		time.Sleep(5 * time.Minute)
		r.must(os.Remove(inTheWay))
		time.Sleep(30 * time.Second)
		alice.Leave()
		for _, s := range r.finish().Streams {
			if s.Started.MonotonicMS < 0 {
				t.Errorf("a stream began %d ms before the recording", -s.Started.MonotonicMS)
			}
			for _, track := range s.Tracks {
				if d := track.Recorded.Duration(); d < 19*time.Second || d > 31*time.Second || track.Completeness < 0.95 || track.Ledger.Overflow > 0 {
					t.Errorf("%s: %v are recorded, completeness %v, gaps %v", track.Kind, d, track.Completeness, track.Gaps)
				}
			}
		}
	})
}
