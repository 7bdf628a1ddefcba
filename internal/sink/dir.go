package sink

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Recordings are readable by the group of the process and by no one else.
const (
	dirPerm  = 0o750
	filePerm = 0o640
)

// startLayout is the first part of a recording directory's name.
const startLayout = "20060102T150405Z"

// newID is a short id for a recording: 40 random bits.
func newID() string {
	var b [5]byte
	rand.Read(b[:]) // never fails
	return nameCoding.EncodeToString(b[:])
}

// isID reports whether a text looks like newID's.
func isID(s string) bool {
	b, err := nameCoding.DecodeString(s)
	return err == nil && len(b) == 5 && nameCoding.EncodeToString(b) == s
}

// openRoot opens the directory all recordings live in, making it if need be, and makes sure that
// directories and files can be made in it.
func openRoot(dir string) (*os.Root, error) {
	if err := os.MkdirAll(dir, dirPerm); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	sweepProbes(root)
	probe := probePrefix + newID()
	err = root.Mkdir(probe, dirPerm)
	if err == nil {
		err = replaceFile(root, probe+"/a", probe+"/b", []byte("\n"))
		err = errors.Join(err, root.RemoveAll(probe))
	}
	if err != nil {
		root.Close()
		if cause, ok := errors.AsType[syscall.Errno](err); ok {
			err = cause // without the name of the probe, which means nothing to anybody
		}
		return nil, fmt.Errorf("cannot be written: %w", err)
	}
	return root, nil
}

// store is the directory of one recording: <root>/<channel>/<start>-<id>/. All paths it takes and
// gives are relative to that, slash-separated. Create and Save may be called by several
// goroutines, StreamDir by one at a time.
type store struct {
	at    atomic.Pointer[place]
	taken map[string]bool // by StreamDir
	saved int64           // size of the manifest, 0 if that is not known; guarded by who calls Save
}

// place is where a recording lies. After its directory was deleted it is another.
type place struct {
	dir  *os.Root
	lock io.Closer // held until close
	name string    // below the root's directory
}

func (p *place) close() error {
	return errors.Join(p.lock.Close(), p.dir.Close()) // a lock may be a file in the directory
}

func openStore(p *place) *store {
	s := &store{taken: make(map[string]bool)}
	s.at.Store(p)
	return s
}

// root is the recording's directory.
func (s *store) root() *os.Root { return s.at.Load().dir }

// newStore makes the directory of a new recording. It is on disk when newStore returns, and after an
// error it is gone, as far as the disk allows.
func newStore(root *os.Root, m *Manifest) (s *store, err error) {
	channel := escapeName(m.Channel)
	if err := makeDir(root, channel); err != nil {
		return nil, fmt.Errorf("make channel directory: %w", err)
	}
	name := path.Join(channel, m.Started.UTC.UTC().Format(startLayout)+"-"+m.ID)
	if err := root.Mkdir(name, dirPerm); err != nil { // must be new
		return nil, fmt.Errorf("make recording directory: %w", err)
	}
	defer func() {
		if err != nil && !errors.Is(err, ErrLocked) { // by a repair that is about to take it for a leftover
			_ = root.Remove(name)
		}
	}()
	if err := syncDir(root, channel); err != nil {
		return nil, fmt.Errorf("make recording directory: %w", err)
	}
	dir, err := root.OpenRoot(name)
	if err != nil {
		return nil, fmt.Errorf("open recording directory: %w", err)
	}
	held, err := lock(dir)
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return openStore(&place{dir, held, name}), nil
}

// reopenStore opens the directory of a recording that no one writes, and reads its manifest.
func reopenStore(root *os.Root, name string) (*store, *Manifest, error) {
	dir, err := root.OpenRoot(name)
	if err != nil {
		return nil, nil, err
	}
	held, err := lock(dir)
	if err != nil {
		return nil, nil, errors.Join(err, dir.Close())
	}
	s := openStore(&place{dir, held, name})
	m, err := readManifest(dir)
	if err != nil {
		return nil, nil, errors.Join(err, s.Close())
	}
	for _, stream := range m.Streams {
		s.taken[stream.Dir] = true
	}
	return s, m, nil
}

// Dir is the recording's directory below the root.
func (s *store) Dir() string { return s.at.Load().name }

// StreamDir is a directory for a stream, <peer>/<stream>, with a number behind it if a stream of
// that name had it before. It touches no disk: Create makes directories.
func (s *store) StreamDir(peer, stream string) string {
	base := path.Join(escapeName(peer), escapeName(stream))
	name := base
	for n := 2; s.taken[name]; n++ {
		name = base + "." + strconv.Itoa(n)
	}
	s.taken[name] = true
	return name
}

// PartName is the path of a stream's n-th file of a kind, as in <stream>/audio-1.ogg.
func (s *store) PartName(stream *ManifestStream, kind string, n int, extension string) string {
	return path.Join(stream.Dir, kind+"-"+strconv.Itoa(n)+extension)
}

