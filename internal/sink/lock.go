package sink

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// ErrLocked is returned for a recording that another process, or another Root, is writing.
var ErrLocked = errors.New("recording is being written")

const (
	// lockTries and lockPause outlast someone who only asks whether a recording is being written.
	lockTries = 5
	lockPause = 10 * time.Millisecond
)

// lock marks a recording's directory as one that is being written or repaired. The system takes
// the mark away when the process ends, however it does; until then a second lock is ErrLocked.
// Nothing of it is in the directory.
func lock(dir *os.Root) (*os.File, error) {
	f, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		switch err := flock(f, syscall.LOCK_EX); {
		case err == nil:
			return f, nil
		case errors.Is(err, ErrLocked) && try < lockTries:
			time.Sleep(lockPause)
		default:
			return nil, errors.Join(fmt.Errorf("lock: %w", err), f.Close())
		}
	}
}

// abandoned reports whether nobody writes a recording or repairs it. Where the file system cannot
// tell it is false.
func abandoned(dir *os.Root) bool {
	f, err := dir.Open(".")
	if err != nil {
		return false
	}
	defer f.Close() // and with it the lock
	return flock(f, syscall.LOCK_SH) == nil
}

func flock(f *os.File, how int) error {
	err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}
