package sink

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// noticed is how soon what others do to the recordings is noticed and said.
const noticed = 10 * time.Second

// ravaged is a call with whose files others interfere.
type ravaged struct {
	*call
	t        *testing.T
	dir      string // of all recordings
	registry *prometheus.Registry
	log      bytes.Buffer
	a, v     *leg
	begun    []string // recordings, by their directories as they were made
}

func (r *ravaged) path(name ...string) string {
	return filepath.Join(append([]string{r.dir, r.rec.Dir()}, name...)...)
}

// goOn takes the part of a session: a recording that is full gives way to another.
func (r *ravaged) goOn(d time.Duration) {
	for until := time.Now().Add(d); time.Now().Before(until); {
		r.converse(r.a, r.v, 200*ms)
		if !r.rec.Full() {
			continue
		}
		next, err := r.root.NewRecording(RecordingInfo{Channel: "room", Follows: r.rec})
		if err != nil {
			continue
		}
		old := r.rec
		r.rec = next
		r.begun = append(r.begun, next.Dir())
		r.open("alice")
		a, v := r.a, r.v
		r.a, r.v = r.audio(), r.video()
		a.Close()
		v.Close()
		if err := old.Suspend(r.t.Context()); err != nil {
			r.t.Error(err)
		}
	}
}

// ravage runs a call of which others take something away after 5 s.
func ravage(t *testing.T, dir string, do func(r *ravaged), then func(r *ravaged)) *ravaged {
	t.Helper()
	r := &ravaged{dir: dir, registry: prometheus.NewPedanticRegistry()}
	synctest.Test(t, func(t *testing.T) {
		root, err := Open(Options{Dir: dir, Logger: slog.New(slog.NewTextHandler(&r.log, nil)), Registerer: r.registry})
		if err != nil {
			t.Fatal(err)
		}
		rec, err := root.NewRecording(RecordingInfo{Channel: "room"})
		if err != nil {
			t.Fatal(err)
		}
		r.t, r.call, r.begun = t, &call{T: t, root: root, rec: rec, pumped: true}, []string{rec.Dir()}
		r.open("alice")
		r.a, r.v = r.audio(), r.video()
		r.goOn(5 * time.Second)
		synctest.Wait()
		do(r)
		if then != nil {
			then(r)
		}
		r.goOn(noticed + 5*time.Second)
		r.end()
	})
	return r
}