// Create makes a new media file and the directories above it. Anything in its place, a link too,
// is fs.ErrExist and stays as it was. The file's entry is on disk when Create returns.
func (s *store) Create(name string) (File, error) {
	root, stream := s.root(), path.Dir(name)
	for _, dir := range []string{path.Dir(stream), stream} {
		if err := makeDir(root, dir); err != nil {
			return nil, fmt.Errorf("make directory: %w", err)
		}
	}
	f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, filePerm)
	if err != nil {
		return nil, err
	}
	if err := syncDir(root, stream); err != nil {
		_ = root.Remove(name) // for another attempt; an empty one that stays is repaired like any
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Reopen opens a media file that Create made, or one like it, to write to it. The error wraps errReplaced
// or errChanged if it is not as it was; nil stands for any.
func (s *store) Reopen(name string, was fs.FileInfo) (File, error) {
	root := s.root()
	f, err := openRegularAs(root, name, os.O_RDWR)
	if err != nil && was != nil {
		if is, statErr := root.Lstat(name); absent(statErr) || statErr == nil && !sameMedia(was, is) {
			return nil, errReplaced // itself, or a directory above it
		}
	}
	if err != nil {
		return nil, err
	}
	if err := sameFile(was, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Save replaces the manifest: a reader, or a crash at any moment, finds the old one or the new
// one, whole. When Save returns nil the new one is on disk.
func (s *store) Save(manifest []byte) error {
	if err := replaceFile(s.root(), manifestTemp, ManifestName, manifest); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	s.saved = int64(len(manifest))
	return nil
}

// SaveManifest is Save of m as it is.
func (s *store) SaveManifest(m *Manifest) error {
	b, err := m.Encode()
	if err != nil {
		return err
	}
	return s.Save(b)
}

// Close releases the directory. Open files stay usable.
func (s *store) Close() error {
	return s.at.Load().close()
}

// makeDir makes one directory, durably, unless it is there.
func makeDir(root *os.Root, name string) error {
	switch err := root.Mkdir(name, dirPerm); {
	case err == nil:
		if err = syncDir(root, path.Dir(name)); err != nil {
			_ = root.Remove(name) // another attempt makes it, durably
		}
		return err
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	info, err := root.Lstat(name)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "mkdir", Path: name, Err: syscall.ENOTDIR}
	}
	return err
}

// errorBelow is the text of an error with the names of files relative to a directory, wherever that is.
func errorBelow(dir *os.Root, err error) string {
	return strings.ReplaceAll(err.Error(), dir.Name()+"/", "")
}

var errNotRegular = errors.New("not a regular file")

// openRegular opens a file for reading that is no link, device or pipe: none of these lies in a
// recording by our doing.
func openRegular(dir *os.Root, name string) (*os.File, error) {
	return openRegularAs(dir, name, os.O_RDONLY)
}

// openRegularAs is openRegular with the flags of [os.Root.OpenFile].
func openRegularAs(dir *os.Root, name string, flag int) (*os.File, error) {
	info, err := dir.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errNotRegular}
	}
	return dir.OpenFile(name, flag, 0)
}

// located yields the recordings in a directory that a person names: that of all recordings, of a channel,
// or of one. What is neither called nor laid out like a recording is none.
func located(root *os.Root) iter.Seq2[string, error] {
	if holdsManifest(root, ".") {
		return func(yield func(string, error) bool) { yield(".", nil) }
	}
	return func(yield func(string, error) bool) {
		outer, err := visibleDirs(root, ".")
		if err != nil && !yield(".", err) {
			return
		}
		for _, name := range outer {
			if isRecording(root, name) { // root is a channel's directory
				if !yield(name, nil) {
					return
				}
				continue
			}
			inner, err := visibleDirs(root, name)
			if err = ignoreMissing(err); err != nil && !yield(name, err) {
				return
			}
			for _, below := range inner {
				if below = path.Join(name, below); isRecording(root, below) && !yield(below, nil) {
					return
				}
			}
		}
	}
}

// isRecording reports whether a directory is one of a recording, though it may have lost its manifest or
// its name. No channel's directory is called like one: their names have no capitals.
func isRecording(root *os.Root, name string) bool {
	start, id, _ := strings.Cut(path.Base(name), "-")
	_, err := time.Parse(startLayout, start)
	return err == nil && id != "" || holdsManifest(root, name)
}

// hasOurName reports whether a directory is called exactly as newStore calls one.
func hasOurName(name string) bool {
	start, id, _ := strings.Cut(path.Base(name), "-")
	t, err := time.Parse(startLayout, start)
	return err == nil && t.Format(startLayout) == start && isID(id)
}

// holdsManifest reports whether something in a directory is called like a manifest.
func holdsManifest(root *os.Root, name string) bool {
	_, err := root.Lstat(path.Join(name, ManifestName))
	return err == nil
}

// recordings yields the path of every recording's directory below root, in order of name. Whether it
// holds a manifest is for the caller to find out. Other directories are somebody else's. A directory
// that cannot be read, as lost+found may be, is yielded with the error, and hides no other.
func recordings(root *os.Root) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		channels, err := visibleDirs(root, ".")
		if err != nil && !yield(".", err) {
			return
		}
		for _, channel := range channels {
			names, err := visibleDirs(root, channel)
			if err = ignoreMissing(err); err != nil && !yield(channel, err) { // it may have gone with its last recording
				return
			}
			for _, name := range names {
				if name = path.Join(channel, name); isRecording(root, name) && !yield(name, nil) {
					return
				}
			}
		}
	}
}

// visibleDirs is the directories in a directory, less those that a dot hides.
func visibleDirs(root *os.Root, name string) (names []string, err error) {
	entries, err := fs.ReadDir(root.FS(), name)
	for _, e := range entries {
		if e.IsDir() && e.Name()[0] != '.' {
			names = append(names, e.Name())
		}
	}
	return names, err
}
