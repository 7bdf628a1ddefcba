package sink

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// ErrLocked is returned for a recording that another process, or another Root, is writing.
var ErrLocked = errors.New("recording is being written")

// errNoLocks is returned by flock where the file system, or the system, has no such locks.
var errNoLocks = errors.New("no file locks")

const (
	// lockTries and lockPause outlast someone who only asks whether a recording is being written.
	lockTries = 5
	lockPause = 10 * time.Millisecond
)

// lock marks a recording's directory as one that is being written or repaired, until the result is
// closed or the process ends, however it does; until then a second lock is ErrLocked. Where there is
// flock nothing of it is in the directory, elsewhere a file is, see lockByFile. dir stays open meanwhile.
func lock(dir *os.Root) (io.Closer, error) {
	f, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		err := flock(f, syscall.LOCK_EX)
		if err == nil {
			err = dropLockFile(dir)
		}
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, errNoLocks):
			f.Close()
			return lockByFile(dir)
		case errors.Is(err, ErrLocked) && try < lockTries:
			time.Sleep(lockPause)
		default:
			return nil, errors.Join(fmt.Errorf("lock: %w", err), f.Close())
		}
	}
}

// lockToRead keeps a finished recording from being removed until the result is closed, where there is flock.
// One that is written, or about to be, it does not lock: a recorder comes before who reads.
func lockToRead(dir *os.Root, m *Manifest) io.Closer {
	none := io.NopCloser(nil)
	if m.State == StateRecording || m.Ended == nil || m.continuable(time.Now()) || len(m.unhashed()) > 0 {
		return none
	}
	f, err := dir.Open(".")
	if err != nil {
		return none
	}
	if err := flock(f, syscall.LOCK_SH); err != nil { // it goes on without
		f.Close()
		return none
	}
	return f
}

// abandoned reports whether nobody writes a recording or repairs it.
func abandoned(dir *os.Root) bool {
	f, err := dir.Open(".")
	if err != nil {
		return false
	}
	defer f.Close() // and with it the lock
	switch err := flock(f, syscall.LOCK_SH); {
	case err == nil || errors.Is(err, errNoLocks):
		return !lockFileHeld(dir, time.Now())
	default:
		return false
	}
}

// hasLocks reports whether directories can be locked, as far as can be told.
func hasLocks(dir *os.Root) bool {
	f, err := dir.Open(".")
	if err != nil {
		return true
	}
	defer f.Close()
	return !errors.Is(flock(f, syscall.LOCK_SH), errNoLocks)
}

// sysFlock is the system's, but for tests.
var sysFlock = syscall.Flock

// flock takes a lock that the system takes away when the file is closed.
func flock(f *os.File, how int) error {
	for {
		switch err := sysFlock(int(f.Fd()), how|syscall.LOCK_NB); err {
		case nil:
			return nil
		case syscall.EINTR:
		case syscall.EWOULDBLOCK:
			return ErrLocked
		default:
			return fmt.Errorf("%w: %w", errNoLocks, err)
		}
	}
}
