package session

import (
	"testing"
	"time"

	"recorder/internal/lab/devserver"
	"recorder/internal/sink"
)

func TestEveryStreamOfEveryMemberIsRecorded(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		alice := r.join(r.token("alice"), "alice-camera")
		r.start(true)
		time.Sleep(settling)
		bob := r.join(r.key(), "bob-camera")
		time.Sleep(8 * time.Second)
		bob.Leave()
		time.Sleep(2 * time.Second)
		alice.Leave()
		m := r.finish()

		if m.State != sink.StateComplete {
			t.Errorf("recording is %q", m.State)
		}
		if len(m.Streams) != 2 {
			t.Fatalf("want 2 streams, have %d", len(m.Streams))
		}
		for _, s := range m.Streams {
			if len(s.Tracks) != 2 {
				t.Fatalf("stream %q: want 2 tracks, have %d", s.ID, len(s.Tracks))
			}
			for _, track := range s.Tracks {
				if len(track.Parts) != 1 || track.Completeness < 0.99 {
					t.Errorf("stream %q: %s: %d parts, complete to %.3f, gaps %+v", s.ID, track.Kind, len(track.Parts), track.Completeness, track.Gaps)
				}
			}
		}
	})
}