// errors is what was logged as an error.
func (r *ravaged) errors() string {
	var b strings.Builder
	for _, line := range strings.Split(strings.TrimSpace(r.log.String()), "\n") {
		if strings.Contains(line, "level=ERROR") {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

// Whatever of a recording is deleted under the recorder's hands: what it held counts as missing for the disk's sake, in a
// manifest that is there, and what comes after is recorded.
func TestWhatIsDeletedIsMissing(t *testing.T) {
	for name, tt := range map[string]struct {
		do    func(r *ravaged) error
		kinds []string // whose media is lost
		said  string
	}{
		"all recordings":                {func(r *ravaged) error { return os.RemoveAll(r.dir) }, []string{audio, video}, "directory of the recording was deleted"},
		"all recordings but their root": {func(r *ravaged) error { return errors.Join(os.RemoveAll(r.dir), os.Mkdir(r.dir, 0o750)) }, []string{audio, video}, "directory of the recording was deleted"},
		"the channel":                   {func(r *ravaged) error { return os.RemoveAll(filepath.Dir(r.path())) }, []string{audio, video}, "directory of the recording was deleted"},
		"the recording":                 {func(r *ravaged) error { return os.RemoveAll(r.path()) }, []string{audio, video}, "directory of the recording was deleted"},
		"the recording, with another in its place": {func(r *ravaged) error {
			return errors.Join(os.RemoveAll(r.path()), os.Mkdir(r.path(), 0o750))
		}, []string{audio, video}, "directory of the recording was deleted"},
		"the directory of the member": {func(r *ravaged) error { return os.RemoveAll(r.path("alice")) }, []string{audio, video}, "media file was deleted"},
		"the sound":                   {func(r *ravaged) error { return os.Remove(r.path("alice/camera/audio-1.ogg")) }, []string{audio}, "media file was deleted"},
		"the sound, with a directory in its place": {func(r *ravaged) error {
			return errors.Join(os.Remove(r.path("alice/camera/audio-1.ogg")), os.Mkdir(r.path("alice/camera/audio-1.ogg"), 0o750), os.Remove(r.path("alice/camera/audio-1.ogg")))
		}, []string{audio}, "media file was deleted"},
		"the content of the sound":    {func(r *ravaged) error { return os.Truncate(r.path("alice/camera/audio-1.ogg"), 0) }, []string{audio}, "was cut short by others"},
		"the content of the pictures": {func(r *ravaged) error { return os.Truncate(r.path("alice/camera/video-1.ivf"), 0) }, []string{video}, "was cut short by others"},
		"all pictures but the first":  {func(r *ravaged) error { return os.Truncate(r.path("alice/camera/video-1.ivf"), 10_000) }, []string{video}, "was cut short by others"},
		"the pictures, with others in their place": {func(r *ravaged) error {
			b, err := os.ReadFile(r.path("alice/camera/video-1.ivf"))
			return errors.Join(err, os.WriteFile(r.path("alice/x"), b, 0o600), os.Rename(r.path("alice/x"), r.path("alice/camera/video-1.ivf")))
		}, []string{video}, "media file was deleted"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "recordings")
			var crashed string
			r := ravage(t, dir, func(r *ravaged) { must(t, tt.do(r)) }, func(r *ravaged) {
				r.goOn(noticed)
				crashed = r.crash(filepath.Join(t.TempDir(), "crashed"))
			})
			if report, err := Repair(t.Context(), crashed, nil); err != nil || !report.OK {
				t.Errorf("repair after a crash: %+v, %v", report, err)
			}
			if report, err := Verify(t.Context(), crashed, nil); err != nil || !report.OK {
				t.Errorf("verify after a crash: %+v, %v", report, err)
			}
			if n := strings.Count(r.log.String(), tt.said); n != 1 {
				t.Errorf("said %d times:\n%s", n, r.errors())
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
				missing := is.track.Missing[ReasonDisk].Duration()
				lost := len(tt.kinds) == 2 || tt.kinds[0] == kind
				if lost && (missing < 5*time.Second || missing > 5*time.Second+noticed) || !lost && is.track.Completeness < 0.99 {
					t.Errorf("%s: %v missing, completeness %v of %v, gaps %s", kind, missing, is.track.Completeness, is.track.Expected.Duration(), is.gaps())
				}
				if !near(is.track.Expected.Duration(), 30*time.Second, 500*ms) {
					t.Errorf("%s: %v expected", kind, is.track.Expected.Duration())
				}
				p := is.track.Parts
				if last := p[len(p)-1]; lost && (p[0].Error == "" || p[0].Final && p[0].Size == 0) || !last.Final {
					t.Errorf("%s: parts %+v ... %+v", kind, p[0], last)
				}
			}
		})
	}
}

// recordingsIn is the recordings in a directory.
func recordingsIn(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "room", "*"))
	must(t, err)
	return found
}

