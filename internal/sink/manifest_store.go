package sink

import (
	"bytes"
	"errors"
	"fmt"
	"os"
)

// manifestTemp is what a manifest is called until it is whole. A leftover is overwritten.
const manifestTemp = "." + ManifestName + ".tmp"

// writeManifest replaces the manifest in a recording's directory: a reader, or a crash at any
// moment, finds the old one or the new one, whole. When it returns nil the new one is on disk.
// A directory has one writer at a time.
func writeManifest(dir *os.Root, m *Manifest) error {
	b, err := m.Encode()
	if err != nil {
		return err
	}
	if err := replaceFile(dir, manifestTemp, ManifestName, b); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return nil
}

// replaceFile writes b to temp, syncs it and renames it to name.
func replaceFile(dir *os.Root, temp, name string, b []byte) (err error) {
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
		_ = dir.Remove(temp) // what is left is harmless; err says what went wrong
		return err
	}
	return syncDir(dir, ".")
}

// readManifest reads the manifest in a recording's directory. The error is fs.ErrNotExist when
// there is none and ErrManifest when it is not one of ours.
func readManifest(dir *os.Root) (*Manifest, error) {
	b, err := readRegular(dir, ManifestName, maxManifest+1)
	if err != nil {
		return nil, err
	}
	return DecodeManifest(bytes.NewReader(b))
}

// syncDir makes the entries of a directory under root durable.
func syncDir(root *os.Root, name string) error {
	d, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
