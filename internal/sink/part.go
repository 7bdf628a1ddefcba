package sink

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"time"

	"recorder/internal/container"
)

// part is one media file being written. The pump lays out bytes into a buffer and never waits; the
// flusher, a goroutine of the part's own, opens the file, writes, syncs and closes it.
type part struct {
	codec container.Codec
	open  func() (File, error) // by the flusher, which may wait long
	taken func()               // by the flusher, when the disk has something of it for the first time
	done  func(partResult)     // by the flusher, last

	// Owned by the pump.
	audio  *container.Ogg
	video  container.Video
	sealed time.Duration // when bytes were last handed over
	fresh  bool          // something came since
	synced time.Duration // when they were for a sync
	dirty  bool          // something came since
	held   int64         // bytes that a resumed file had; 0 for a new one

	mu      sync.Mutex
	buf     []byte           // laid out, not taken by the flusher
	flying  int              // bytes the flusher is writing
	patch   *container.Patch // of the header, behind what is in buf; nil if it stays
	sync    bool             // the flusher is to sync
	closing bool
	idle    bool  // resumed, and nothing came since
	err     error // the flusher gave up
	gone    error // so it is to, as the file is not where it was made

	wake chan struct{}
}

// File is an open media file. [os.File] is one.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	Truncate(size int64) error
}

// partResult is what is known of a file once it is closed.
type partResult struct {
	size   int64
	final  bool   // the file is whole, and on the disk
	sha256 string // empty when it takes reading the file again
	err    error
	kept   *container.Info // what is left of a file that an error ended, when that is known
}

const (
	// partWrite is how much is written at once when writeInterval brings more: a second of 2 Mbit/s.
	partWrite = 256 << 10
	// writeInterval is how much the death of the process may cost. What the system has outlives it.
	writeInterval = time.Second
	// partQueue bounds what waits for a disk that has stalled: 16 s of 4 Mbit/s.
	partQueue = 8 << 20
	// resumeReach is how far from its end resuming may have changed a file, which no sync has seen:
	// an Ogg page.
	resumeReach = 64 << 10
)

// startPart begins a file. Exactly one of audio and video is set.
func startPart(c container.Codec, audio *container.Ogg, video container.Video, open func() (File, error), taken func(), done func(partResult)) *part {
	p := &part{codec: c, audio: audio, video: video, open: open, taken: taken, done: done, wake: make(chan struct{}, 1)}
	if audio != nil {
		p.buf = audio.AppendHeader(p.buf)
	} else {
		p.buf = video.AppendHeader(p.buf)
	}
	p.fresh, p.dirty = true, true
	go p.flush()
	return p
}

// resumePart goes on with a file behind what it holds.
func resumePart(c container.Codec, f *resumedFile, file File, taken func(), done func(partResult)) *part {
	p := &part{codec: c, audio: f.audio, video: f.video, taken: taken, done: done, wake: make(chan struct{}, 1), idle: true}
	p.open = func() (File, error) { return file, nil }
	p.held = f.info.End
	go p.flush()
	return p
}

// full reports whether n more bytes are more than may wait.
func (p *part) full(n int) bool { return p.flying+len(p.buf)+n > partQueue }

// hasRoom reports whether a packet or picture of n bytes would be taken now.
func (p *part) hasRoom(n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err == nil && !p.full(n)
}

// writeAudio appends an Opus packet. It is false when the file takes no more at present, or never.
// A fill is taken in any case: no more than fillStep comes between two ticks, or fillMost at an end.
func (p *part) writeAudio(packet []byte, samples int, filling bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil || !filling && p.full(len(packet)) {
		return false
	}
	p.buf = p.audio.AppendPacket(p.buf, packet, samples)
	p.wrote()
	return true
}

// writeVideo appends a frame, with the same result.
func (p *part) writeVideo(pts int64, key bool, frame []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil || p.full(len(frame)) {
		return false
	}
	p.buf = p.video.AppendFrame(p.buf, pts, key, frame)
	p.wrote()
	return true
}

func (p *part) wrote() {
	p.fresh, p.dirty, p.idle = true, true, false
	if len(p.buf) >= partWrite && p.flying == 0 {
		p.poke()
	}
}

func (p *part) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// seal hands everything so far to the flusher, to be written soon, and synced if so asked.
func (p *part) seal(now time.Duration, sync bool) {
	if !p.fresh && !(sync && p.dirty) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.audio != nil && p.fresh && p.err == nil {
		p.buf = p.audio.AppendPage(p.buf)
	}
	p.fresh, p.sealed = false, now
	if sync {
		p.sync, p.dirty, p.synced = true, false, now
	}
	p.poke()
}

