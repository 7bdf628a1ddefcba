package sink

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// tmpfs mounts a small file system.
func tmpfs(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		if errors.Is(err, syscall.EPERM) && os.Getenv("RECORDER_E2E") != "required" {
			t.Skip("mounting a file system takes root")
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// On a real disk that fills up everything ends whole, in the order of the ladder, and goes on when
// there is space again.
func TestARealDiskThatFillsUp(t *testing.T) {
	dir := tmpfs(t, "size=16m")
	ballast := filepath.Join(dir, ".ballast")
	fill := func(size int) {
		if err := os.WriteFile(ballast, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		c := startCall(t, Options{Dir: dir, MinFree: 8 << 20})
		a, v := c.audio(), c.video()
		for _, size := range []int{0, 10 << 20, 13 << 20, 15 << 20, 0, 0} {
			fill(size)
			c.talk(a, v, 5*time.Second)
		}
		c.end()
	})
	r := readRoom(t, dir)
	for _, kind := range []string{audio, video} {
		if r = r.of(kind); len(r.track.Parts) != 2 || r.track.Parts[0].Error != "" || r.track.Completeness > 0.9 {
			t.Errorf("%s: %+v, completeness %v", kind, r.track.Parts, r.track.Completeness)
		}
	}
}

// Without the ladder the disk runs full under the recorder's hands, of bytes or of files, and takes
// no manifest any more: what it holds is whole all the same.
func TestARealDiskThatIsFull(t *testing.T) {
	for name, options := range map[string]string{"bytes": "size=60k", "files": "size=16m,nr_inodes=8"} {
		t.Run(name, func(t *testing.T) {
			dir := tmpfs(t, options)
			synctest.Test(t, func(t *testing.T) {
				c := startCall(t, Options{Dir: dir})
				c.talk(c.audio(), c.video(), 60*time.Second)
				c.rec.Close(context.Background()) // may find no room for the last manifest
				c.root.Close()
			})
			// With room for a manifest what there is can be put right.
			if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT, "size=1m,nr_inodes=20"); err != nil {
				t.Fatal(err)
			}
			if report, err := Repair(t.Context(), dir, nil); err != nil || !report.OK {
				t.Errorf("repair: %+v %v", report, err)
			}
			r := readRoom(t, dir)
			if r = r.of(audio); r.track.Recorded < Seconds(5*time.Second) {
				t.Errorf("%v recorded", r.track.Recorded.Duration())
			}
		})
	}
}

// A file system that turns read-only takes nothing more: every packet is accounted for, every
// attempt fails for itself, and a later one finds it writable again.
func TestADiskThatTurnsReadOnly(t *testing.T) {
	dir := tmpfs(t, "size=16m")
	remount := func(flags uintptr) {
		if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		c := startCall(t, Options{Dir: dir})
		synctest.Wait()
		remount(syscall.MS_RDONLY)
		a, v := c.audio(), c.video()
		c.talk(a, v, 3*time.Second)
		if _, err := c.root.NewRecording(RecordingInfo{Channel: "hall"}); !errors.Is(err, syscall.EROFS) {
			t.Errorf("a recording began: %v", err)
		}
		remount(0)
		for range 5 {
			c.talk(a, v, 2*time.Second)
		}
		c.end()
	})
	r := readRoom(t, dir)
	for _, kind := range []string{audio, video} {
		r = r.of(kind)
		if len(r.track.Gaps) != 1 || r.track.Gaps[0].Reason != ReasonDisk || r.track.Recorded < Seconds(6*time.Second) || r.track.Expected < Seconds(12*time.Second) {
			t.Errorf("%s: %v of %v, gaps %s", kind, r.track.Recorded.Duration(), r.track.Expected.Duration(), r.gaps())
		}
	}
}
