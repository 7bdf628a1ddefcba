// Package hangfs mounts a file system that hangs, for tests: one call of those below a path, whichever, is not
// answered until it is released. Those that wait for it in the kernel are not answered either.
package hangfs

import (
	"context"
	"errors"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// FS is a mounted file system, whose files lie in another directory.
type FS struct {
	Dir    string // where it is mounted
	server *fuse.Server

	mu    sync.Mutex
	below string        // what calls count
	calls []string      // that did
	at    int           // which of them hangs, from 1 on; 0 for none
	hangs chan struct{} // closed when one does
	free  chan struct{} // closed when it may go on
}

// Mount mounts one on dir, with its files in backing.
func Mount(dir, backing string) (*FS, error) {
	root, err := fs.NewLoopbackRoot(backing)
	if err != nil {
		return nil, err
	}
	f := &FS{Dir: dir}
	f.server, err = fs.Mount(dir, &node{root.(*fs.LoopbackNode), f}, &fs.Options{
		MountOptions: fuse.MountOptions{DirectMountStrict: true},
	})
	return f, err
}

// Unmount releases what hangs and unmounts it, once those have gone that have a file open. It gives up after a while.
func (f *FS) Unmount() (err error) {
	f.Release()
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		if err = f.server.Unmount(); err == nil {
			f.server.Wait()
			return nil
		}
	}
	return errors.Join(err, syscall.Unmount(f.Dir, syscall.MNT_DETACH))
}

// Hang has the n-th call from now on hang that concerns what is at a path or below it. What it returns is closed
// when that happens.
func (f *FS) Hang(below string, n int) (hangs <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.below, f.calls, f.at = below, nil, n
	f.hangs, f.free = make(chan struct{}), make(chan struct{})
	return f.hangs
}

// Release has the call go on that hangs, and none hang any more. It returns the calls there were up to now.
func (f *FS) Release() (calls []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at != 0 {
		f.at = 0
		close(f.free)
	}
	return f.calls
}

// call counts a call, and returns when it may go on.
func (f *FS) call(name, path string) {
	f.mu.Lock()
	if f.at == 0 || path != f.below && !strings.HasPrefix(path, f.below+"/") {
		f.mu.Unlock()
		return
	}
	f.calls = append(f.calls, name+" "+path)
	hang, free := len(f.calls) == f.at, f.free
	if hang {
		close(f.hangs)
	}
	f.mu.Unlock()
	if hang {
		<-free
	}
}

// node is a file or directory.
type node struct {
	*fs.LoopbackNode
	fs *FS
}

func (n *node) WrapChild(_ context.Context, ops fs.InodeEmbedder) fs.InodeEmbedder {
	return &node{ops.(*fs.LoopbackNode), n.fs}
}

func (n *node) path() string { return n.Path(n.Root()) }

func (n *node) child(name string) string { return strings.TrimPrefix(n.path()+"/"+name, "/") }

func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.fs.call("lookup", n.child(name))
	return n.LoopbackNode.Lookup(ctx, name, out)
}

func (n *node) Getattr(ctx context.Context, f fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.fs.call("getattr", n.path())
	return n.LoopbackNode.Getattr(ctx, f, out)
}

func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.fs.call("mkdir", n.child(name))
	return n.LoopbackNode.Mkdir(ctx, name, mode, out)
}

func (n *node) Unlink(ctx context.Context, name string) syscall.Errno {
	n.fs.call("unlink", n.child(name))
	return n.LoopbackNode.Unlink(ctx, name)
}

func (n *node) Rename(ctx context.Context, name string, parent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	n.fs.call("rename", n.child(name))
	return n.LoopbackNode.Rename(ctx, name, parent, newName, flags)
}

func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	n.fs.call("create", n.child(name))
	inode, f, opened, errno := n.LoopbackNode.Create(ctx, name, flags, mode, out)
	return inode, detour(f), opened, errno
}

func (n *node) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	n.fs.call("open", n.path())
	f, opened, errno := n.LoopbackNode.Open(ctx, flags)
	return detour(f), opened, errno
}

func (n *node) OpendirHandle(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	n.fs.call("opendir", n.path())
	h, opened, errno := n.LoopbackNode.OpendirHandle(ctx, flags)
	if d, ok := h.(directory); ok {
		h = &dir{d, n}
	}
	return h, opened, errno
}

// directory is what go-fuse opens one as.
type directory interface {
	fs.FileReaddirenter
	fs.FileFsyncdirer
	fs.FileSeekdirer
	fs.FileReleasedirer
}

// dir is an open directory.
type dir struct {
	directory
	node *node
}

func (d *dir) Readdirent(ctx context.Context) (*fuse.DirEntry, syscall.Errno) {
	d.node.fs.call("readdir", d.node.path())
	return d.directory.Readdirent(ctx)
}

func (d *dir) Fsyncdir(ctx context.Context, flags uint32) syscall.Errno {
	d.node.fs.call("fsyncdir", d.node.path())
	return d.directory.Fsyncdir(ctx, flags)
}

func (n *node) Read(ctx context.Context, f fs.FileHandle, b []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n.fs.call("read", n.path())
	return f.(fs.FileReader).Read(ctx, b, off)
}

func (n *node) Write(ctx context.Context, f fs.FileHandle, b []byte, off int64) (uint32, syscall.Errno) {
	n.fs.call("write", n.path())
	return f.(fs.FileWriter).Write(ctx, b, off)
}

func (n *node) Fsync(ctx context.Context, f fs.FileHandle, flags uint32) syscall.Errno {
	n.fs.call("fsync", n.path())
	if file, ok := f.(fs.FileFsyncer); ok {
		return file.Fsync(ctx, flags)
	}
	return 0
}

func (n *node) Flush(ctx context.Context, f fs.FileHandle) syscall.Errno {
	n.fs.call("flush", n.path())
	if file, ok := f.(fs.FileFlusher); ok {
		return file.Flush(ctx)
	}
	return 0
}

// detoured is a file that the kernel does not read and write behind our back.
type detoured struct{ *fs.LoopbackFile }

func (detoured) PassthroughFd() (int, bool) { return 0, false }

func detour(f fs.FileHandle) fs.FileHandle {
	if file, ok := f.(*fs.LoopbackFile); ok {
		return detoured{file}
	}
	return f
}
