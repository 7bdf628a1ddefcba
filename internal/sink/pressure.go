package sink

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// ErrDiskFull is returned by NewRecording, and by Root.Err, while less space is free than
// Options.MinFree.
var ErrDiskFull = errors.New("too little disk space")

// pressure is how short of space the disk is. Each level includes those before it.
type pressure int32

const (
	pressureNone pressure = iota
	pressureLow           // below MinFree: no new recordings
	pressureHigh          // below half of it: no pictures
	pressureFull          // below a quarter, the reserve: all files are finished, none begun
)

// pressureInterval is how often the free space is looked at. At 1 Gbit/s it shrinks by 125 MB
// meanwhile.
const pressureInterval = time.Second

// pressureAt is the level at so much free space, by how much of it there has to be.
func pressureAt(free, minFree int64) (p pressure) {
	for p < pressureFull && free < minFree>>p {
		p++
	}
	return p
}

// next is the level that follows p. Leaving a level takes a tenth more than entering it, so that
// files are not begun and ended all the time.
func (p pressure) next(free, minFree int64) pressure {
	up, down := pressureAt(free, minFree), pressureAt(free-free/11, minFree)
	return max(up, min(p, down))
}

// pressed is the level now.
func (r *Root) pressed() pressure { return pressure(r.level.Load()) }

// spaceErr is why no new recording would begin now, nil when one would.
func (r *Root) spaceErr() error {
	if lost := r.lost.Load(); lost != nil {
		return *lost
	}
	if r.pressed() == pressureNone {
		return nil
	}
	return fmt.Errorf("%w: less than min_free, %d bytes, is free", ErrDiskFull, r.options.MinFree)
}

// watchSpace follows the free space until ctx ends.
func (r *Root) watchSpace(ctx context.Context) {
	tick := time.NewTicker(pressureInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.checkSpace()
		}
	}
}

func (r *Root) checkSpace() {
	free, err := r.options.free(r.dir())
	if err != nil {
		return // the disk probe and every write say so
	}
	was := r.pressed()
	is := was.next(free, r.options.MinFree)
	if is == was {
		return
	}
	r.level.Store(int32(is))
	log := r.options.Logger.With("free_bytes", free, "min_free", r.options.MinFree)
	switch {
	case is == pressureNone:
		log.Info("disk has space again")
	case is < was:
		log.Info("disk has more space again", "refused", is.String())
	default:
		log.Warn("disk runs out of space", "refused", is.String())
	}
}

// String is what is refused.
func (p pressure) String() string {
	return [...]string{"nothing", "new recordings", "new recordings, pictures", "everything"}[p]
}

// freeSpace is how much this process may still write to a directory's disk. A disk without room for
// another file is full.
func freeSpace(dir *os.Root) (int64, error) {
	d, err := dir.Open(".")
	if err != nil {
		return 0, err
	}
	defer d.Close()
	var s syscall.Statfs_t
	if err := syscall.Fstatfs(int(d.Fd()), &s); err != nil {
		return 0, err
	}
	if s.Files > 0 && s.Ffree == 0 {
		return 0, nil
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}
