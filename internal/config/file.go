package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxFileSize bounds the configuration and the files it names.
const maxFileSize = 1 << 20

// readFile reads a file by read and keeps what was in it, unless it is a pipe or the like, which is empty once it was read.
func (l *loader) readFile(path string, read func(string) ([]byte, error)) ([]byte, error) {
	text, err := read(path)
	if info, missing := os.Stat(path); missing != nil || info.Mode().IsRegular() {
		l.read[path] = text
	}
	return text, err
}

// readConfiguration reads a configuration, which may also come on a descriptor that the process was started with: from
// a pipe of the shell's, <(…), or on standard input.
func readConfiguration(path string) ([]byte, error) {
	if path != "/dev/stdin" && !strings.HasPrefix(path, "/dev/fd/") && !strings.HasPrefix(path, "/proc/self/fd/") {
		return readFile(path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readSmall(f)
}

// readFile reads a small regular file, or a link to one, as Kubernetes makes them of secrets. From a pipe or a device nothing
// may ever come.
func readFile(path string) ([]byte, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readSmall(f)
}

func readSmall(f *os.File) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFileSize {
		return nil, fmt.Errorf("%s: larger than %d bytes", f.Name(), maxFileSize)
	}
	return data, nil
}

// openRegular opens a file if it is a regular one. It looks before it opens, as opening is enough to set off some devices,
// and afterwards, as the file may be another one by then. Without O_NONBLOCK a pipe would not open before somebody writes.
func openRegular(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil {
		if err := wantRegular(path, info); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = wantRegular(path, info)
	}
	if err != nil {
		_ = f.Close() // of which nothing was read
		return nil, err
	}
	return f, nil
}

func wantRegular(path string, info fs.FileInfo) error {
	var what string
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return nil
	case mode.IsDir():
		what = "a directory"
	case mode&fs.ModeNamedPipe != 0:
		what = "a pipe"
	case mode&fs.ModeSocket != 0:
		what = "a socket"
	default:
		what = "a device"
	}
	return &fs.PathError{Op: "open", Path: path, Err: errors.New("want a regular file, not " + what)}
}

// Exposures warns of the files with credentials that others than their owner may change or read.
func (cfg *Config) Exposures(path string) (warnings []string) {
	s := cfg.Signaling
	files := []string{s.APIKeyFile, s.SecretKey.SecretFile, s.TokenURLFile, cfg.HTTP.WebConfigFile}
	if key := webKeyFile(cfg.HTTP.WebConfigFile); key != "" {
		files = append(files, key)
	}
	if cfg.holdsCredential() {
		files = append(files, path)
	}
	for _, file := range files {
		if warning := exposure(file); file != "" && warning != "" {
			warnings = append(warnings, warning)
		}
	}
	return warnings
}

// holdsCredential reports whether a credential stands in the configuration itself.
func (cfg *Config) holdsCredential() bool {
	s := cfg.Signaling
	for _, c := range []struct{ key, value, file string }{
		{"signaling.api_key", s.APIKey, s.APIKeyFile},
		{"signaling.secret_key.secret", s.SecretKey.Secret, s.SecretKey.SecretFile},
		{"signaling.token_url", s.TokenURL, s.TokenURLFile},
	} {
		if c.value != "" && c.file == "" && os.Getenv(EnvName(c.key)) == "" {
			return true
		}
	}
	for _, server := range cfg.WebRTC.ICEServers {
		if server.Credential != "" {
			return true
		}
	}
	return false
}

// exposure says who else may change or read a file with a credential, empty if nobody may that should not. A group that may read
// is how a service gets a key of root's. Where everybody may read, a file system that is mounted read-only is left alone:
// that is how containers get secrets, 0644 by default, and nobody else is in there.
func exposure(file string) string {
	info, err := os.Stat(file)
	if err != nil || !info.Mode().IsRegular() {
		return ""
	}
	mode := info.Mode().Perm()
	var who, cure string
	switch {
	case mode&0o002 != 0:
		who, cure = "everyone may write", "chmod o-w"
	case mode&0o020 != 0:
		who, cure = "its group may write", "chmod g-w"
	case mode&0o004 != 0 && !mountedReadOnly(file):
		who, cure = "everyone on this machine may read", "chmod o-r"
	default:
		if dir, err := os.Stat(filepath.Dir(file)); err == nil && dir.Mode()&0o002 != 0 && dir.Mode()&fs.ModeSticky == 0 {
			return fmt.Sprintf("%s holds a credential, and everyone may replace it: its directory has mode %04o", file, dir.Mode().Perm())
		}
		return ""
	}
	return fmt.Sprintf("%s holds a credential, and %s it: mode %04o; %s", file, who, mode, cure)
}

// mountedReadOnly reports whether a file lies on a file system that takes no writes.
func mountedReadOnly(file string) bool {
	const readOnly = 1 // ST_RDONLY, the same on all systems
	var fs syscall.Statfs_t
	return syscall.Statfs(file, &fs) == nil && fs.Flags&readOnly != 0
}
