package sink

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// Retention says which finished recordings are not kept. What is recorded now, or may be continued,
// is never removed, nor is a directory that holds no manifest of ours.
type Retention struct {
	MaxAge  time.Duration // since the end; 0: any
	MaxSize int64         // bytes of all recordings, those in progress too; 0: any
}

// removedPrefix hides a recording that is being removed, so that half of one is never seen.
const removedPrefix = ".removed-"

// kept is a recording as retention sees it.
type kept struct {
	dir   string
	ended time.Time // zero while it is recorded, or may be continued
	size  int64

	written time.Time // the manifest that says so
	length  int64     // of it
}

// Retain removes the finished recordings that policy does not keep, the oldest first, and returns
// their directories. The error is of what could not be removed; the rest is. What cannot be read
// is left, and logged once. There is one call at a time.
func (r *Root) Retain(ctx context.Context, policy Retention) (removed []string, err error) {
	errs := []error{r.sweep()}
	known := r.finished
	r.finished = make(map[string]kept) // without those that are gone
	var all []kept
	var total int64
	unread := make(map[string]bool)
	for name, err := range recordings(r.dir) {
		if ctx.Err() != nil {
			return nil, errors.Join(append(errs, ctx.Err())...)
		}
		var k kept
		if err == nil {
			k, err = r.weigh(name, known[name])
		}
		if err != nil {
			unread[name] = true
			r.unreadable(name, err)
			continue
		}
		total += k.size
		if !k.ended.IsZero() {
			all = append(all, k)
			r.finished[name] = k
		}
	}
	r.readable(unread)
	slices.SortFunc(all, func(a, b kept) int { return cmp.Or(a.ended.Compare(b.ended), cmp.Compare(a.dir, b.dir)) })
	for _, k := range all {
		old := policy.MaxAge > 0 && time.Since(k.ended) > policy.MaxAge
		if !old && (policy.MaxSize <= 0 || total <= policy.MaxSize) {
			break
		}
		switch err := r.remove(k.dir); {
		case errors.Is(err, ErrLocked): // it is continued, or repaired
		case err != nil:
			errs = append(errs, err)
		default:
			total -= k.size
			removed = append(removed, k.dir)
		}
	}
	return removed, errors.Join(errs...)
}

// weigh finds out how old and how large a recording is. A manifest that is as it was when the recording
// was found to be finished it does not read again: of many that would take long.
func (r *Root) weigh(name string, before kept) (kept, error) {
	k := kept{dir: name}
	dir, err := r.dir.OpenRoot(name)
	if err != nil {
		return k, ignoreMissing(err)
	}
	defer dir.Close()
	info, err := dir.Lstat(ManifestName)
	if err != nil {
		return k, ignoreMissing(err)
	}
	k.written, k.length = info.ModTime(), info.Size()
	if k.written.Equal(before.written) && k.length == before.length {
		k.ended = before.ended
	} else {
		m, err := readManifest(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrManifest):
			return k, nil
		case err != nil:
			return k, err
		case m.State != StateRecording && m.Ended != nil && !m.continuable(time.Now()):
			k.ended = m.Ended.UTC
		}
	}
	err = fs.WalkDir(dir.FS(), ".", func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return ignoreMissing(err)
		}
		info, err := d.Info()
		if err == nil {
			k.size += info.Size()
		}
		return ignoreMissing(err)
	})
	return k, err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// remove takes a recording out of sight and then off the disk.
func (r *Root) remove(name string) error {
	dir, err := r.dir.OpenRoot(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	held, err := lock(dir)
	if err != nil {
		return err
	}
	defer held.Close()
	hidden := removedPrefix + path.Base(name)
	if err := r.dir.Rename(name, hidden); err != nil {
		return err
	}
	leave := r.channels.enter(path.Dir(name)) // no recording begins in a directory that goes
	_ = r.dir.Remove(path.Dir(name))          // unless there are others
	leave()
	return r.dir.RemoveAll(hidden)
}

// sweep removes what a crash kept from being removed.
func (r *Root) sweep() error {
	d, err := r.dir.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	for _, name := range names {
		if strings.HasPrefix(name, removedPrefix) {
			err = errors.Join(err, r.dir.RemoveAll(name))
		}
	}
	return err
}
