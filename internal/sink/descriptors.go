package sink

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	// restAfter is how long a media file stays open after it was last used.
	restAfter = 2 * time.Second
	// descriptorRetry is how often a file that could not be opened for want of a descriptor is tried again.
	descriptorRetry = 250 * time.Millisecond
)

// errNoDescriptors is returned when the process or the system has no file descriptor left.
var errNoDescriptors = errors.New("no file descriptor is left")

// descriptors bounds how many media files are open at once, so that the sockets, the manifests and the
// readers of the process always find a descriptor. A file that is closed goes on with its next write:
// when all descriptors are taken, the file that was used longest ago is closed for it. So any number
// of files can be written, and a file that nothing is written to costs no descriptor for long.
type descriptors struct {
	most      int // files that may be open
	mostOpens int // files that may be opened at the same time: each takes a few descriptors for a moment
	restAfter time.Duration
	log       *slog.Logger

	mu        sync.Mutex
	changed   sync.Cond // any of what follows
	open      int       // files that are open, being opened or being closed
	opens     int       // of them, being opened
	idle      []*handle // open and not in use, the one used longest ago first
	waits     int       // handles that found no descriptor, and try again
	shortages uint64    // times that one did
	said      bool      // the log says that there is a shortage,
	warned    time.Time // since then
}

// newDescriptors is for most files; 0 is half of what the process may have.
func newDescriptors(most int, log *slog.Logger) *descriptors {
	if most == 0 {
		most = DescriptorLimit() / 2
	}
	most = max(most, 1)
	d := &descriptors{most: most, mostOpens: max(most/8, 1), restAfter: restAfter, log: log}
	d.changed.L = &d.mu
	return d
}

// DescriptorLimit is how many file descriptors the process may have. Go raises the soft limit to the
// hard one when a process starts.
func DescriptorLimit() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return int(min(limit.Cur, 1<<20))
}

// exhausted reports whether an error is that there is no descriptor.
func exhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// need runs f, which opens files for a moment. While there is no descriptor for it, idle media files
// are closed. Without any the error wraps errNoDescriptors.
func (d *descriptors) need(f func() error) error {
	for {
		err := f()
		if !exhausted(err) {
			return err
		}
		if !d.spareOne() {
			return fmt.Errorf("%w: %w", errNoDescriptors, err)
		}
	}
}

// spareOne closes an idle file, if there is one.
func (d *descriptors) spareOne() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.evict()
}

// evict closes the idle file that was used longest ago. mu is held, but not while the disk works.
func (d *descriptors) evict() bool {
	if len(d.idle) == 0 {
		return false
	}
	d.shut(d.idle[0])
	return true
}

// shut closes an idle file. mu is held, but not while the disk works.
func (d *descriptors) shut(h *handle) {
	d.idle = slices.DeleteFunc(d.idle, func(other *handle) bool { return other == h })
	h.state = handleClosing
	d.mu.Unlock()
	err := h.close()
	d.mu.Lock()
	h.file, h.err, h.state = nil, err, handleClosed
	d.open--
	d.changed.Broadcast()
}

// handleState is what a handle's file is, and who may touch the handle.
type handleState int

const (
	handleClosed  handleState = iota // its owner
	handleUsed                       // its owner
	handleIdle                       // nobody
	handleClosing                    // the goroutine that closes it
)

// handle is a media file that is open while its owner uses it, and may be closed at any other time.
// Its methods are for one goroutine at a time, the owner.
type handle struct {
	pool   *descriptors
	create func() (File, error)                // makes the file; not called once made
	reopen func(was fs.FileInfo) (File, error) // opens it; the error wraps errReplaced or errChanged if it is not as it was

	state    handleState // guarded by pool.mu
	file     File
	made     bool
	was      fs.FileInfo // when it was closed; nil if it never was
	unsynced bool        // something was written that no sync has seen
	err      error       // of closing it, for the next take
}

// What may have become of a file while it was closed.
var (
	errReplaced = fmt.Errorf("%w while nothing was written to it", errGone)
	errChanged  = errors.New("was changed while nothing was written to it")
)

