package sink

import (
	"errors"
	"os"
)

// manifestTemp is what a manifest is called until it is whole. A leftover is overwritten.
const manifestTemp = "." + ManifestName + ".tmp"

// readManifest reads the manifest in a recording's directory. The error is fs.ErrNotExist when
// there is none and ErrManifest when it is not one of ours.
func readManifest(dir *os.Root) (*Manifest, error) {
	f, err := openRegular(dir, ManifestName)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return DecodeManifest(f)
}

// replaceFile puts b into the file called name so that it is never seen half written: into temp,
// which is synced and renamed.
func replaceFile(dir *os.Root, temp, name string, b []byte) error {
	f, err := dir.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, filePerm)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = dir.Rename(temp, name)
	}
	if err != nil {
		_ = dir.Remove(temp) // what is left is harmless, and err says what went wrong
		return err
	}
	return syncDir(dir, ".")
}

// syncDir makes the entries of a directory durable.
func syncDir(root *os.Root, name string) error {
	d, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
