package sink

import (
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	// probePrefix begins the names of what is made to find out whether a directory takes files: of the
	// directory that openRoot makes, and of the files that the process makes while it runs. It is hidden, so
	// that it is not taken for a channel should a crash leave it.
	probePrefix = ".probe-"
	probeText   = len("probe\n") // what is written to a file

	// probeAge is how old a leftover is. A younger one may be in use.
	probeAge = time.Minute
)

// sweepProbes removes what crashes left of probes, and nothing that is laid out differently. What
// cannot be removed is left to the next start.
func sweepProbes(root *os.Root) {
	entries, _ := fs.ReadDir(root.FS(), ".")
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), probePrefix)
		if !ok {
			continue
		}
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()).Abs() < probeAge {
			continue
		}
		if _, err := strconv.ParseUint(rest, 10, 64); err == nil && info.Mode().IsRegular() && info.Size() <= int64(probeText) {
			_ = root.Remove(e.Name())
		}
		if isID(rest) && info.IsDir() {
			removeProbe(root, e.Name())
		}
	}
}

// removeProbe removes the directory of a probe unless it holds anything else than a probe makes.
func removeProbe(root *os.Root, name string) {
	entries, err := fs.ReadDir(root.FS(), name)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || e.Name() != "a" && e.Name() != "b" {
			return
		}
	}
	for _, e := range entries {
		_ = root.Remove(name + "/" + e.Name())
	}
	_ = root.Remove(name)
}