// A recording that is moved away, or hidden, loses nothing: it is finished where it is now, and another one begins in the
// place that its name names.
func TestWhatIsMovedIsFinishedAndAnotherBegins(t *testing.T) {
	for name, do := range map[string]func(t *testing.T, r *ravaged) (old string){
		"all recordings": func(t *testing.T, r *ravaged) string {
			must(t, os.Rename(r.dir, r.dir+".old"))
			return r.dir + ".old"
		},
		"all recordings, with another directory in their place": func(t *testing.T, r *ravaged) string {
			must(t, errors.Join(os.Rename(r.dir, r.dir+".old"), os.Mkdir(r.dir, 0o750)))
			return r.dir + ".old"
		},
		"the channel": func(t *testing.T, r *ravaged) string {
			must(t, errors.Join(os.Mkdir(r.dir+".old", 0o750), os.Rename(r.dir+"/room", r.dir+".old/room")))
			return r.dir + ".old"
		},
		"the recording": func(t *testing.T, r *ravaged) string {
			must(t, errors.Join(os.MkdirAll(r.dir+".old/room", 0o750), os.Rename(r.path(), filepath.Join(r.dir+".old", r.rec.Dir()))))
			return r.dir + ".old"
		},
		"another file system over them": func(t *testing.T, r *ravaged) string {
			must(t, os.Mkdir(r.dir+".old", 0o750))
			must(t, syscall.Mount(r.dir, r.dir+".old", "", syscall.MS_BIND, ""))
			t.Cleanup(func() { must(t, syscall.Unmount(r.dir+".old", syscall.MNT_DETACH)) })
			must(t, syscall.Mount("tmpfs", r.dir, "tmpfs", 0, ""))
			t.Cleanup(func() { must(t, syscall.Unmount(r.dir, syscall.MNT_DETACH)) })
			return r.dir + ".old"
		},
	} {
		t.Run(name, func(t *testing.T) {
			tmpfs(t, "") // or it is skipped: mounting takes root
			dir, old := filepath.Join(t.TempDir(), "recordings"), ""
			r := ravage(t, dir, func(r *ravaged) { old = do(t, r) }, nil)
			if len(r.begun) != 2 {
				t.Fatalf("%v began:\n%s", r.begun, r.errors())
			}
			first, second := readRecording(t, filepath.Join(old, r.begun[0])), readRecording(t, filepath.Join(dir, r.begun[1]))
			var length time.Duration
			for _, is := range []recorded{first, second} {
				is = is.of(audio)
				length += is.track.Expected.Duration()
				if is.manifest.State != StateComplete || is.track.Completeness < 0.999 {
					t.Errorf("%s, completeness %v, gaps %s", is.manifest.State, is.track.Completeness, is.gaps())
				}
			}
			if !near(length, 20*time.Second, 500*ms) || first.of(audio).track.Expected.Duration() > 5*time.Second+noticed {
				t.Errorf("%v in all, %v of it in the first", length, first.of(audio).track.Expected.Duration())
			}
			if n := strings.Count(r.log.String(), "moved away or hidden"); n != 1 {
				t.Errorf("said %d times:\n%s", n, r.errors())
			}
		})
	}
}

// A file system that is unmounted goes on taking what is open in it, and a new recording begins beneath.
func TestAnUnmountedDirectory(t *testing.T) {
	dir := tmpfs(t, "")
	again := filepath.Join(t.TempDir(), "same")
	must(t, os.Mkdir(again, 0o750))
	must(t, syscall.Mount(dir, again, "", syscall.MS_BIND, ""))
	t.Cleanup(func() { must(t, syscall.Unmount(again, syscall.MNT_DETACH)) })
	r := ravage(t, dir, func(*ravaged) { must(t, syscall.Unmount(dir, syscall.MNT_DETACH)) }, nil)
	must(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "")) // for the cleanup, below it is what was recorded
	must(t, syscall.Unmount(dir, 0))
	readRecording(t, filepath.Join(again, r.begun[0]))
	readRecording(t, filepath.Join(dir, r.begun[1]))
	must(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, ""))
}

