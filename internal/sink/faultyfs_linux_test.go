package sink

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// faultyFS is a file system of the kernel's that can be told to fail or to hang.
type faultyFS struct {
	mu          sync.Mutex
	write, sync syscall.Errno // what they fail with
	open        syscall.Errno // what making a file fails with
	hang        chan struct{} // syncs wait until it is closed
}

// faults are set all at once.
func (f *faultyFS) set(write, sync syscall.Errno, hang chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.write, f.sync, f.hang = write, sync, hang
}

// fail has writes, syncs and the making of files fail, or not.
func (f *faultyFS) fail(write, sync, open syscall.Errno) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.write, f.sync, f.open, f.hang = write, sync, open, nil
}

// opens is what making a file fails with.
func (f *faultyFS) opens() syscall.Errno {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open
}

func (f *faultyFS) faults() (write, sync syscall.Errno, hang chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.write, f.sync, f.hang
}

// faultyNode is a file or directory in it, which lies in a real one.
type faultyNode struct {
	*fs.LoopbackNode
	faulty *faultyFS
}

func (n *faultyNode) WrapChild(_ context.Context, ops fs.InodeEmbedder) fs.InodeEmbedder {
	return &faultyNode{ops.(*fs.LoopbackNode), n.faulty}
}

func (n *faultyNode) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	if errno := n.faulty.opens(); errno != 0 {
		return nil, nil, 0, errno
	}
	node, f, opened, errno := n.LoopbackNode.Create(ctx, name, flags, mode, out)
	return node, detour(f), opened, errno
}

func (n *faultyNode) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	f, opened, errno := n.LoopbackNode.Open(ctx, flags)
	return detour(f), opened, errno
}

// detoured is a file that the kernel does not write behind our back.
type detoured struct{ *fs.LoopbackFile }

func (detoured) PassthroughFd() (int, bool) { return 0, false }

func detour(f fs.FileHandle) fs.FileHandle {
	if file, ok := f.(*fs.LoopbackFile); ok {
		return detoured{file}
	}
	return f
}

func (n *faultyNode) Write(ctx context.Context, f fs.FileHandle, b []byte, off int64) (uint32, syscall.Errno) {
	if write, _, _ := n.faulty.faults(); write != 0 {
		return 0, write
	}
	return f.(fs.FileWriter).Write(ctx, b, off)
}

func (n *faultyNode) Fsync(ctx context.Context, f fs.FileHandle, flags uint32) syscall.Errno {
	_, sync, hang := n.faulty.faults()
	if hang != nil {
		<-hang
	}
	if file, ok := f.(fs.FileFsyncer); ok && sync == 0 {
		return file.Fsync(ctx, flags)
	}
	return sync
}

// mountFaulty mounts one, until the test ends.
func mountFaulty(t *testing.T) (dir string, faulty *faultyFS) {
	t.Helper()
	root, err := fs.NewLoopbackRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir, faulty = t.TempDir(), new(faultyFS)
	server, err := fs.Mount(dir, &faultyNode{root.(*fs.LoopbackNode), faulty}, &fs.Options{
		MountOptions: fuse.MountOptions{DirectMountStrict: true},
	})
	if err != nil {
		if os.Getenv("RECORDER_E2E") != "required" && (errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENODEV)) {
			t.Skipf("mounting a file system takes root and /dev/fuse: %v", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			t.Errorf("%v, %v", err, syscall.Unmount(dir, syscall.MNT_DETACH))
			return // what a failed test has open would be waited for
		}
		server.Wait()
	})
	return dir, faulty
}

// What the kernel reports as failed ends the files it concerns. They hold what they held, and others
// follow them.
func TestARealDiskThatFails(t *testing.T) {
	for name, fault := range map[string]struct{ write, sync syscall.Errno }{
		"writes":      {write: syscall.EIO},
		"no space":    {write: syscall.ENOSPC},
		"syncs":       {sync: syscall.EIO},
		"writes late": {sync: syscall.ENOSPC},
	} {
		t.Run(name, func(t *testing.T) {
			dir, faulty := mountFaulty(t)
			synctest.Test(t, func(t *testing.T) {
				c := startCall(t, Options{Dir: dir})
				a, v := c.audio(), c.video()
				c.talk(a, v, 5*time.Second)
				faulty.set(fault.write, fault.sync, nil)
				c.talk(a, v, 3*time.Second)
				faulty.set(0, 0, nil)
				for range 6 {
					c.talk(a, v, 2*time.Second) // each with a key frame
				}
				c.end()
			})
			r := readRoom(t, dir)
			for _, kind := range []string{audio, video} {
				r := r.of(kind)
				if p := r.track.Parts; len(p) != 2 || p[0].Error == "" || p[0].Duration < Seconds(3900*ms) || p[1].Error != "" || !p[1].Final {
					t.Errorf("%s: %d files, %+v", kind, len(p), p[0])
				}
				if g := r.track.Gaps; len(g) != 1 || g[0].Reason != ReasonDisk || g[0].Duration > Seconds(9*time.Second) {
					t.Errorf("%s gaps %s", kind, r.gaps())
				}
			}
		})
	}
}

// An attempt to begin a recording that fails leaves nothing behind, however often it is made.
func TestAnAttemptToBeginThatFailsLeavesNothing(t *testing.T) {
	dir, faulty := mountFaulty(t)
	root, err := Open(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, fault := range []struct{ write, sync syscall.Errno }{{write: syscall.EIO}, {sync: syscall.EIO}} {
		faulty.set(fault.write, fault.sync, nil)
		for range 3 {
			if _, err := root.NewRecording(RecordingInfo{Channel: "room"}); !errors.Is(err, syscall.EIO) {
				t.Errorf("a recording began: %v", err)
			}
		}
		find(t, dir, 0)
	}
}

// While the disk hangs, manifest and all, the call goes on, and in the end the disk has all of it.
func TestARealDiskThatHangs(t *testing.T) {
	const length = 10 * time.Second
	dir, faulty := mountFaulty(t)
	root, err := Open(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	start := time.Now()
	rec, err := root.newRecording(RecordingInfo{Channel: "room", Start: start})
	if err != nil {
		t.Fatal(err)
	}
	hang := make(chan struct{})
	faulty.set(0, 0, hang)
	c := &call{T: t, root: root, rec: rec}
	if c.stream, err = rec.NewStream(StreamInfo{PeerID: "alice", StreamID: "camera"}); err != nil {
		t.Fatal(err)
	}
	c.play(length, start.Add)
	close(hang) // no sooner: whoever waits for the disk waits for ever
	if err := rec.finish(context.Background(), context.Background(), length); err != nil {
		t.Fatal(err)
	}
	checkSteady(t, readRecording(t, filepath.Join(dir, rec.Dir())), length)
}
