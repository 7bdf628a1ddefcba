package sink

import (
	"bytes"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// names is the names of everything below a directory.
func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if d.Name() == path.Dir(wallMark) {
			return fs.SkipDir // the recorder's own
		}
		all = append(all, strings.TrimPrefix(name, dir))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// makeTree makes directories, files, and links, whose names have an arrow, below a directory.
func makeTree(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		name, target, link := strings.Cut(name, "->")
		full := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(full), 0o755)
		switch {
		case err != nil:
		case link:
			err = os.Symlink(target, full)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(full, 0o755)
		default:
			err = os.WriteFile(full, []byte("somebody's"), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A start, a repair by hand and retention leave alone whatever is not laid out as a recording, empty or
// not, and say nothing of it. What a crash left of a recording without a manifest they remove.
func TestAStartTouchesNothingThatIsNoRecording(t *testing.T) {
	const left = "room/20260506T070807Z-abcdefgh"
	foreign := []string{
		"lost+found/", "empty/", "by-hand/inbox/", "room/inbox/", "room/.snapshot/hourly.0/", ".snapshot/hourly.0/", "uploader/tmp.X7/",
		"room/20260506/", "room/20260506T070807Z/", "room/20260506T070807Z-/", "room/20260506T070807Z-ABCDEFGH/",
		"room/20260506T070807Z-abcdefg/", "room/20260506T070807Z-abcdefghi/", "room/20260506T070807Z-abcdefg1/",
		"room/20261306T070807Z-abcdefgh/", "room/20260506T070807Z-abcdefgh.part/",
		"room/20260506T070809Z-abcdefgh/notes.txt", "room/20260506T070810Z-abcdefgh/bob/", "room/20260506T070811Z-abcdefgh/" + manifestTemp + "/",
		"room/20260506T070812Z-abcdefgh->../empty", "linked->room", "room/file", ".probe-mine/", ".probe-abcdefgh.txt", ".probes",
	}
	for name, start := range map[string]func(t *testing.T, dir string){
		"start": func(t *testing.T, dir string) {
			var log bytes.Buffer
			root, err := Open(Options{Dir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			<-root.Recover(t.Context())
			if _, err := root.Retain(t.Context(), Retention{MaxAge: 1, MaxSize: 1}); err != nil || log.Len() != 0 {
				t.Errorf("%v, log %s", err, log.String())
			}
		},
		"repair": func(t *testing.T, dir string) {
			if report, err := Repair(t.Context(), dir, nil); err != nil || !report.OK {
				t.Errorf("%+v %v", report, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			makeTree(t, dir, foreign...)
			if name == "start" { // a repair may be of a channel's directory
				makeTree(t, dir, "20260506T070807Z-abcdefgh/")
			}
			want := names(t, dir)
			makeTree(t, dir, left+"/", "room/20260506T070808Z-abcdefgh/"+manifestTemp)
			start(t, dir)
			if got := names(t, dir); !slices.Equal(got, want) {
				t.Errorf("gone: %q, left: %q", without(want, got), without(got, want))
			}
		})
	}
}

// without is what of a list is not in another.
func without(list, other []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(other, s) })
}

// What a crash left of a trial of the disk goes with the next start: that of the directory, and the
// files of the trials while it runs. A trial that another process makes now stays.
func TestAStartRemovesWhatTrialsOfTheDiskLeft(t *testing.T) {
	dir := t.TempDir()
	mine := []string{".probe-nothing/", ".probe-12ab", ".probe-abcdefgi/notes", ".probe-abcdefgj/a/", ".probe-7->/etc/passwd", ".probe-1234567/", ".probe-77"}
	makeTree(t, dir, mine...)
	makeTree(t, dir, ".probe-9") // now
	want := names(t, dir)
	makeTree(t, dir, ".probe-abcdefgh/", ".probe-abcdefgk/a", ".probe-abcdefgl/b", ".probe-123456789", ".probe-1")
	for name, holds := range map[string]string{".probe-1": "", ".probe-123456789": "probe\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(holds), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-time.Hour)
	for _, name := range without(names(t, dir), []string{"", "/.probe-9", "/.probe-7"}) {
		if err := os.Chtimes(filepath.Join(dir, name), long, long); err != nil {
			t.Fatal(err)
		}
	}
	root, err := Open(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("gone: %q, left: %q", without(want, got), without(got, want))
	}
}
