package sink

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// atWork is the goroutines of a root's that run.
func atWork() (all []string) {
	stacks := make([]byte, 1<<20)
	for stack := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		if strings.Contains(stack, "sink.(*Root)") || strings.Contains(stack, "sink.(*Recording)") {
			all = append(all, stack)
		}
	}
	return all
}

// Nothing that a root began goes on when it is closed: neither the hashes of earlier recordings, nor those of
// one that ended, nor watching the disk, nor waiting for another process.
func TestNothingOutlivesARoot(t *testing.T) {
	v := soundRecording(t)
	f, err := v.dir.OpenFile(audioPart, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(1<<36), f.Close()); err != nil { // takes a minute to read
		t.Fatal(err)
	}
	v.audio.Size, v.audio.SHA256 = 1<<36, ""
	v.save(t)
	busy := tempStoreIn(t, v.root)
	defer busy.Close()
	if err := v.store.at.Load().lock.Close(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		root, err := Open(Options{Dir: v.root, Logger: slog.New(slog.DiscardHandler), MinFree: 1, closeWait: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		<-root.Recover(t.Context())
		rec, err := root.NewRecording(RecordingInfo{Channel: "other"})
		if err != nil {
			t.Fatal(err)
		}
		rec.mu.Lock()
		rec.manifest.Streams = unhashedStream() // ends, and is hashed for as long as the other one
		rec.mu.Unlock()
		rec.open = openIn(v.dir)
		s := rec.manifest.Streams[0]
		s.Tracks[0].Kind, s.Tracks[0].Parts[0].File, s.Tracks[0].Parts[0].ClockRate, s.Dir = audio, audioPart, 48000, "bob/cam"
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = rec.Close(ctx) // waits for nothing
		if err := root.Close(); err != nil {
			t.Fatal(err)
		}
		if left := atWork(); len(left) != 0 {
			t.Fatalf("%d are at work:\n%s", len(left), strings.Join(left, "\n\n"))
		}
	}
}

// tempStoreIn is a recording in a root's directory that is being written.
func tempStoreIn(t *testing.T, dir string) *store {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	m := newManifest("busy")
	s := tempStore(t, root, m)
	if err := s.SaveManifest(m); err != nil {
		t.Fatal(err)
	}
	return s
}

// A disk that hangs keeps nobody from closing a root.
func TestARootIsClosedWhileTheDiskHangs(t *testing.T) {
	dir, faulty := mountFaulty(t)
	root, err := Open(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	rec, err := root.NewRecording(RecordingInfo{Channel: "room"})
	if err != nil {
		t.Fatal(err)
	}
	hang := make(chan struct{})
	faulty.set(0, 0, hang)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := rec.Close(ctx); err == nil {
		t.Error("closed although the disk hangs")
	}
	begun := time.Now()
	if err := root.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 100*time.Millisecond+time.Second {
		t.Errorf("took %v", took)
	}
	close(hang)
	for range 200 {
		if len(atWork()) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("still at work: %q, in %s", atWork(), filepath.Base(dir))
}
