package session

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"recorder/internal/lab/devserver"
	"recorder/internal/sink"
)

// A recording whose directory others move away is finished there, and its streams go on in another one within ten seconds.
// Nothing but the wait for a key frame is missing.
func TestARecordingThatIsMovedAwayIsFollowedByAnother(t *testing.T) {
	aside := filepath.Join(t.TempDir(), "aside")
	inRig(t, devserver.Options{}, func(r *rig) {
		alice := r.join(r.token("alice"), "camera")
		r.startWith(10 * time.Second)
		time.Sleep(5 * time.Second)
		r.on(func(s *Session) { r.must(os.Rename(filepath.Join(r.dir, s.bindings.recording.Dir()), aside)) })
		time.Sleep(15 * time.Second)
		alice.Leave()
		r.set.Close()
		r.set = nil
		all := r.recordings()[channel]
		if len(all) != 1 {
			t.Fatalf("%d recordings, want another one", len(all))
		}
		report, err := sink.Verify(t.Context(), aside, nil)
		if err != nil || !report.OK || report.Recordings[0].State != sink.StateComplete {
			t.Errorf("the one that was moved: %+v, %v", report, err)
		}
		stream := live(all[0])["camera"]
		if stream == nil {
			t.Fatal("the stream does not go on")
		}
		for _, track := range stream.Tracks {
			if track.Expected.Duration() < 9*time.Second || track.Completeness < 0.9 || track.Missing[sink.ReasonDisk] > 0 {
				t.Errorf("%s: %v expected, completeness %v, missing %v", track.Kind, track.Expected.Duration(), track.Completeness, track.Missing)
			}
		}
	})
}

func TestSameCause(t *testing.T) {
	denied := func(name string) error { return &os.PathError{Op: "mkdir", Path: name, Err: syscall.EACCES} }
	for _, tt := range []struct {
		a, b error
		want bool
	}{
		{nil, nil, true}, {nil, denied("a"), false}, {denied("a"), nil, false},
		{denied("a"), fmt.Errorf("begin: %w", denied("b")), true}, {denied("a"), syscall.EROFS, false},
		{errors.New("a"), errors.New("a"), true}, {errors.New("a"), errors.New("b"), false}, {errors.New("a"), denied("a"), false},
	} {
		if got := sameCause(tt.a, tt.b); got != tt.want {
			t.Errorf("%v and %v: %v", tt.a, tt.b, got)
		}
	}
}
