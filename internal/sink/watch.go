package sink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// An open file or directory can be written to after others have deleted or moved it. So every watchInterval the recorder
// looks whether all that it writes to is still found under its name. This happens on a goroutine of its own: a file system
// that hangs holds up nothing else.

const watchInterval = 3 * time.Second

// errGone is why what was written is lost.
var errGone = errors.New("was deleted or replaced by others")

// What recorder_sink_deletions_total counts.
const (
	whatRoot      = "root"
	whatRecording = "recording"
	whatManifest  = "manifest"
	whatFile      = "file"
)

// lookAround looks until ctx ends.
func (r *Root) lookAround(ctx context.Context) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		r.lookForRoot()
		for _, rec := range r.metrics.live() {
			rec.look()
		}
	}
}

// lookForRoot opens the recordings directory again by its name, should that name another one than is open.
func (r *Root) lookForRoot() {
	err := r.reopen()
	if r.life.Err() != nil {
		return
	}
	was := r.lost.Load()
	switch {
	case err == nil:
		r.lost.Store(nil)
	case was == nil:
		r.metrics.deleted.WithLabelValues(whatRoot).Inc()
		r.options.Logger.Error("recordings directory is gone, and nothing new is recorded", "dir", r.options.Dir, "err", err)
		fallthrough
	default:
		r.lost.Store(&err)
	}
}

// reopen does the work of lookForRoot.
func (r *Root) reopen() error {
	is, err := r.dir().Stat(".")
	if err != nil {
		return nil // closed, or a disk that fails: every write says so
	}
	if named, err := os.Stat(r.options.Dir); err == nil && os.SameFile(is, named) || unsure(err) {
		return nil
	}
	dir, err := openRoot(r.options.Dir)
	if err != nil {
		return fmt.Errorf("%w, and cannot be made again: %w", errGone, err)
	}
	named, err := dir.Stat(".")
	if err != nil || os.SameFile(is, named) {
		return dir.Close()
	}
	r.mu.Lock()
	if r.life.Err() != nil {
		r.mu.Unlock()
		return dir.Close()
	}
	r.interrupted = nil // they were in the other
	was := r.at.Swap(dir)
	r.mu.Unlock()
	if r.lost.Load() == nil {
		r.metrics.deleted.WithLabelValues(whatRoot).Inc()
		r.options.Logger.Error("recordings directory was deleted or replaced, and is used as it is now", "dir", r.options.Dir)
	} else {
		r.options.Logger.Info("recordings directory is there again", "dir", r.options.Dir)
	}
	return was.Close()
}

// mediaFile is a file that the recording has made, or goes on with.
type mediaFile struct {
	track *Track
	part  *part         // nil once it is finished
	is    os.FileInfo   // nil until it is made
	from  time.Duration // where its media begins on the stream's clock
	sent  *int64        // frames in it that are no stand-ins
	lost  bool          // it is not what its name names
}