// failed is the error that ended the file early.
func (p *part) failed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// abandon says that what is written to the file is lost, and why.
func (p *part) abandon(gone error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone == nil {
		p.gone = gone
		if p.err == nil {
			p.err = gone
		}
		p.poke()
	}
}

// close lets the flusher finish the file. Nothing may be written any more.
func (p *part) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.idle || p.err != nil || p.closing:
	case p.audio != nil:
		p.buf = p.audio.AppendEOS(p.buf)
	default:
		p.patchHeader()
	}
	p.closing = true
	p.poke()
}

// patchHeader has the flusher make the header true of all frames so far.
func (p *part) patchHeader() {
	patch := p.video.Patch()
	p.patch = &patch
}

// flush is the flusher.
func (p *part) flush() {
	w := partFile{part: p, size: p.held, synced: max(p.held-resumeReach, 0)}
	w.hash, w.hashing = sha256.New(), p.audio != nil && p.held == 0
	for range p.wake {
		if w.step() {
			break
		}
	}
	p.done(w.result())
}

// partFile is the flusher's side of a part.
type partFile struct {
	part    *part
	file    File
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
	p.flying, p.err = 0, w.err
	more := len(p.buf) >= partWrite
	p.mu.Unlock()
	if more && !closing {
		p.poke()
	}
	return closing
}

// write appends buf to the file.
func (w *partFile) write(buf []byte) error {
	if w.file == nil {
		f, err := w.part.open()
		if err != nil {
			return err
		}
		w.file = f
	}
	if len(buf) == 0 {
		return nil
	}
	if w.cut() {
		return errCut
	}
	if _, err := w.file.WriteAt(buf, w.size); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if w.hashing {
		w.hash.Write(buf)
	}
	w.size += int64(len(buf))
	return nil
}

// errCut is why a file takes no more. Writing behind its former end would fill it with zeros up to there.
var errCut = errors.New("was cut short by others")

// cut reports whether the file ends before what was written last.
func (w *partFile) cut() bool {
	if w.size == 0 {
		return false
	}
	_, err := w.file.ReadAt(make([]byte, 1), w.size-1)
	return err == io.EOF
}

// commit has the disk keep what was written.
func (w *partFile) commit(patch *container.Patch) error {
	if patch != nil {
		if err := patch.Apply(w.file); err != nil {
			return fmt.Errorf("update header: %w", err)
		}
	}
	if err := w.file.Sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	if !w.taken {
		w.taken = true
		w.part.taken()
	}
	w.synced = w.size
	return nil
}

// result closes the file and says what became of it.
func (w *partFile) result() partResult {
	r := partResult{size: w.size, err: w.err}
	if w.file == nil {
		r.kept = new(container.Info)
		return r
	}
	if r.err == nil && w.part.idle {
		if w.part.audio != nil {
			_, r.err = container.Repair(w.part.codec, w.file) // the end of stream that resuming undid
		}
		r.err = errors.Join(r.err, w.file.Sync())
	}
	if errors.Is(r.err, errGone) {
		r.size, r.kept = 0, new(container.Info)
	} else if r.err != nil {
		w.salvage(&r)
	} else {
		r.final = true
	}
	if r.final && w.hashing {
		r.sha256 = hex.EncodeToString(w.hash.Sum(nil))
	}
	if err := w.file.Close(); r.err == nil && err != nil {
		r.err = fmt.Errorf("close: %w", err)
	}
	return r
}

// salvage makes a correct file of what was written before the error.
func (w *partFile) salvage(r *partResult) {
	repaired, err := container.Repair(w.part.codec, w.file)
	if errors.Is(err, container.ErrFormat) {
		r.kept = new(container.Info) // not even a header is left
	}
	if err != nil {
		return // the error that matters stands already
	}
	r.size, r.kept, w.hashing = repaired.End, &repaired.Info, false
	// A sync that failed may have the system take for written what is not, and the next one succeed.
	err = errors.Join(w.rewrite(0, min(partWrite, repaired.End)), w.rewrite(w.synced, repaired.End), w.file.Sync())
	r.final = err == nil
}

// rewrite writes what is in the file once more.
func (w *partFile) rewrite(from, to int64) error {
	for b := make([]byte, partWrite); from < to; from += int64(len(b)) {
		b = b[:min(int64(len(b)), to-from)]
		if _, err := w.file.ReadAt(b, from); err != nil {
			return fmt.Errorf("read back: %w", err)
		}
		if _, err := w.file.WriteAt(b, from); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	return nil
}
