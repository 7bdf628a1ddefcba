package sink

import (
	"context"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// keep makes n recordings of 5 s, an hour apart, each with some sound, and one that goes on, and
// returns their directories.
func keep(t *testing.T, root *Root, n int) (dirs []string, open *call) {
	t.Helper()
	for i := range n + 1 {
		rec, err := root.NewRecording(RecordingInfo{Channel: "room"})
		if err != nil {
			t.Fatal(err)
		}
		c := &call{T: t, root: root, rec: rec, pumped: true}
		c.open("alice")
		c.talk(c.audio(), c.video(), 5*time.Second)
		dirs = append(dirs, rec.Dir())
		if i == n {
			return dirs, c
		}
		if err := rec.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
	}
	return dirs, nil
}

// Of the finished recordings the oldest go first, and none beyond what the policy says; the one in
// progress stays whatever it says.
func TestRetention(t *testing.T) {
	for _, c := range []struct {
		name   string
		policy func(size int64) Retention
		kept   int // of four, the newest in progress
	}{
		{"everything", func(int64) Retention { return Retention{} }, 4},
		{"young ones", func(int64) Retention { return Retention{MaxAge: 150 * time.Minute} }, 3},
		{"as many as fit", func(size int64) Retention { return Retention{MaxSize: 2*size + size/2} }, 3},
		{"fewer than are in progress", func(size int64) Retention { return Retention{MaxSize: size / 2} }, 1},
		{"none", func(int64) Retention { return Retention{MaxAge: time.Second, MaxSize: 1} }, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.MkdirAll(filepath.Join(dir, "somebody", "elses"), 0o700); err != nil {
				t.Fatal(err)
			}
			leftover := filepath.Join(dir, removedPrefix+"x", "audio")
			if err := os.MkdirAll(leftover, 0o700); err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				root, err := Open(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
				if err != nil {
					t.Fatal(err)
				}
				dirs, open := keep(t, root, 3)
				synctest.Wait()
				first, err := root.weigh(dirs[0], kept{}, time.Now())
				if err != nil || first.size < 1000 {
					t.Fatalf("%+v %v", first, err)
				}
				removed, err := root.Retain(context.Background(), c.policy(first.size))
				if want := dirs[:4-c.kept]; err != nil || !slices.Equal(removed, want) {
					t.Errorf("removed %q, want %q: %v", removed, want, err)
				}
				open.talk(open.audio(), nil, time.Second)
				open.end()
			})
			found, _ := filepath.Glob(filepath.Join(dir, "room", "*"))
			if len(found) != c.kept {
				t.Errorf("%d recordings are left, want %d", len(found), c.kept)
			}
			for _, recording := range found {
				readRecording(t, recording)
			}
			if _, err := os.Stat(leftover); !os.IsNotExist(err) {
				t.Errorf("what a crash kept from being removed is still there: %v", err)
			}
			if _, err := os.Stat(filepath.Join(dir, "somebody", "elses")); err != nil {
				t.Error(err)
			}
		})
	}
}

// The directory of a channel goes with its last recording, and comes back with the next.
func TestRetentionRemovesEmptyChannels(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		root, err := Open(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		for range 2 {
			rec, err := root.NewRecording(RecordingInfo{Channel: "room"})
			if err != nil {
				t.Fatal(err)
			}
			if err := rec.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
			if removed, err := root.Retain(context.Background(), Retention{MaxAge: time.Minute}); err != nil || len(removed) != 1 {
				t.Errorf("removed %q: %v", removed, err)
			}
			if names := entries(t, root.dir()); !slices.Equal(names, []string{path.Dir(wallMark), wallMark}) {
				t.Errorf("left %q", names)
			}
		}
	})
}

// A recording that may be continued is not removed before that time has passed.
func TestWhatMayBeContinuedIsKept(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, dir)
		c.talk(c.audio(), nil, time.Second)
		c.suspend()
		root, err := Open(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		for _, want := range []int{0, 1} {
			if removed, err := root.Retain(t.Context(), Retention{MaxSize: 1}); err != nil || len(removed) != want {
				t.Errorf("%d removed, want %d: %v", len(removed), want, err)
			}
			time.Sleep(window + time.Second)
		}
	})
}

// The manifest of a finished recording, which may be long, is read once and not each minute, unless it
// changes. What is gone is forgotten.
func TestRetentionReadsAManifestOnce(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		root, err := Open(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		dirs, open := keep(t, root, 3)
		retain := func(age time.Duration, want ...string) {
			t.Helper()
			if removed, err := root.Retain(t.Context(), Retention{MaxAge: age}); err != nil || !slices.Equal(removed, want) {
				t.Errorf("removed %q, want %q: %v", removed, want, err)
			}
		}
		retain(24 * time.Hour)
		for i, changed := range []time.Duration{0, time.Second} {
			manifest := filepath.Join(dir, dirs[i], ManifestName)
			info, err := os.Stat(manifest)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(manifest, make([]byte, info.Size()), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(manifest, time.Time{}, info.ModTime().Add(changed)); err != nil {
				t.Fatal(err)
			}
		}
		retain(time.Second, dirs[0], dirs[2]) // what is none of ours stays
		retain(time.Second)
		if n := len(root.finished); n != 0 {
			t.Errorf("%d recordings that are gone are remembered", n)
		}
		open.end()
	})
}
