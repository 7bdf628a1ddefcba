package sink

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"syscall"
)

// lookUp is Lstat of a recording's directory, which is absent where its channel's directory is none, such as a link.
func lookUp(root *os.Root, name string) (os.FileInfo, error) {
	is, err := root.Lstat(name)
	if unsure(err) {
		if channel, err := root.Lstat(path.Dir(name)); err == nil && !channel.IsDir() {
			return nil, syscall.ENOTDIR
		}
	}
	return is, err
}

// absent reports whether an error says that nothing is under a name. Only that is certain: any other error is of a disk,
// or of a network, that may be well again in a moment.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ESTALE)
}

// unsure reports whether an error tells nothing of what is under a name.
func unsure(err error) bool { return err != nil && !absent(err) }
