package sink

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A recording is not removed while it is verified, nor while somebody else holds a shared lock on its
// directory, as for a copy; one that may go on is not kept from that.
func TestARecordingIsNotRemovedWhileItIsRead(t *testing.T) {
	root := tempRoot(t)
	finished := tempStore(t, root, newManifest("room"))
	m := newManifest("room")
	end := m.Started
	m.State, m.Ended = StateComplete, &end
	if err := errors.Join(finished.SaveManifest(m), finished.at.Load().lock.Close()); err != nil {
		t.Fatal(err)
	}
	dir, err := root.OpenRoot(finished.Dir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	reading := lockToRead(dir, m)
	r := &Root{channels: newKeyed()}
	r.at.Store(root)
	if err := r.remove(finished.Dir()); !errors.Is(err, ErrLocked) {
		t.Errorf("removed while it is verified: %v", err)
	}
	reading.Close()

	copying, err := os.Open(filepath.Join(root.Name(), finished.Dir()))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(copying.Fd()), syscall.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	if report, err := Verify(t.Context(), root.Name(), nil); err != nil || !report.OK {
		t.Errorf("verify beside a copy: %+v %v", report, err)
	}
	if err := r.remove(finished.Dir()); !errors.Is(err, ErrLocked) {
		t.Errorf("removed while it is copied: %v", err)
	}
	copying.Close()

	until := At(m.Started.UTC, m.Started.UTC.AddDate(999, 0, 0))
	for name, change := range map[string]func(m *Manifest){
		"is recorded":       func(m *Manifest) { m.State, m.Ended = StateRecording, nil },
		"may be continued":  func(m *Manifest) { m.ContinuableUntil = &until },
		"lacks its hashes":  func(m *Manifest) { m.Streams = unhashedStream() },
		"cannot be decided": func(m *Manifest) { m.Ended = nil },
	} {
		m := *m
		change(&m)
		reading := lockToRead(dir, &m)
		held, err := lock(dir)
		if err != nil {
			t.Errorf("what %s cannot be locked while it is verified: %v", name, err)
		} else {
			held.Close()
		}
		reading.Close()
	}
	if err := r.remove(finished.Dir()); err != nil {
		t.Error(err)
	}
}

func unhashedStream() []*ManifestStream {
	return []*ManifestStream{{Tracks: []*ManifestTrack{{Parts: []*ManifestPart{{Final: true}}}}}}
}

// What is removed while verify is at it is no fault, before it is opened or while it is read: it is not
// reported.
func TestARecordingThatGoesWhileItIsVerifiedIsNoFault(t *testing.T) {
	for _, reading := range []bool{false, true} {
		v := soundRecording(t)
		root := v.root
		if reading { // for a while
			f, err := v.dir.OpenFile(audioPart, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(f.Truncate(64<<20), f.Close()); err != nil {
				t.Fatal(err)
			}
		}
		remove := func() {
			if err := os.RemoveAll(filepath.Join(root, v.store.Dir())); err != nil {
				t.Error(err)
			}
		}
		above, err := os.OpenRoot(root)
		if err != nil {
			t.Fatal(err)
		}
		defer above.Close()
		m := newManifest("a")
		end := m.Started
		m.State, m.Ended = StateComplete, &end
		if err := tempStore(t, above, m).SaveManifest(m); err != nil {
			t.Fatal(err)
		}
		report, err := Verify(t.Context(), root, func(RecordingReport) {
			if reading {
				time.AfterFunc(20*time.Millisecond, remove)
			} else {
				remove()
			}
		})
		if err != nil || !report.OK || len(report.Recordings) != 1 {
			t.Errorf("while it is read %v: %+v %v", reading, report, err)
		}
	}
}
