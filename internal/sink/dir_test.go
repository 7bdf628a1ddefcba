package sink

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func tempRoot(t *testing.T) *os.Root {
	t.Helper()
	root, err := openRoot(filepath.Join(t.TempDir(), "made", "here"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

// newManifest is that of a recording that has just begun.
func newManifest(channel string) *Manifest {
	start := time.Date(2026, 5, 6, 9, 8, 7, 0, time.FixedZone("", 2*3600))
	return &Manifest{
		Version: ManifestVersion, ID: newID(), Channel: channel, Bot: "recorder", State: StateRecording,
		Started: At(start, start), Updated: At(start, start),
	}
}

func tempStore(t *testing.T, root *os.Root, m *Manifest) *store {
	t.Helper()
	s, err := newStore(root, m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func entries(t *testing.T, root *os.Root) (names []string) {
	t.Helper()
	err := fs.WalkDir(root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		names = append(names, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names[1:]
}

func TestOpenRootNeedsAWritableDirectory(t *testing.T) {
	root := tempRoot(t)
	if names := entries(t, root); len(names) != 0 {
		t.Errorf("left behind %q", names)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below"), "/proc/nothing/here"} {
		if root, err := openRoot(dir); err == nil {
			root.Close()
			t.Errorf("%s was accepted", dir)
		}
	}
	_, err := openRoot("/proc") // is there, and takes nothing
	if err == nil || !strings.HasPrefix(err.Error(), "cannot be written: ") || strings.Contains(err.Error(), "probe") {
		t.Errorf("got %v", err)
	}
}

func TestRecordingDirectoriesLieTwoLevelsDown(t *testing.T) {
	root := tempRoot(t)
	form := regexp.MustCompile(`^[a-z0-9_.-]+/20260506T070807Z-[a-z2-7]{8}$`)
	var dirs []string
	for _, channel := range append([]string{"room-42", "room-42"}, hostileNames...) {
		s := tempStore(t, root, newManifest(channel))
		if !form.MatchString(s.Dir()) {
			t.Errorf("channel %.40q in %q", channel, s.Dir())
		}
		dirs = append(dirs, s.Dir())
	}
	var found []string
	for name, err := range recordings(root) {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, name)
	}
	slices.Sort(dirs)
	slices.Sort(found)
	if !slices.Equal(dirs, found) {
		t.Errorf("made %q, found %q", dirs, found)
	}
}

// Who names a directory gets the recordings in it, whether it is that of all, of a channel or of one, and
// nothing that is none.
func TestRecordingsAreFoundFromAnyDirectoryThatHoldsThem(t *testing.T) {
	root := tempRoot(t)
	one, lost := tempStore(t, root, newManifest("room")), tempStore(t, root, newManifest("hall"))
	if err := one.SaveManifest(newManifest("room")); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{
		one.Dir() + "/bob/cam", lost.Dir() + "/bob/cam", "room/mixes/bob", "unrelated/20260506T070807Z", "unrelated/20261306T070807Z-abcdefgh",
		"unrelated/.20260506T070807Z-abcdefgh", "room/renamed",
	} {
		if err := root.MkdirAll(dir, dirPerm); err != nil {
			t.Fatal(err)
		}
	}
	if err := root.WriteFile("room/renamed/"+ManifestName, []byte("{"), filePerm); err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(one.Dir())
	for dir, want := range map[string][]string{
		".":                    {lost.Dir(), one.Dir(), "room/renamed"},
		"room":                 {name, "renamed"},
		"hall":                 {filepath.Base(lost.Dir())},
		one.Dir():              {"."},
		one.Dir() + "/bob":     nil,
		one.Dir() + "/bob/cam": nil,
		"unrelated":            nil,
	} {
		below, err := root.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer below.Close()
		var found []string
		for name, err := range located(below) {
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, name)
		}
		if !slices.Equal(found, want) {
			t.Errorf("in %s: found %q, want %q", dir, found, want)
		}
	}
}

func TestARecordingNeverTakesAnothersDirectory(t *testing.T) {
	root, m := tempRoot(t), newManifest("room-42")
	tempStore(t, root, m)
	if _, err := newStore(root, m); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the same directory twice: %v", err)
	}
}

func TestStreamsOfOneNameAreKeptApart(t *testing.T) {
	s := tempStore(t, tempRoot(t), newManifest("room-42"))
	seen := make(map[string]bool)
	for _, name := range [][2]string{{"bob", "cam"}, {"bob", "cam"}, {"bob", "cam.2"}, {"bob", "cam"}, {"bob", "CAM"}, {"Bob", "cam"}, {"bob/cam", ""}} {
		dir := s.StreamDir(name[0], name[1])
		if seen[dir] || strings.Count(dir, "/") != 1 {
			t.Errorf("%q in %q", name, dir)
		}
		seen[dir] = true
	}
	if !seen["bob/cam"] {
		t.Errorf("plain names changed: %v", seen)
	}
}

func TestCreateNeverTouchesWhatIsThere(t *testing.T) {
	s := tempStore(t, tempRoot(t), newManifest("room-42"))
	stream := &ManifestStream{Dir: s.StreamDir("bob", "cam")}
	name := s.PartName(stream, "audio", 1, ".ogg")
	if name != "bob/cam/audio-1.ogg" {
		t.Errorf("part in %q", name)
	}
	f, err := s.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("media"), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(name); !errors.Is(err, fs.ErrExist) {
		t.Errorf("created twice: %v", err)
	}

	outside := t.TempDir()
	if err := s.root().Symlink(filepath.Join(outside, "target"), "bob/cam/audio-2.ogg"); err != nil {
		t.Fatal(err)
	}
	if err := s.root().Symlink(outside, "eve"); err != nil {
		t.Fatal(err)
	}
	if err := s.root().Mkdir("carl", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.root().Symlink(outside, "carl/cam"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bob/cam/audio-2.ogg", "eve/cam/audio-1.ogg", "carl/cam/audio-1.ogg", "../../x/audio-1.ogg"} {
		if _, err := s.Create(name); err == nil {
			t.Errorf("%s was followed", name)
		}
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) != 0 {
		t.Errorf("written outside: %v %v", left, err)
	}
	if b, err := s.root().ReadFile(name); string(b) != "media" {
		t.Errorf("%q %v", b, err)
	}
}

func TestSaveReplacesTheManifestWhole(t *testing.T) {
	s := tempStore(t, tempRoot(t), newManifest("room-42"))
	if _, err := readManifest(s.root()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before the first: %v", err)
	}
	save := func(bot string) error {
		m := newManifest("room-42")
		m.Bot = bot
		b, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return s.Save(b)
	}
	if err := s.root().WriteFile(manifestTemp, []byte(strings.Repeat("leftover of a crash", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bot := range []string{"first", "second"} {
		if err := save(bot); err != nil {
			t.Fatal(err)
		}
	}
	if names := entries(t, s.root()); !slices.Equal(names, []string{ManifestName}) {
		t.Errorf("left behind %q", names)
	}
	if err := s.root().Mkdir(manifestTemp, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := save("third"); err == nil {
		t.Error("saved although nothing could be written")
	}
	if m, err := readManifest(s.root()); err != nil || m.Bot != "second" {
		t.Errorf("after a failed save: %+v %v", m, err)
	}
}

func TestAManifestIsARegularFile(t *testing.T) {
	s := tempStore(t, tempRoot(t), newManifest("room-42"))
	if err := s.root().Symlink("/dev/zero", ManifestName); err != nil {
		t.Fatal(err)
	}
	if _, err := readManifest(s.root()); !errors.Is(err, errNotRegular) {
		t.Errorf("a link: %v", err)
	}
}
