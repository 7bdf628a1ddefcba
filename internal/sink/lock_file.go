package sink

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// lockName is the file that marks a recording as being written where there is no flock. Names that begin
// with it are of files that are about to take its place.
const lockName = ".recording.lock"

const (
	// lockBeat is how often the owner of a lock file writes it, and lockStale how old it is when its owner is
	// taken for dead, unless that is known. A disk that hangs for longer than the difference may cost an owner
	// on another machine its lock.
	lockBeat  = 20 * time.Second
	lockStale = 2 * time.Minute
	// lockSettle outlasts another process that is about to take over the same stale file.
	lockSettle = 100 * time.Millisecond
)

// lockOwner says in a lock file whose it is.
type lockOwner struct {
	Boot  string `json:"boot"`          // of the kernel
	PIDs  string `json:"pid_namespace"` // in which PID is one
	PID   int    `json:"pid"`
	Began string `json:"began"` // when the process did, as another may have its PID by now
	Token string `json:"token"` // of this lock
}

// fileLock is a lock file that is held, and written every lockBeat until Close.
type fileLock struct {
	dir   *os.Root
	token string
	text  []byte
	stop  func() // once
	ended <-chan struct{}
}

// lockByFile makes a lock file. One that is there is ErrLocked, unless its owner is dead: its process is
// gone, by what this machine knows, or it has not been written for lockStale by the file system's own clock.
func lockByFile(dir *os.Root) (io.Closer, error) {
	self := thisProcess()
	text, err := json.Marshal(self)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	ended := make(chan struct{})
	l := &fileLock{dir: dir, token: self.Token, text: text, stop: sync.OnceFunc(func() { close(ended) }), ended: ended}
	err = writeLock(dir, lockName, text, os.O_CREATE|os.O_EXCL)
	if errors.Is(err, fs.ErrExist) {
		err = takeOver(dir, self, text)
	}
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	go l.beat()
	return l, nil
}

// takeOver puts a lock file in the place of another, if the owner of that is dead.
func takeOver(dir *os.Root, self lockOwner, text []byte) error {
	temp := lockName + "." + self.Token
	if err := writeLock(dir, temp, text, os.O_CREATE|os.O_EXCL); err != nil {
		return err
	}
	defer dir.Remove(temp) // unless it is renamed
	info, err := dir.Lstat(temp)
	if err != nil {
		return err
	}
	if lockFileHeld(dir, info.ModTime()) {
		return ErrLocked
	}
	if err := dir.Rename(temp, lockName); err != nil {
		return err
	}
	time.Sleep(lockSettle)
	if owner, _ := readLock(dir); owner.Token != self.Token {
		return ErrLocked // somebody else did the same, later
	}
	return nil
}

// lockFileHeld reports whether a recording has a lock file whose owner is alive, by now on the file
// system's clock.
func lockFileHeld(dir *os.Root, now time.Time) bool {
	info, err := dir.Lstat(lockName)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	owner, _ := readLock(dir) // of one that is not written yet nothing is known
	if alive, known := owner.alive(); known {
		return alive
	}
	return now.Sub(info.ModTime()).Abs() < lockStale
}

// dropLockFile removes the lock file of a dead owner. The caller has a lock of the other kind.
func dropLockFile(dir *os.Root) error {
	if _, err := dir.Lstat(lockName); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if lockFileHeld(dir, time.Now()) {
		return ErrLocked
	}
	return ignoreMissing(dir.Remove(lockName))
}

// beat writes the file, so that it is seen to be held.
func (l *fileLock) beat() {
	tick := time.NewTicker(lockBeat)
	defer tick.Stop()
	for {
		select {
		case <-l.ended:
			return
		case <-tick.C:
			_ = writeLock(l.dir, lockName, l.text, 0) // the next one may fare better
		}
	}
}

// Close removes the file, if it is ours still.
func (l *fileLock) Close() error {
	l.stop()
	if owner, err := readLock(l.dir); err != nil || owner.Token != l.token {
		return ignoreMissing(err)
	}
	return ignoreMissing(l.dir.Remove(lockName))
}

// writeLock writes a lock file at once, so that the file system's clock is what dates it.
func writeLock(dir *os.Root, name string, text []byte, flag int) error {
	f, err := dir.OpenFile(name, os.O_WRONLY|flag, filePerm)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(text, 0)
	return errors.Join(err, f.Close())
}

func readLock(dir *os.Root) (owner lockOwner, err error) {
	f, err := openRegular(dir, lockName)
	if err != nil {
		return owner, err
	}
	defer f.Close()
	return owner, json.NewDecoder(io.LimitReader(f, 4096)).Decode(&owner)
}

// thisProcess is the owner of what we lock, with a token of its own. What the system does not tell is empty.
func thisProcess() lockOwner {
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	pids, _ := os.Readlink("/proc/self/ns/pid")
	return lockOwner{
		Boot: strings.TrimSpace(string(boot)), PIDs: pids, PID: os.Getpid(), Began: processBegan(os.Getpid()), Token: newID(),
	}
}

// alive reports whether the owner's process is alive, if that can be known here: only of one that sees the
// same processes as we do.
func (o lockOwner) alive() (alive, known bool) {
	self := thisProcess()
	if o.Boot == "" || o.PIDs == "" || o.Began == "" || o.Boot != self.Boot || o.PIDs != self.PIDs || o.PID <= 0 {
		return false, false
	}
	if errors.Is(syscall.Kill(o.PID, 0), syscall.ESRCH) {
		return false, true
	}
	began := processBegan(o.PID)
	return began == "" || began == o.Began, true
}

// processBegan is when a process began, in ticks since the machine did, or empty.
func processBegan(pid int) string {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return ""
	}
	// The second field is the name in parentheses, which may hold any others; 20 fields later comes the time.
	at := strings.LastIndexByte(string(stat), ')')
	if fields := strings.Fields(string(stat[at+1:])); len(fields) > 19 {
		return fields[19]
	}
	return ""
}
