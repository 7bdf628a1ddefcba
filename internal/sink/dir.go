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

// attempts is how often a taken random name is tried again.
const attempts = 10

// createRecordingDir makes <root>/<channel>/<start>-<id>/ and opens it. name is its path below
// root, slash-separated. The directory is on disk when it returns.
func createRecordingDir(root *os.Root, channel string, start time.Time) (dir *os.Root, name, id string, err error) {
	parent := escapeName(channel)
	if err := makeDir(root, parent); err != nil {
		return nil, "", "", fmt.Errorf("make channel directory: %w", err)
	}
	for range attempts {
		id = shortID()
		name = path.Join(parent, start.UTC().Format(startLayout)+"-"+id)
		if err = root.Mkdir(name, dirPerm); !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	if err == nil {
		err = syncDir(root, parent)
	}
	if err != nil {
		return nil, "", "", fmt.Errorf("make recording directory: %w", err)
	}
	dir, err = root.OpenRoot(name)
	if err != nil {
		return nil, "", "", fmt.Errorf("open recording directory: %w", err)
	}
	return dir, name, id, nil
}

// shortID is 40 random bits.
func shortID() string {
	var b [5]byte
	rand.Read(b[:]) // never fails
	return nameCoding.EncodeToString(b[:])
}

// createStreamDir makes <peer>/<stream>/ in a recording's directory, with a number behind it if
// that is taken, and returns its path, slash-separated.
func createStreamDir(dir *os.Root, peer, stream string) (string, error) {
	parent := escapeName(peer)
	if err := makeDir(dir, parent); err != nil {
		return "", fmt.Errorf("make peer directory: %w", err)
	}
	base := path.Join(parent, escapeName(stream))
	name := base
	for n := 2; ; n++ {
		err := dir.Mkdir(name, dirPerm)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrExist) || n > 1000 {
			return "", fmt.Errorf("make stream directory: %w", err)
		}
		name = fmt.Sprintf("%s.%d", base, n)
	}
	if err := syncDir(dir, parent); err != nil {
		return "", fmt.Errorf("sync peer directory: %w", err)
	}
	return name, nil
}

// createPart makes a new media file, which nothing in its place survives or redirects: an existing
// one, a link too, is fs.ErrExist. Its entry is on disk when it returns.
func createPart(dir *os.Root, name string) (*os.File, error) {
	f, err := dir.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, filePerm)
	if err != nil {
		return nil, err
	}
	if err := syncDir(dir, path.Dir(name)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// makeDir makes one directory, unless it is there.
func makeDir(root *os.Root, name string) error {
	switch err := root.Mkdir(name, dirPerm); {
	case err == nil:
		return syncDir(root, path.Dir(name))
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	info, err := root.Lstat(name)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "mkdir", Path: name, Err: syscall.ENOTDIR}
	}
	return err
}

// openRegular opens a file that is no link, device or pipe, neither of which ever lies in a
// recording by our doing.
func openRegular(dir *os.Root, name string) (*os.File, fs.FileInfo, error) {
	info, err := dir.Lstat(name)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, &fs.PathError{Op: "open", Path: name, Err: errNotRegular}
	}
	f, err := dir.Open(name)
	return f, info, err
}

var errNotRegular = errors.New("not a regular file")

// readRegular reads at most limit bytes of a regular file.
func readRegular(dir *os.Root, name string, limit int64) ([]byte, error) {
	f, _, err := openRegular(dir, name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, limit))
	return b, errors.Join(err, f.Close())
}

// recordings yields the path of every recording's directory below root, in order of name. Whether
// it holds a manifest is for the caller to find out. It ends with the first error.
func recordings(root *os.Root) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		channels, err := fs.ReadDir(root.FS(), ".")
		if err != nil {
			yield("", err)
			return
		}
		for _, channel := range channels {
			if !channel.IsDir() {
				continue
			}
			entries, err := fs.ReadDir(root.FS(), channel.Name())
			if err != nil {
				yield("", err)
				return
			}
			for _, e := range entries {
				if e.IsDir() && !yield(path.Join(channel.Name(), e.Name()), nil) {
					return
				}
			}
		}
	}
}
