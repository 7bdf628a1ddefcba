package sink

import (
	"errors"
	"path"
	"syscall"
	"time"
)

// After a file of a track failed, no other is begun before a probe in the same directory has shown that files can be
// written there again. Attempts with media files instead would each leave a file of nothing in the manifest, and would
// have to be so rare that media is lost for long after the disk is well.

const (
	probeInterval = 500 * time.Millisecond
	probeName     = ".probe" // a leftover is removed by the next probe, and means nothing
	probeSize     = 4 << 10
	// probeReserve is how much has to be free when a probe has succeeded and a media file failed all the same: each time
	// that happens twice as much.
	probeReserve = 256 << 10
	// probeTrust is how often a probe may be wrong in a row before it is not relied on any more, and the track waits.
	probeTrust = 8
	// retryLast is how long it waits at most, and how long a file lasts that was no failure from the start.
	retryLast = time.Minute
)

// retry is when a track may begin a file after one failed, and why that one did.
type retry struct {
	reason   Reason
	ill      *ill          // nil if none failed
	begun    time.Duration // the last time that the directory was found well
	failures int           // of files since one lasted
	next     time.Duration
}

// failed notes that a file of the track failed.
func (r *retry) failed(t *Track, err error, now time.Duration) {
	if r.ill != nil && now-r.begun > retryLast {
		r.failures = 0
	}
	r.failures++
	r.reason, r.begun = causeOf(err), 0
	r.next = now
	if n := r.failures - probeTrust; n > 0 {
		r.next += min(time.Second<<min(n, 6), retryLast)
	}
	r.ill = t.stream.rec.fallIll(t.stream.manifest.Dir, err, r.failures)
}

// due reports whether the track may begin a file.
func (r *retry) due(now time.Duration) bool {
	if r.ill == nil {
		return true
	}
	if now < r.next || !r.ill.over {
		return false
	}
	if r.begun == 0 {
		r.begun = now
	}
	return true
}

// ill is a directory of a stream in which a file failed.
type ill struct {
	over     bool  // files can be written to it again
	need     int64 // how much has to be free before
	alone    bool  // others recovered and it did not: it is probed for itself
	manifest bool  // what failed was to store the manifest, which is done before a file is made
}

// ills is the directories of a recording that are ill, by name. Recording.mu guards it.
type ills struct {
	dirs    map[string]*ill
	probing bool
}

// manifestError is why a file was not begun: the manifest that names it could not be stored.
type manifestError struct{ error }

func (e *manifestError) Unwrap() error { return e.error }

// fallIll notes that a file in a directory failed, for that many times in a row, and has the directory probed. mu is held.
func (rec *Recording) fallIll(dir string, err error, failures int) *ill {
	i := rec.ills.dirs[dir]
	if i == nil {
		i = new(ill)
		if rec.ills.dirs == nil {
			rec.ills.dirs = make(map[string]*ill)
		}
		rec.ills.dirs[dir] = i
	}
	if failures > 1 {
		i.alone = true
		if n := min(failures, probeTrust) - 2; errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			i.need = max(i.need, probeReserve<<n)
		}
	}
	_, unstored := errors.AsType[*manifestError](err)
	i.manifest = i.manifest || unstored
	if !rec.ills.probing {
		rec.ills.probing = true
		rec.savers.Go(rec.probeIlls)
	}
	return i
}

// probeIlls probes the directories that are ill until none is.
func (rec *Recording) probeIlls() {
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	for {
		select {
		case <-rec.done:
			return
		case <-tick.C:
		}
		well := false
		for dir, i := range rec.illNow() {
			if well = rec.probe(dir, i, well) || well; rec.ended() {
				return
			}
		}
		rec.mu.Lock()
		if len(rec.ills.dirs) == 0 {
			rec.ills.probing = false
			rec.mu.Unlock()
			return
		}
		rec.mu.Unlock()
	}
}

// ended reports whether all that the recording wanted from the disk is done.
func (rec *Recording) ended() bool {
	select {
	case <-rec.done:
		return true
	default:
		return false
	}
}

// illNow is the directories that are ill, as they are now.
func (rec *Recording) illNow() map[string]ill {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	now := make(map[string]ill, len(rec.ills.dirs))
	for dir, i := range rec.ills.dirs {
		now[dir] = *i
	}
	return now
}

// probe finds out whether files can be written to a directory again, and reports whether they can. When another was just
// found well, one that was well until the same moment is taken to be so, too.
func (rec *Recording) probe(dir string, i ill, another bool) (well bool) {
	if i.alone || !another {
		if i.manifest && rec.writeManifest(0) != nil || rec.tryWrite(dir, i.need) != nil {
			return false
		}
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if now := rec.ills.dirs[dir]; now != nil && now.need == i.need && now.alone == i.alone {
		now.over = true
		delete(rec.ills.dirs, dir)
	}
	return true
}

// tryWrite makes a file like a media file in a directory, and removes it.
func (rec *Recording) tryWrite(dir string, need int64) error {
	place := rec.store.root()
	if free, err := rec.root.options.free(place); err == nil && free < need {
		return syscall.ENOSPC
	}
	name := path.Join(dir, probeName)
	_ = place.Remove(name) // a leftover
	var f File
	err := rec.root.descriptors.need(func() (err error) {
		f, err = rec.create(name)
		return err
	})
	if err == nil {
		_, err = f.WriteAt(make([]byte, probeSize), 0)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	return errors.Join(err, ignoreMissing(place.Remove(name)))
}
