package sink

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// unprivileged runs f on a thread to which permissions apply, as they do not to root's.
func unprivileged(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		err := unix.Capget(&header, &data[0])
		if err == nil {
			data[0].Effective &^= 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH
			err = unix.Capset(&header, &data[0])
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// A directory that may not be read, as lost+found at the top of a file system, keeps nobody from the
// recordings beside it. It is named, by the recorder once each time.
func TestADirectoryThatMayNotBeReadHidesNoOther(t *testing.T) {
	dir := t.TempDir()
	var log bytes.Buffer
	root, err := Open(Options{Dir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	const closed = "lost+found"
	if err := os.Mkdir(filepath.Join(dir, closed), 0); err != nil {
		t.Fatal(err)
	}
	rec, err := root.NewRecording(RecordingInfo{Channel: "room"}) // behind it in order of name
	if err != nil {
		t.Fatal(err)
	}
	name := rec.Dir()
	if err := rec.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	named := func(problems []string) bool {
		return len(problems) == 1 && strings.Contains(problems[0], closed)
	}
	leftover := path.Join("room", "99990506T070807Z-leftover") // of a crash, empty
	if err := os.Mkdir(filepath.Join(dir, leftover), 0o700); err != nil {
		t.Fatal(err)
	}
	unprivileged(t, func() {
		if urgent, others, _ := root.look(t.Context()); !slices.Equal(slices.Concat(urgent, others), []string{name, leftover}) {
			t.Errorf("recovery found %q and %q", urgent, others)
		}
		if r, err := Repair(t.Context(), dir, nil); err != nil || r.OK || !named(r.Problems) {
			t.Errorf("repaired: %+v %v", r, err)
		}
		if _, err := os.Stat(filepath.Join(dir, leftover)); !os.IsNotExist(err) {
			t.Errorf("what a crash left was not repaired: %v", err)
		}
		if r, err := Verify(t.Context(), dir, nil); err != nil || r.OK || len(r.Recordings) != 1 || !r.Recordings[0].OK || !named(r.Problems) {
			t.Errorf("verified: %+v %v", r, err)
		}
		for _, want := range []int{1, 0, 0} {
			if removed, err := root.Retain(t.Context(), Retention{MaxSize: 1}); err != nil || len(removed) != want {
				t.Errorf("removed %q, want %d: %v", removed, want, err)
			}
		}
	})
	for _, mode := range []os.FileMode{0o700, 0} { // it heals, and fails again
		if err := os.Chmod(filepath.Join(dir, closed), mode); err != nil {
			t.Fatal(err)
		}
		unprivileged(t, func() {
			if _, err := root.Retain(t.Context(), Retention{}); err != nil {
				t.Error(err)
			}
		})
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 2 || !strings.Contains(log.String(), closed) {
		t.Errorf("%d warnings:\n%s", n, log.String())
	}
}
