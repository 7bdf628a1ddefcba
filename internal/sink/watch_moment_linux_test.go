package sink

import (
	"context"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// moody is a file system that answers every question with an error while it has one.
type moody struct {
	*fs.LoopbackNode
	errno *atomic.Uintptr
}

func (n *moody) WrapChild(_ context.Context, ops fs.InodeEmbedder) fs.InodeEmbedder {
	return &moody{ops.(*fs.LoopbackNode), n.errno}
}

func (n *moody) Getattr(ctx context.Context, f fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	if errno := n.errno.Load(); errno != 0 {
		return syscall.Errno(errno)
	}
	return n.LoopbackNode.Getattr(ctx, f, out)
}

func (n *moody) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if errno := n.errno.Load(); errno != 0 {
		return nil, syscall.Errno(errno)
	}
	return n.LoopbackNode.Lookup(ctx, name, out)
}

func (n *moody) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	if errno := n.errno.Load(); errno != 0 {
		return nil, nil, 0, syscall.Errno(errno)
	}
	return n.LoopbackNode.Create(ctx, name, flags, mode, out)
}

// A disk, or a network, that fails for a moment has deleted nothing: what is in the files stays in them, and counts.
func TestADiskThatFailsForAMomentHasDeletedNothing(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ETIMEDOUT, syscall.ENOTCONN, syscall.EHOSTDOWN} {
		t.Run(errno.Error(), func(t *testing.T) {
			root, err := fs.NewLoopbackRoot(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			dir, mood := t.TempDir(), new(atomic.Uintptr)
			server, err := fs.Mount(dir, &moody{root.(*fs.LoopbackNode), mood}, &fs.Options{MountOptions: fuse.MountOptions{DirectMountStrict: true}})
			if err != nil && os.Getenv("RECORDER_E2E") != "required" {
				t.Skipf("mounting a file system takes root and /dev/fuse: %v", err)
			} else if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { mood.Store(0); _ = server.Unmount() })
			synctest.Test(t, func(t *testing.T) {
				c := startCall(t, Options{Dir: dir})
				a, v := c.audio(), c.video()
				c.talk(a, v, 10*time.Second)
				synctest.Wait()
				mood.Store(uintptr(errno))
				c.rec.look()
				mood.Store(0)
				c.rec.look()
				c.rec.mu.Lock()
				for _, track := range c.rec.tracks {
					track.account(c.rec.now())
					m := track.manifest
					if len(m.Parts) != 1 || m.Parts[0].Error != "" || m.Recorded < Seconds(9*time.Second) {
						t.Errorf("%s: recorded %v in %+v", track.kind, m.Recorded.Duration(), m.Parts[0])
					}
				}
				if c.rec.homeless != nil {
					t.Errorf("it has no directory: %v", c.rec.homeless)
				}
				c.rec.mu.Unlock()
				c.end()
			})
		})
	}
}
