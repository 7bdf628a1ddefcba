package sink

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// asked is how many key frames were asked for.
func (l *leg) asked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.plis + l.firs
}

// converse sends sound, and pictures with a key picture whenever one is asked for.
func (c *call) converse(a, v *leg, d time.Duration) {
	for range d / (40 * ms) {
		asked := v.asked()
		c.step(a, v, asked != v.answered)
		v.answered = asked
	}
}

// ail is a disk that can be made ill and well again.
type ail struct {
	options   Options
	ill, well func()
	idle      bool // only while nothing is written
}

// ails is every kind of trouble that a disk may have, on real file systems.
func ails() map[string]func(t *testing.T) ail {
	faulty := func(write, sync, open syscall.Errno) func(t *testing.T) ail {
		return func(t *testing.T) ail {
			dir, disk := mountFaulty(t)
			return ail{options: Options{Dir: dir}, ill: func() { disk.fail(write, sync, open) }, well: func() { disk.fail(0, 0, 0) }}
		}
	}
	remount := func(t *testing.T, dir string, flags uintptr) {
		if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	return map[string]func(t *testing.T) ail{
		"no space": func(t *testing.T) ail {
			dir := tmpfs(t, "size=4m")
			ballast := filepath.Join(dir, ".ballast")
			return ail{options: Options{Dir: dir}, ill: func() { _ = os.WriteFile(ballast, make([]byte, 8<<20), 0o600) }, well: func() { os.Remove(ballast) }}
		},
		"no space but for a little now and then": func(t *testing.T) ail {
			dir := tmpfs(t, "size=4m")
			ballast := filepath.Join(dir, ".ballast")
			var stop chan struct{}
			fill := func() { _ = os.WriteFile(ballast, make([]byte, 8<<20), 0o600) }
			return ail{options: Options{Dir: dir}, ill: func() {
				fill()
				stop = make(chan struct{})
				go func() { // it is taken at once
					for {
						select {
						case <-stop:
							return
						case <-time.After(700 * ms):
							_ = os.Truncate(ballast, 3<<20+900<<10)
							fill()
						}
					}
				}()
			}, well: func() { close(stop); synctest.Wait(); os.Remove(ballast) }}
		},
		"no inodes": func(t *testing.T) ail {
			dir := tmpfs(t, "size=16m,nr_inodes=40")
			return ail{options: Options{Dir: dir}, ill: func() {
				for i := range 40 {
					_ = os.WriteFile(filepath.Join(dir, fmt.Sprint(".ballast-", i)), nil, 0o600)
				}
			}, well: func() {
				for i := range 40 {
					os.Remove(filepath.Join(dir, fmt.Sprint(".ballast-", i)))
				}
			}}
		},
		"read-only": func(t *testing.T) ail {
			dir := tmpfs(t, "size=16m")
			return ail{options: Options{Dir: dir}, idle: true, ill: func() { remount(t, dir, syscall.MS_RDONLY) }, well: func() { remount(t, dir, 0) }}
		},
		"min_free": func(t *testing.T) ail {
			var free atomic.Int64
			free.Store(1 << 30)
			return ail{options: Options{Dir: t.TempDir(), MinFree: 1 << 20, free: func(*os.Root) (int64, error) { return free.Load(), nil }},
				ill: func() { free.Store(0) }, well: func() { free.Store(1 << 30) }}
		},
		"a file where the directories of a member are": func(t *testing.T) ail {
			dir := t.TempDir()
			alice := func() string {
				found, _ := filepath.Glob(filepath.Join(dir, "room", "*"))
				return filepath.Join(found[0], "alice")
			}
			return ail{options: Options{Dir: dir}, ill: func() {
				_ = os.Rename(alice(), filepath.Join(dir, ".aside"))
				_ = os.WriteFile(alice(), nil, 0o600)
			}, well: func() { os.Remove(alice()) }}
		},
		"writes fail":         faulty(syscall.EIO, 0, 0),
		"syncs fail":          faulty(0, syscall.EIO, 0),
		"opening fails":       faulty(syscall.EIO, 0, syscall.EIO),
		"quota":               faulty(syscall.EDQUOT, 0, 0),
		"quota when synced":   faulty(0, syscall.EDQUOT, 0),
		"too many open files": faulty(syscall.EIO, 0, syscall.EMFILE),
	}
}

// Whatever ails a disk, and whether it did when a track began or later: two seconds after it is well again all tracks go
// on, and the attempts meanwhile leave few files of nothing.
func TestTwoSecondsAfterADiskIsWellAllGoesOn(t *testing.T) {
	for name, ail := range ails() {
		for _, before := range []time.Duration{0, 4 * time.Second} {
			t.Run(fmt.Sprint(name, ", after ", before), func(t *testing.T) {
				ail := ail(t)
				if ail.idle && before > 0 {
					return // it cannot be while files are open
				}
				var healed time.Duration
				var dir string
				synctest.Test(t, func(t *testing.T) {
					c := startCall(t, ail.options)
					synctest.Wait()
					var a, v *leg
					if before > 0 {
						a, v = c.audio(), c.video()
						c.converse(a, v, before)
						synctest.Wait()
					}
					ail.ill()
					if before == 0 {
						a, v = c.audio(), c.video()
					}
					c.converse(a, v, 21*time.Second)
					ail.well()
					healed = c.rec.now()
					c.converse(a, v, 10*time.Second)
					c.end()
					dir = filepath.Join(ail.options.Dir, c.rec.Dir())
				})
				r := readRecording(t, dir)
				for _, kind := range []string{audio, video} {
					r := r.of(kind)
					for _, g := range r.track.Gaps {
						if end := (g.Start + g.Duration).Duration() + r.manifest.position(r.manifest.Streams[0].Started); end > healed+2*time.Second {
							t.Errorf("%s goes on at %v, the disk was well at %v: gaps %s", kind, end, healed, r.gaps())
						}
					}
					if n := len(r.track.Parts); n > 12 {
						t.Errorf("%s has %d parts", kind, n)
					}
					if end := r.track.End.Duration(); end < 30*time.Second {
						t.Errorf("%s ends at %v", kind, end)
					}
				}
			})
		}
	}
}
