package sink

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// ErrLocked is returned for a recording that another process, or another Root, is writing.
var ErrLocked = errors.New("recording is being written")

// lock marks a recording's directory as one that is being written or repaired. The system takes
// the mark away when the process ends, however it does; until then a second lock is ErrLocked.
// Nothing of it is in the directory.
func lock(dir *os.Root) (*os.File, error) {
	f, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case err == nil:
		return f, nil
	case errors.Is(err, syscall.EWOULDBLOCK):
		err = ErrLocked
		fallthrough
	default:
		return nil, errors.Join(fmt.Errorf("lock: %w", err), f.Close())
	}
}
