package sink

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"math"
	"path"
	"slices"
	"strings"
	"time"
)

// Retention says which finished recordings are not kept. What is recorded now, or may be continued,
// is never removed, nor is a directory that holds no manifest of ours.
type Retention struct {
	MaxAge  time.Duration // since the end, or since it became final if that was later; 0: any
	MaxSize int64         // bytes of all finished recordings; 0: any
}

// removedPrefix hides a recording that is being removed, so that half of one is never seen.
const removedPrefix = ".removed-"

// kept is a recording as retention sees it.
type kept struct {
	dir   string
	final time.Time     // when it became so, or ended if that was later; zero until it is
	after time.Duration // it became so after that, by the monotonic clock, if Retain saw it come
	size  int64

	written time.Time // the manifest that says so
	length  int64     // of it
}

// tooOld reports whether policy does not keep a recording for its age at a time on both clocks. One that
// came while this process ran is no older than that, whatever the wall clock was when it was made.
func (p Retention) tooOld(k kept, wall time.Time, at time.Duration) bool {
	return p.MaxAge > 0 && wall.Sub(k.final) > p.MaxAge && at-k.after > p.MaxAge
}

// Retain removes the finished recordings that policy does not keep, the oldest first, and returns
// their directories. The error is of what could not be removed; the rest is. What cannot be read
// is left, and logged once. Nothing is removed while the wall clock is not believed, see wallWatch.
// There is one call at a time.
func (r *Root) Retain(ctx context.Context, policy Retention) (removed []string, err error) {
	errs := []error{r.sweep()}
	wall, at := r.options.clocks()
	all, err := r.weighAll(ctx, wall, at)
	if err != nil {
		return nil, errors.Join(append(errs, err)...)
	}
	var total int64
	var newest time.Time
	for _, k := range all {
		total += k.size
		if k.final.After(newest) {
			newest = k.final
		}
	}
	if !r.clockBelieved(wall, at, newest) {
		return nil, errors.Join(errs...)
	}
	slices.SortFunc(all, func(a, b kept) int { return cmp.Or(a.final.Compare(b.final), cmp.Compare(a.dir, b.dir)) })
	for _, k := range all {
		if !policy.tooOld(k, wall, at) && (policy.MaxSize <= 0 || total <= policy.MaxSize) {
			continue // one that is younger by the wall clock may be older by the other
		}
		switch err := r.remove(k.dir); {
		case errors.Is(err, ErrLocked): // it is continued, repaired or read
		case err != nil:
			errs = append(errs, err)
		default:
			total -= k.size
			removed = append(removed, k.dir)
		}
	}
	return removed, errors.Join(errs...)
}

// weighAll returns the finished recordings.
func (r *Root) weighAll(ctx context.Context, wall time.Time, at time.Duration) (all []kept, err error) {
	known, first := r.finished, r.clock.state == wallUnseen
	r.finished = make(map[string]kept) // without those that are gone
	unread := make(map[string]bool)
	for name, err := range recordings(r.dir()) {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var k kept
		before, was := known[name]
		if err == nil {
			k, err = r.weigh(name, before, wall)
		}
		if err != nil {
			unread[name] = true
			r.unreadable(name, err)
			continue
		}
		if k.final.IsZero() {
			continue
		}
		switch {
		case was:
			k.after = before.after
		case first:
			k.after = neverSeen
		default:
			k.after = r.clock.at
		}
		all = append(all, k)
		r.finished[name] = k
	}
	r.readable(unread)
	return all, nil
}

// neverSeen is the time at which a recording became final that was there before this process looked.
const neverSeen = math.MinInt64 / 2

// weigh finds out how old and how large a recording is, if it is finished and is not to be continued. A manifest that is as it was when the recording
// was found to be finished it does not read again: of many that would take long.
func (r *Root) weigh(name string, before kept, wall time.Time) (kept, error) {
	k := kept{dir: name}
	dir, err := r.dir().OpenRoot(name)
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
		k.final = before.final
	} else {
		m, err := readManifest(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrManifest):
			return k, nil
		case err != nil:
			return k, err
		case m.State != StateRecording && m.Ended != nil && !m.continuable(wall):
			k.final = m.Ended.UTC
			if m.Updated.UTC.After(k.final) { // a repair may come long after the end
				k.final = m.Updated.UTC
			}
		}
	}
	if k.final.IsZero() {
		return k, nil
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
	dir, err := r.dir().OpenRoot(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	held, err := lock(dir)
	if err != nil {
		return err
	}
	defer held.Close()
	// It is hidden beside its place: a channel may be a file system of its own.
	hidden := path.Join(path.Dir(name), removedPrefix+path.Base(name))
	if err := r.dir().Rename(name, hidden); err != nil {
		return err
	}
	err = r.dir().RemoveAll(hidden)
	leave := r.channels.enter(path.Dir(name)) // no recording begins in a directory that goes
	_ = r.dir().Remove(path.Dir(name))        // unless there are others
	leave()
	return err
}

// sweep removes what a crash kept from being removed. What cannot be read the caller comes across again.
func (r *Root) sweep() (err error) {
	channels, _ := visibleDirs(r.dir(), ".")
	for _, dir := range append(channels, ".") {
		entries, _ := fs.ReadDir(r.dir().FS(), dir)
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), removedPrefix) && e.IsDir() {
				err = errors.Join(err, r.dir().RemoveAll(path.Join(dir, e.Name())))
			}
		}
	}
	return err
}