// A manifest that is deleted or replaced is written again.
func TestAManifestThatIsDeletedIsWrittenAgain(t *testing.T) {
	for name, do := range map[string]func(r *ravaged) error{
		"deleted":  func(r *ravaged) error { return os.Remove(r.path(ManifestName)) },
		"replaced": func(r *ravaged) error { return os.WriteFile(r.path(ManifestName), []byte("{}"), 0o600) },
		"a link": func(r *ravaged) error {
			return errors.Join(os.Remove(r.path(ManifestName)), os.Symlink("/dev/null", r.path(ManifestName)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			r := ravage(t, dir, func(r *ravaged) { must(t, do(r)) }, func(r *ravaged) {
				time.Sleep(noticed) // nothing is sent meanwhile
				if m, err := readManifest(r.rec.store.root()); err != nil || m.State != StateRecording {
					t.Errorf("%+v, %v", m, err)
				}
			})
			readRecording(t, filepath.Join(dir, r.begun[0]))
			if n := strings.Count(r.log.String(), "manifest was deleted or replaced"); n > 1 {
				t.Errorf("said %d times", n)
			}
		})
	}
}

// While there is nowhere to record to that is said, and new recordings are refused; as soon as there is, it goes on. What
// came meanwhile is missing.
func TestWithoutADirectoryNothingIsRecordedAndThatIsSaid(t *testing.T) {
	for name, tt := range map[string]struct{ hinder, free func(r *ravaged) error }{
		"a file where all recordings are": {
			func(r *ravaged) error { return errors.Join(os.RemoveAll(r.dir), os.WriteFile(r.dir, nil, 0o600)) },
			func(r *ravaged) error { return os.Remove(r.dir) },
		},
		"a file where the channel is": {
			func(r *ravaged) error {
				return errors.Join(os.RemoveAll(r.dir+"/room"), os.WriteFile(r.dir+"/room", nil, 0o600))
			},
			func(r *ravaged) error { return os.Remove(r.dir + "/room") },
		},
		"a link where the channel is": {
			func(r *ravaged) error {
				return errors.Join(os.RemoveAll(r.dir+"/room"), os.Symlink("/nowhere", r.dir+"/room"))
			},
			func(r *ravaged) error { return os.Remove(r.dir + "/room") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "recordings")
			var well time.Duration
			r := ravage(t, dir, func(r *ravaged) { must(t, tt.hinder(r)) }, func(r *ravaged) {
				r.goOn(noticed)
				if r.rec.Err() == nil {
					t.Error("the recording says nothing of it")
				}
				if _, err := r.root.NewRecording(RecordingInfo{Channel: "room"}); err == nil {
					t.Error("a recording began nowhere")
				}
				r.goOn(30 * time.Second)
				must(t, tt.free(r))
				well = r.rec.now()
			})
			is := readRecording(t, recordingsIn(t, dir)[0])
			for _, kind := range []string{audio, video} {
				is := is.of(kind)
				if missing := is.track.Missing[ReasonDisk].Duration(); missing < well-200*ms || missing > well+noticed || is.track.Expected.Duration() < 59*time.Second {
					t.Errorf("%s: %v of %v missing, well at %v: %s", kind, missing, is.track.Expected.Duration(), well, is.gaps())
				}
			}
			if n := strings.Count(r.log.String(), "level=ERROR"); n > 3 {
				t.Errorf("said %d times:\n%s", n, r.errors())
			}
			if r.rec.Err() != nil {
				t.Error(r.rec.Err())
			}
		})
	}
}

// What was deleted is counted by what it was.
func TestDeletionsAreCounted(t *testing.T) {
	ravage(t, filepath.Join(t.TempDir(), "recordings"), func(r *ravaged) {}, func(r *ravaged) {
		must(t, os.Remove(r.path("alice/camera/audio-1.ogg")))
		r.goOn(noticed)
		synctest.Wait() // or the manifest is written meanwhile
		must(t, os.RemoveAll(r.dir))
		r.goOn(noticed)
		got := fmt.Sprint(gathered(t, r.registry, "recorder_sink_deletions_total"))
		if got != "map[what=file:1 what=manifest:0 what=recording:1 what=root:1]" {
			t.Error(got)
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
