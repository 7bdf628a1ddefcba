package sink

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// leave has the member go for so long that its files are closed.
func (r *ravaged) leave() {
	r.a.Close()
	r.v.Close()
	r.stream.Outage(ReasonReconnect, time.Time{})
	r.wait(5 * time.Second)
	if n := r.openFiles(); n != 0 {
		r.t.Errorf("%d files are open while the member is away", n)
	}
}

// comeBack has it go on, as after a change of its connection.
func (r *ravaged) comeBack() {
	r.connection++
	r.stream.Resume("alice")
	a, v := r.audio(), r.video()
	a.ssrc, v.ssrc = 7, 7
	r.a, r.v = a, v
}

// What is deleted while nobody sends, and so while no file is open, is noticed as soon as what is open. It is said once,
// whether the watch finds it or the member that is back at the same moment, and what comes then is recorded.
func TestWhatIsDeletedWhileItsMemberIsAwayIsMissing(t *testing.T) {
	for name, tt := range map[string]struct {
		do    func(r *ravaged) error
		kinds []string // whose media is lost
		dir   bool     // the recording's
		after func(r *ravaged) error
	}{
		"the sound": {do: func(r *ravaged) error { return os.Remove(r.path("alice/camera/audio-1.ogg")) }, kinds: []string{audio}},
		"the pictures, with others in their place": {do: func(r *ravaged) error {
			b, err := os.ReadFile(r.path("alice/camera/video-1.ivf"))
			return errors.Join(err, os.WriteFile(r.path("alice/x"), append(b, 0), 0o600), os.Rename(r.path("alice/x"), r.path("alice/camera/video-1.ivf")))
		}, kinds: []string{video}},
		"the pictures, with a link in their place": {do: func(r *ravaged) error {
			return errors.Join(os.Rename(r.path("alice/camera/video-1.ivf"), r.path("x")), os.Symlink("../../x", r.path("alice/camera/video-1.ivf")))
		}, kinds: []string{video}, after: func(r *ravaged) error {
			return errors.Join(os.Remove(r.path("x")), os.Remove(r.path("alice/camera/video-1.ivf")))
		}},
		"the directory of the member": {do: func(r *ravaged) error { return os.RemoveAll(r.path("alice")) }, kinds: []string{audio, video}},
		"the recording":               {do: func(r *ravaged) error { return os.RemoveAll(r.path()) }, kinds: []string{audio, video}, dir: true},
		"all recordings":              {do: func(r *ravaged) error { return os.RemoveAll(r.dir) }, kinds: []string{audio, video}, dir: true},
	} {
		for _, back := range []string{"in a minute", "at once"} {
			t.Run(name+"/back "+back, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "recordings")
				r := ravage(t, dir, func(r *ravaged) {
					r.leave()
					must(t, tt.do(r))
					if back == "at once" {
						r.comeBack()
						return
					}
					r.wait(noticed)
					synctest.Wait() // the watch may be at it
					if !strings.Contains(r.errors(), "deleted") {
						t.Error("nothing is said of it")
					}
					r.wait(50 * time.Second)
					if n := r.openFiles(); n != 0 {
						t.Errorf("%d files are open", n)
					}
					r.comeBack()
				}, func(r *ravaged) {
					r.goOn(noticed)
					if tt.after != nil {
						must(t, tt.after(r))
					}
					counts := gathered(t, r.registry, "recorder_sink_deletions_total")
					if files := counts["what=file"]; !tt.dir && int(files) != len(tt.kinds) || tt.dir != (counts["what=recording"] == 1) {
						t.Errorf("counted: %v", counts)
					}
				})
				if n := strings.Count(r.errors(), "media file was deleted"); !tt.dir && n != 1 {
					t.Errorf("said %d times:\n%s", n, r.errors())
				}
				if n := strings.Count(r.errors(), "directory of the recording was deleted"); tt.dir != (n == 1) {
					t.Errorf("of the directory it is said %d times:\n%s", n, r.errors())
				}
				if strings.Contains(r.errors(), "could not write media file") {
					t.Errorf("what others deleted is said to be the disk's trouble:\n%s", r.errors())
				}
				var last string
				for _, found := range recordingsIn(t, dir) {
					if _, err := os.Stat(filepath.Join(found, ManifestName)); err == nil {
						last = found
					}
				}
				is := readRecording(t, last)
				for _, kind := range []string{audio, video} {
					is := is.of(kind)
					p, missing := is.track.Parts, is.track.Missing[ReasonDisk].Duration()
					if len(tt.kinds) == 1 && tt.kinds[0] != kind {
						if len(p) != 1 || missing != 0 {
							t.Errorf("%s, which is there: %d parts, gaps %s", kind, len(p), is.gaps())
						}
						continue
					}
					if missing < 5*time.Second || missing > 5*time.Second+noticed {
						t.Errorf("%s: %v missing, gaps %s", kind, missing, is.gaps())
					}
					if len(p) != 2 || p[0].Final || p[0].Size != 0 || p[0].Frames != 0 || p[0].Error == "" || !p[1].Final || p[1].Error != "" {
						t.Errorf("%s: parts %+v", kind, p)
					}
				}
			})
		}
	}
}

// A recording that is moved while its files are closed is finished where it is now, in the same files.
func TestWhatIsMovedWhileItsFilesAreClosedLosesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "recordings")
	var old string
	r := ravage(t, dir, func(r *ravaged) {
		r.leave()
		old = r.dir + ".old"
		must(t, errors.Join(os.MkdirAll(old+"/room", 0o750), os.Rename(r.path(), filepath.Join(old, r.rec.Dir()))))
		r.comeBack()
	}, nil)
	if len(r.begun) != 2 {
		t.Fatalf("%v began:\n%s", r.begun, r.errors())
	}
	is := readRecording(t, filepath.Join(old, r.begun[0]))
	for _, kind := range []string{audio, video} {
		is := is.of(kind)
		if p := is.track.Parts; len(p) != 1 || !p[0].Final || p[0].Error != "" || is.track.Missing[ReasonDisk] != 0 {
			t.Errorf("%s: %+v, gaps %s", kind, p, is.gaps())
		}
	}
	if report, err := Verify(t.Context(), old, nil); err != nil || !report.OK {
		t.Errorf("verify: %+v, %v", report, err)
	}
}

// A file that waits for a descriptor when its recording is deleted is not made any more: not where the recording goes on.
func TestAFileThatWaitsForADescriptorIsNotMadeOnceItIsLost(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "recordings")
	ravage(t, dir, func(r *ravaged) {
		var short atomic.Bool
		create := r.rec.create
		r.rec.create = func(name string) (File, error) {
			if short.Load() {
				return nil, syscall.EMFILE
			}
			return create(name)
		}
		short.Store(true)
		alice := r.stream
		r.open("bob")
		r.audio().speak(100)
		waits := r.rec.manifest.Streams[1].Tracks[0].Parts[0].File
		r.stream = alice
		synctest.Wait() // or something is written there meanwhile
		must(t, os.RemoveAll(r.path()))
		r.wait(noticed)
		short.Store(false)
		r.wait(2 * time.Second)
		if _, err := os.Stat(r.path(waits)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is there, as what the manifest says is lost: %v", waits, err)
		}
	}, nil)
}