// take opens the file, unless it is open, and keeps it so until give. It waits for other files of the
// pool. Without a descriptor of the system the error wraps errNoDescriptors.
func (h *handle) take() (File, error) {
	d := h.pool
	d.mu.Lock()
	defer d.mu.Unlock()
	for h.state == handleClosing {
		d.changed.Wait()
	}
	if h.state == handleIdle {
		d.idle = slices.DeleteFunc(d.idle, func(other *handle) bool { return other == h })
		h.state = handleUsed
		return h.file, nil
	}
	if err := h.err; err != nil {
		h.err = nil
		return nil, err
	}
	for d.open >= d.most || d.opens >= d.mostOpens {
		if d.open < d.most || !d.evict() {
			d.changed.Wait()
		}
	}
	d.open++
	d.opens++
	d.mu.Unlock()
	var f File
	err := d.need(func() (err error) {
		f, err = h.openFile()
		return err
	})
	d.mu.Lock()
	d.opens--
	if err == nil {
		h.file, h.state, h.made = f, handleUsed, true
	} else {
		d.open--
	}
	if errors.Is(err, errChanged) {
		h.was = nil // it is still the file that was made: what is left of it can be saved
	}
	d.changed.Broadcast()
	return f, err
}

func (h *handle) openFile() (File, error) {
	if h.made {
		return h.reopen(h.was)
	}
	return h.create()
}

// await is take that tries again for as long as there is no descriptor. short is told when that begins
// and when it is over.
func (h *handle) await(short func(bool)) (File, error) {
	f, err := h.take()
	if !errors.Is(err, errNoDescriptors) {
		return f, err
	}
	h.pool.wait(1)
	short(true)
	for errors.Is(err, errNoDescriptors) {
		time.Sleep(descriptorRetry)
		f, err = h.take()
	}
	short(false)
	h.pool.wait(-1)
	return f, err
}

// wait counts handles that find no descriptor.
func (d *descriptors) wait(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waits += n
	d.shortages += uint64(max(n, 0))
	switch {
	case d.waits > 0 && !d.said && time.Since(d.warned) >= errorLogPeriod:
		d.said, d.warned = true, time.Now()
		d.log.Warn("media files wait for a file descriptor: the process or the system has none left", "limit", DescriptorLimit(), "open_files", d.open)
	case d.waits == 0 && d.said:
		d.said = false
		d.log.Info("media files have file descriptors again")
	}
}

// give ends what take began.
func (h *handle) give() {
	h.pool.mu.Lock()
	defer h.pool.mu.Unlock()
	h.state = handleIdle
	h.pool.idle = append(h.pool.idle, h)
	h.pool.changed.Broadcast()
}

// rest closes the file, if it is open.
func (h *handle) rest() {
	h.pool.mu.Lock()
	defer h.pool.mu.Unlock()
	if h.state == handleIdle {
		h.pool.shut(h)
	}
}

// end closes the file for good.
func (h *handle) end() error {
	h.pool.mu.Lock()
	defer h.pool.mu.Unlock()
	for h.state == handleClosing {
		h.pool.changed.Wait()
	}
	if h.state == handleIdle {
		h.pool.shut(h)
	}
	return h.err
}

// dirty reports whether something was written that no sync has seen.
func (h *handle) dirty() bool {
	h.pool.mu.Lock()
	defer h.pool.mu.Unlock()
	for h.state == handleClosing {
		h.pool.changed.Wait()
	}
	return h.unsynced
}

// sync has the disk keep what was written. The file is taken.
func (h *handle) sync() error {
	if err := h.file.Sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	h.unsynced = false
	return nil
}

// close closes the file so that it can be told from another one in its place. It is synced first, as
// the system may forget that it could not write what a closed file holds.
func (h *handle) close() error {
	var err error
	if h.unsynced {
		err = h.sync()
	}
	was, statErr := h.file.Stat()
	if statErr == nil {
		h.was = was
	}
	if closeErr := h.file.Close(); closeErr != nil {
		statErr = errors.Join(statErr, fmt.Errorf("close: %w", closeErr))
	}
	return errors.Join(err, statErr)
}

// sameMedia reports whether a file is the one that was closed. Some file systems give a file another
// number once nobody has it open: then its size tells.
func sameMedia(was, is fs.FileInfo) bool {
	return os.SameFile(was, is) || is.Mode().IsRegular() && was.Size() == is.Size()
}

// closedAs is what the file was when it was closed, nil while it is open.
func (h *handle) closedAs() fs.FileInfo {
	h.pool.mu.Lock()
	defer h.pool.mu.Unlock()
	if h.state != handleClosed || h.was == nil {
		return nil
	}
	return h.was
}

// sameFile tells a file that was opened again from the one that was closed. Without was anything is.
func sameFile(was fs.FileInfo, f *os.File) error {
	if was == nil {
		return nil
	}
	is, err := f.Stat()
	switch {
	case err != nil:
		return err
	case !sameMedia(was, is):
		return errReplaced
	case was.Size() != is.Size():
		return fmt.Errorf("%w: it has %d bytes, not %d", errChanged, is.Size(), was.Size())
	}
	return nil
}
