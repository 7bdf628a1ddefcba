package sink

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"recorder/internal/container"
)

// flush is the flusher. A file that nothing is written to for a moment, as its sender is away, is
// closed meanwhile. All that the file goes on from stays here, so that it becomes the same file.
func (p *part) flush() {
	w := partFile{part: p, size: p.held, synced: max(p.held-resumeReach, 0)}
	w.hash, w.hashing = sha256.New(), p.audio != nil && p.held == 0
	rest := time.NewTimer(p.handle.pool.restAfter)
	defer rest.Stop()
	for closed := false; !closed; {
		select {
		case <-p.wake:
			closed = w.step()
			rest.Reset(p.handle.pool.restAfter)
		case <-rest.C:
			p.handle.rest()
			p.shrink()
		}
	}
	p.done(w.result())
}

// shrink gives back the buffer of a part that nothing is written to.
func (p *part) shrink() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.buf) == 0 {
		spares.put(p.codec, p.buf)
		p.buf = nil
	}
}

// partFile is the flusher's side of a part.
type partFile struct {
	part    *part
	size    int64
	synced  int64 // how much of that the disk has for certain
	taken   bool  // part.taken was called
	hash    hash.Hash
	hashing bool // the hash follows the writes, as no header is patched
	err     error
}

// step writes what is there. It is true when the part is closed.
func (w *partFile) step() (closed bool) {
	p := w.part
	next := spares.get(p.codec)
	p.mu.Lock()
	buf, patch, sync, closing := p.buf, p.patch, p.sync, p.closing
	if w.err == nil {
		w.err = p.gone
	}
	p.buf, p.flying, p.patch, p.sync = next, len(buf), nil, false
	p.mu.Unlock()

	if w.err == nil {
		w.err = w.write(buf)
	}
	spares.put(p.codec, buf) // before the sync, which takes longer
	if w.err == nil && (sync || closing) {
		w.err = w.commit(patch)
	}

	p.mu.Lock()
	p.flying, p.err = 0, cmp.Or(w.err, p.gone)
	more := len(p.buf) >= partWrite
	p.mu.Unlock()
	if more && !closing {
		p.poke()
	}
	return closing
}

// take opens the file if need be. It waits for a descriptor.
func (w *partFile) take() (File, error) { return w.part.handle.await(w.starve) }

// starve says whether the file waits for a descriptor.
func (w *partFile) starve(starved bool) {
	w.part.mu.Lock()
	defer w.part.mu.Unlock()
	w.part.starved = starved
}

// write appends buf to the file.
func (w *partFile) write(buf []byte) error {
	if len(buf) == 0 {
		return nil
	}
	f, err := w.take()
	if err != nil {
		return err
	}
	defer w.part.handle.give()
	if w.cut(f) {
		return errCut
	}
	if _, err := f.WriteAt(buf, w.size); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	w.part.handle.unsynced = true
	if w.hashing {
		w.hash.Write(buf)
	}
	w.size += int64(len(buf))
	return nil
}

// errCut is why a file takes no more. Writing behind its former end would fill it with zeros up to there.
var errCut = errors.New("was cut short by others")

// cut reports whether the file ends before what was written last.
func (w *partFile) cut(f File) bool {
	if w.size == 0 {
		return false
	}
	_, err := f.ReadAt(make([]byte, 1), w.size-1)
	return err == io.EOF
}

// commit has the disk keep what was written.
func (w *partFile) commit(patch *container.Patch) error {
	if patch != nil || w.part.handle.dirty() {
		if err := w.sync(patch); err != nil {
			return err
		}
	}
	if !w.taken {
		w.taken = true
		w.part.taken()
	}
	w.synced = w.size
	return nil
}

// sync is commit's work on the file.
func (w *partFile) sync(patch *container.Patch) error {
	f, err := w.take()
	if err != nil {
		return err
	}
	defer w.part.handle.give()
	if patch != nil {
		if err := patch.Apply(f); err != nil {
			return fmt.Errorf("update header: %w", err)
		}
	}
	return w.part.handle.sync()
}

// result closes the file and says what became of it.
func (w *partFile) result() partResult {
	r, h := partResult{size: w.size, err: w.err}, w.part.handle
	if w.err != nil && !h.made {
		r.kept = new(container.Info)
		return r
	}
	f, err := w.last(&r)
	if err != nil {
		r.err = cmp.Or(r.err, err)
		if errors.Is(err, errGone) {
			r.size, r.kept = 0, new(container.Info)
		}
		_ = h.end() // of what is lost
		return r
	}
	if r.err == nil && w.part.idle {
		if w.part.audio != nil {
			_, r.err = container.Repair(w.part.codec, f) // the end of stream that resuming undid
		}
		r.err = errors.Join(r.err, f.Sync())
	}
	if r.err != nil {
		w.salvage(f, &r)
	} else {
		r.final = true
	}
	if r.final && w.hashing {
		r.sha256 = hex.EncodeToString(w.hash.Sum(nil))
	}
	h.unsynced = false // it was, or cannot be
	h.give()
	if err := h.end(); r.err == nil && err != nil {
		r.err = err
	}
	return r
}

// last opens the file to finish it, unless it is lost. One that was changed, or could not be closed, may be
// saved all the same; r has the error then.
func (w *partFile) last(r *partResult) (File, error) {
	if errors.Is(w.err, errGone) {
		return nil, w.err
	}
	f, err := w.take()
	if err == nil || errors.Is(err, errGone) {
		return f, err
	}
	r.err = cmp.Or(r.err, err)
	return w.take()
}

// salvage makes a correct file of what was written before the error.
func (w *partFile) salvage(f File, r *partResult) {
	repaired, err := container.Repair(w.part.codec, f)
	if errors.Is(err, container.ErrFormat) {
		r.kept = new(container.Info) // not even a header is left
	}
	if err != nil {
		return // the error that matters stands already
	}
	r.size, r.kept, w.hashing = repaired.End, &repaired.Info, false
	// A sync that failed may have the system take for written what is not, and the next one succeed.
	err = errors.Join(rewrite(f, 0, min(partWrite, repaired.End)), rewrite(f, w.synced, repaired.End), f.Sync())
	r.final = err == nil
}

// rewrite writes what is in a file once more.
func rewrite(f File, from, to int64) error {
	for b := make([]byte, partWrite); from < to; from += int64(len(b)) {
		b = b[:min(int64(len(b)), to-from)]
		if _, err := f.ReadAt(b, from); err != nil {
			return fmt.Errorf("read back: %w", err)
		}
		if _, err := f.WriteAt(b, from); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	return nil
}
