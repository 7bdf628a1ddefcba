package sink

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// withoutFlock has the system refuse locks for the rest of the test. FUSE cannot be told to for
// directories, which the kernel locks without asking it.
func withoutFlock(t *testing.T, errno syscall.Errno) {
	t.Helper()
	sysFlock = func(int, int) error { return errno }
	t.Cleanup(func() { sysFlock = syscall.Flock })
}

// deadProcess is the owner of what a process locked that has ended.
func deadProcess(t *testing.T) lockOwner {
	t.Helper()
	cmd := exec.Command("/bin/sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	owner := thisProcess()
	owner.PID, owner.Began = cmd.Process.Pid, processBegan(cmd.Process.Pid)
	if alive, known := owner.alive(); !alive || !known || owner.Began == "" {
		t.Errorf("%+v runs: alive %v, known %v", owner, alive, known)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return owner
}

func putLock(t *testing.T, dir string, owner lockOwner, age time.Duration) {
	t.Helper()
	b, err := json.Marshal(owner)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, lockName)
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, time.Time{}, time.Now().Add(-age)); err != nil {
		t.Fatal(err)
	}
}

// On a file system without locks a recording is made, left alone by others while it is, continued after a
// stop and after a crash, repaired and removed, as on any other.
func TestAFileSystemWithoutLocksIsAsGoodAsAnother(t *testing.T) {
	dead := deadProcess(t)
	for _, errno := range []syscall.Errno{syscall.ENOLCK, syscall.ENOTSUP, syscall.EINVAL, syscall.ENOSYS, syscall.EBADF} {
		t.Run(errno.Error(), func(t *testing.T) {
			withoutFlock(t, errno)
			dir, _ := mountFaulty(t)
			after, _ := mountFaulty(t)
			synctest.Test(t, func(t *testing.T) {
				c := begin(t, dir)
				id := c.rec.ID()
				c.talk(c.audio(), nil, 2*time.Second)
				c.suspend()
				noLocks(t, dir)
				c = begin(t, dir)
				if c.rec.ID() != id {
					t.Error("not continued after a stop")
				}
				c.talk(c.audio(), nil, 2*time.Second)
				leftAlone(t, c, dir)
				c.crash(after)
				lost := filepath.Join(after, c.rec.Dir())
				putLock(t, lost, dead, 0)
				if report, err := Verify(t.Context(), after, nil); err != nil || report.OK {
					t.Errorf("nobody writes it, and it is called good: %+v %v", report, err)
				}
				again := begin(t, after)
				if again.rec.ID() != id {
					t.Error("not continued after a crash")
				}
				again.talk(again.audio(), nil, 2*time.Second)
				again.end()
				c.end()
				noLocks(t, dir)
				noLocks(t, after)
			})
			root, err := Open(Options{Dir: after, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			if report, err := Verify(t.Context(), after, nil); err != nil || !report.OK {
				t.Errorf("verify: %+v %v", report, err)
			}
			if err := root.markClock(time.Now()); err != nil {
				t.Fatal(err)
			}
			if removed, err := root.Retain(t.Context(), Retention{MaxSize: 1}); err != nil || len(removed) != 1 {
				t.Errorf("removed %q: %v", removed, err)
			}
			for _, leftover := range []string{"room/20260506T070807Z-abcdefgh", "room/20260506T070808Z-abcdefgh"} {
				makeTree(t, after, leftover+"/"+manifestTemp)
			}
			putLock(t, filepath.Join(after, "room/20260506T070807Z-abcdefgh"), dead, 0)
			<-root.Recover(t.Context())
			find(t, after, 1) // the mark of the clock
		})
	}
}

// leftAlone wants that nobody repairs or removes what c records.
func leftAlone(t *testing.T, c *call, dir string) {
	t.Helper()
	if r, err := Repair(t.Context(), dir, nil); err != nil || len(r.Recordings) != 1 || !r.Recordings[0].Busy {
		t.Errorf("repair: %+v %v", r, err)
	}
	if r, err := Verify(t.Context(), dir, nil); err != nil || !r.OK {
		t.Errorf("verify: %+v %v", r, err)
	}
	if err := c.root.remove(c.rec.Dir()); !errors.Is(err, ErrLocked) {
		t.Errorf("removed: %v", err)
	}
}

func noLocks(t *testing.T, dir string) {
	t.Helper()
	for file := range tree(t, dir) {
		if strings.Contains(file, lockName) {
			t.Errorf("%s is left", file)
		}
	}
}

// Who starts where there are no locks is told, with the directory.
func TestAFileSystemWithoutLocksIsNamed(t *testing.T) {
	for _, without := range []bool{true, false} {
		if without {
			withoutFlock(t, syscall.ENOLCK)
		} else {
			sysFlock = syscall.Flock
		}
		var log bytes.Buffer
		dir := t.TempDir()
		root, err := Open(Options{Dir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		root.Close()
		if n := strings.Count(log.String(), "level=WARN"); n != 1 && without || n != 0 && !without || without && !strings.Contains(log.String(), dir) {
			t.Errorf("without locks %v: %s", without, log.String())
		}
	}
}

// A lock file holds as long as its owner lives: by what the system says of a process of this machine, by
// when it was last written for any other.
func TestALockFileHoldsAsLongAsItsOwnerLives(t *testing.T) {
	self, dead := thisProcess(), deadProcess(t)
	parent := self
	parent.PID, parent.Began = os.Getppid(), processBegan(os.Getppid())
	change := func(o lockOwner, f func(o *lockOwner)) lockOwner {
		f(&o)
		return o
	}
	elsewhere := change(self, func(o *lockOwner) { o.Boot = "another machine" })
	container := change(self, func(o *lockOwner) { o.PIDs = "pid:[1]" })
	for name, c := range map[string]struct {
		owner lockOwner
		age   time.Duration
		held  bool
	}{
		"this process":                      {self, 0, true},
		"this process, whose disk hung":     {self, time.Hour, true},
		"another process":                   {parent, 0, true},
		"another process, whose disk hung":  {parent, time.Hour, true},
		"a process that ended":              {dead, 0, false},
		"another that has its number":       {change(dead, func(o *lockOwner) { o.PID = os.Getpid() }), 0, false},
		"another machine":                   {elsewhere, 0, true},
		"another machine, a beat late":      {elsewhere, lockBeat + 5*time.Second, true},
		"another machine, silent":           {elsewhere, lockStale + time.Second, false},
		"another machine, in the future":    {elsewhere, -lockStale - time.Minute, false},
		"another container":                 {container, lockBeat, true},
		"another container, silent":         {container, lockStale + time.Second, false},
		"nobody knows, fresh":               {lockOwner{}, 0, true},
		"nobody knows, silent":              {lockOwner{}, lockStale + time.Second, false},
		"a process with no number":          {change(self, func(o *lockOwner) { o.PID = 0 }), time.Second, true},
		"a process group, which kill means": {change(self, func(o *lockOwner) { o.PID = -1 }), lockStale + time.Second, false},
	} {
		for _, flocks := range []bool{false, true} { // another process may have found that there are locks
			dir := t.TempDir()
			putLock(t, dir, c.owner, c.age)
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			sysFlock = syscall.Flock
			if !flocks {
				withoutFlock(t, syscall.ENOLCK)
			}
			if got := abandoned(root); got == c.held {
				t.Errorf("%s, with flock %v: abandoned %v", name, flocks, got)
			}
			held, err := lock(root)
			if c.held != errors.Is(err, ErrLocked) || !c.held && err != nil {
				t.Errorf("%s, with flock %v: %v", name, flocks, err)
			}
			if err == nil {
				if _, err := lock(root); !errors.Is(err, ErrLocked) {
					t.Errorf("%s, with flock %v: locked twice: %v", name, flocks, err)
				}
				if err := held.Close(); err != nil {
					t.Error(err)
				}
				noLocks(t, dir)
			} else if n := len(tree(t, dir)); n != 1 {
				t.Errorf("%s, with flock %v: %d files are left", name, flocks, n)
			}
			root.Close()
		}
	}
}

// A file in a lock's place that is none holds like one that is not written yet, and a link is not followed.
func TestWhatIsNoLockFileIsNotFollowed(t *testing.T) {
	withoutFlock(t, syscall.ENOLCK)
	for _, target := range []string{"/etc/passwd", "/dev/zero", "nowhere"} {
		dir := t.TempDir()
		makeTree(t, dir, lockName+"->"+target)
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		if _, err := lock(root); err == nil {
			t.Errorf("a link to %s was taken over", target)
		}
	}
}

// Of several processes that find a stale lock file one gets it.
func TestOneTakesAStaleLockFileOver(t *testing.T) {
	withoutFlock(t, syscall.ENOLCK)
	dir, _ := mountFaulty(t)
	for range 5 {
		putLock(t, dir, deadProcess(t), 0)
		var group sync.WaitGroup
		var mu sync.Mutex
		won := 0
		for range 8 {
			group.Go(func() {
				root, err := os.OpenRoot(dir)
				if err != nil {
					t.Error(err)
					return
				}
				t.Cleanup(func() { root.Close() })
				held, err := lock(root)
				switch {
				case err == nil:
					mu.Lock()
					won++
					mu.Unlock()
					t.Cleanup(func() { held.Close() })
				case !errors.Is(err, ErrLocked):
					t.Error(err)
				}
			})
		}
		group.Wait()
		if won != 1 {
			t.Errorf("%d hold one lock", won)
		}
	}
}

// A lock file is written again and again while it is held, and no more when it is not.
func TestALockFileIsSeenToBeHeld(t *testing.T) {
	withoutFlock(t, syscall.ENOLCK)
	dir := t.TempDir()
	file := filepath.Join(dir, lockName)
	synctest.Test(t, func(t *testing.T) {
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		held, err := lock(root)
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			long := time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
			if err := os.Chtimes(file, long, long); err != nil {
				t.Fatal(err)
			}
			time.Sleep(lockBeat + time.Second)
			synctest.Wait()
			if info, err := os.Stat(file); err != nil || info.ModTime().Equal(long) {
				t.Errorf("not written: %v", err)
			}
		}
		if err := held.Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		if n := len(tree(t, dir)); n != 0 {
			t.Errorf("%d files are left", n)
		}
	})
}

// A recording that another machine wrote to the last is repaired by the recorder that found it being
// written, when it is clear that nobody does any more, and not by its next start.
func TestARecordingWhoseWriterDiesLaterIsRepaired(t *testing.T) {
	withoutFlock(t, syscall.ENOLCK)
	left, dir := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, left)
		c.talk(c.audio(), nil, 2*time.Second)
		c.crash(dir)
		defer c.end()
		writer := filepath.Join(dir, c.rec.Dir())
		elsewhere := thisProcess()
		elsewhere.Boot = "another machine"
		root, err := Open(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		state := func() RecordingState {
			dir, err := root.dir().OpenRoot(c.rec.Dir())
			if err != nil {
				t.Fatal(err)
			}
			defer dir.Close()
			m, err := readManifest(dir)
			if err != nil {
				t.Fatal(err)
			}
			return m.State
		}
		touch := func(age time.Duration) { // by the file system's clock, which does not stand still here
			file := filepath.Join(writer, "touch")
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(file)
			if err == nil {
				err = errors.Join(os.Remove(file), os.Chtimes(filepath.Join(writer, lockName), time.Time{}, info.ModTime().Add(-age)))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		putLock(t, writer, elsewhere, 0)
		touch(0)
		<-root.Recover(t.Context())
		for range 3 {
			touch(0)
			if got := state(); got != StateRecording {
				t.Fatalf("while it is written it is %s", got)
			}
			time.Sleep(repairAgain)
			synctest.Wait()
		}
		touch(lockStale + time.Second)
		time.Sleep(repairAgain + time.Minute)
		synctest.Wait()
		if got := state(); got != StateRecovered {
			t.Errorf("when nobody wrote it any more it was %s", got)
		}
	})
}