// made notes which file it is that a part is written to, whether it stays open or not.
func (rec *Recording) made(m *ManifestPart, f File) {
	is, err := f.Stat()
	if err != nil {
		return // the disk fails, and the next write says so
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if entry, ok := rec.files[m]; ok { // not of one that is only read, to go on with
		entry.is = is
		rec.files[m] = entry
	}
}

// look finds out what others have done to the recording's directory and its files, says so, and makes anew what can be.
func (rec *Recording) look() {
	rec.looking.Lock()
	defer rec.looking.Unlock()
	if rec.ended() {
		return
	}
	at := rec.store.at.Load()
	switch rec.found(at) {
	case placeMoved:
		rec.moveAway()
	case placeGone:
		rec.begone()
		rec.settleAnew()
		return
	case placeHere:
		rec.atHome()
	}
	rec.lookForManifest(at)
	rec.lookForFiles(at)
}

// atHome notes that the directory is where it was made.
func (rec *Recording) atHome() {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if rec.homeless != nil {
		rec.homeless = nil
		rec.changed()
	}
}

// placeState is what has become of a recording's directory.
type placeState int

const (
	placeHere  placeState = iota // or nobody knows
	placeMoved                   // it has no name, or another, and can be written to
	placeGone
)

// found finds out what has become of a recording's directory.
func (rec *Recording) found(at *place) placeState {
	is, err := at.dir.Stat(".")
	if errors.Is(err, os.ErrClosed) {
		return placeHere
	}
	nameless := true // nothing is under the name
	if rec.root.lost.Load() == nil {
		named, nameErr := lookUp(rec.root.dir(), at.name)
		nameless = absent(nameErr)
		if unsure(nameErr) || nameErr == nil && (err != nil || os.SameFile(is, named)) {
			return placeHere
		}
	}
	f, err := at.dir.OpenFile(probeName, os.O_WRONLY|os.O_CREATE, filePerm)
	if err != nil {
		if absent(err) || nameless && errors.Is(err, syscall.EIO) { // as some file systems say it
			return placeGone
		}
		return placeHere
	}
	f.Close()
	_ = at.dir.Remove(probeName)
	return placeMoved
}

// moveAway notes that the directory was moved, or hidden by another: it is finished where it is now.
func (rec *Recording) moveAway() {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if rec.moved {
		return
	}
	rec.moved = true
	rec.root.metrics.deleted.WithLabelValues(whatRecording).Inc()
	rec.log.Error("directory of the recording was moved away or hidden; it is finished there, and another one begins", "dir", rec.Dir())
}

// begone notes that the directory was deleted, and with it all that was written.
func (rec *Recording) begone() {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if rec.homeless != nil {
		return
	}
	rec.homeless = errGone
	rec.root.metrics.deleted.WithLabelValues(whatRecording).Inc()
	rec.log.Error("directory of the recording was deleted; what it held is lost, and counts as missing", "dir", rec.Dir(), "reason", ReasonDisk)
	rec.loseAll()
}

// lookForManifest has the manifest written again if it is not there any more.
func (rec *Recording) lookForManifest(at *place) {
	rec.saving.Lock()
	size := rec.store.saved
	is, err := at.dir.Lstat(ManifestName)
	missed := size > 0 && !unsure(err) && (err != nil || !is.Mode().IsRegular() || is.Size() != size)
	if missed {
		rec.store.saved = 0 // which is said once
	}
	rec.saving.Unlock()
	if !missed {
		return
	}
	rec.root.metrics.deleted.WithLabelValues(whatManifest).Inc()
	rec.log.Error("manifest was deleted or replaced, and is written again", "dir", at.name)
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.changed()
}

// lookForFiles finds out which files are not there any more.
func (rec *Recording) lookForFiles(at *place) {
	for m, f := range rec.filesNow() {
		is, err := at.dir.Lstat(f.name)
		switch {
		case unsure(err):
		case err == nil && f.growing && os.SameFile(is, f.is):
		case err == nil && f.growing && f.restsAs(is):
		case err == nil && !f.growing && is.Mode().IsRegular() && is.Size() == f.size:
		default:
			rec.missFile(m, f, is)
		}
	}
}

// namedFile is a file of a recording as it should be.
type namedFile struct {
	name    string
	is      os.FileInfo
	growing bool  // it has a part, which may have closed it meanwhile
	part    *part // that
	size    int64 // of one that has none
}

// restsAs reports whether the file is closed at present, and is what it was then.
func (f *namedFile) restsAs(is os.FileInfo) bool {
	was := f.part.handle.closedAs()
	return was != nil && sameMedia(was, is)
}

// mostFinal is how many files that are final are looked at each time, chosen by chance: a long recording has thousands.
const mostFinal = 256

// filesNow is the files that the recording has now, of those that are final no more than mostFinal.
func (rec *Recording) filesNow() map[*ManifestPart]namedFile {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	files, final := make(map[*ManifestPart]namedFile), 0
	for m, f := range rec.files { // in another order each time
		if f.part == nil {
			if final++; final > mostFinal {
				continue
			}
		}
		if f.is != nil && !f.lost && (f.part != nil || m.Final) {
			files[m] = namedFile{m.File, f.is, f.part != nil, f.part, m.Size}
		}
	}
	return files
}

// missFile notes that a file is not there any more, unless it has changed since it was looked for.
// is is what was found in its place, nil for nothing.
func (rec *Recording) missFile(m *ManifestPart, was namedFile, is os.FileInfo) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	f := rec.files[m]
	if f.lost || (f.part != nil) != was.growing || is != nil && was.growing && os.SameFile(is, f.is) {
		return
	}
	rec.miss(m, errGone)
}

// miss says, once, that a file is lost, and how that was found: by its name, or when it was opened again. mu is held.
func (rec *Recording) miss(m *ManifestPart, err error) {
	rec.root.metrics.deleted.WithLabelValues(whatFile).Inc()
	rec.complain("media file was deleted or replaced; what it held is lost, and counts as missing", "file", m.File, "reason", ReasonDisk, "err", err)
	rec.lose(m)
}

// settleAnew makes another directory for a recording whose own was deleted. What is recorded from now on goes there, with a
// manifest that tells of all that was lost.
func (rec *Recording) settleAnew() {
	rec.saving.Lock()
	err := rec.moveIn()
	rec.saving.Unlock()
	rec.mu.Lock()
	defer rec.mu.Unlock()
	said := rec.homeless != errGone
	rec.homeless = err
	switch {
	case err == nil:
		rec.changed()
		rec.log.Info("recording goes on in a new directory", "dir", rec.Dir())
	case !said:
		rec.log.Error("no other directory can be made for the recording; nothing is recorded until one can", "err", err)
	}
}

// moveIn does that but for the manifest. saving is held.
func (rec *Recording) moveIn() error {
	r := rec.root
	if lost := r.lost.Load(); lost != nil {
		return *lost
	}
	rec.mu.Lock()
	m := Manifest{ID: rec.manifest.ID, Channel: rec.manifest.Channel, Started: rec.manifest.Started}
	rec.mu.Unlock()
	st, err := r.newStore(&m)
	if errors.Is(err, fs.ErrExist) {
		m.ID = newID()
		st, err = r.newStore(&m)
	}
	if err != nil {
		return err
	}
	old := rec.store.at.Swap(st.at.Load())
	_ = old.close() // of what nobody can find
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.manifest.ID, rec.stored, rec.store.saved = m.ID, 0, 0
	return nil
}

// Err is why nothing of the recording can be written to the disk at present, nil when it can.
func (rec *Recording) Err() error {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.homeless
}
