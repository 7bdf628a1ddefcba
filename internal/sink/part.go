package sink

import (
	"io"
	"io/fs"
	"sync"
	"time"

	"recorder/internal/container"
)

// part is one media file being written. The pump lays out bytes into a buffer and never waits; the
// flusher, a goroutine of the part's own, opens the file, writes, syncs and closes it.
type part struct {
	codec  container.Codec
	handle *handle          // the flusher's, which may wait long for it
	taken  func()           // by the flusher, when the disk has something of it for the first time
	done   func(partResult) // by the flusher, last

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
	starved bool  // the flusher waits for a file descriptor
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
	Stat() (fs.FileInfo, error)
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
func startPart(c container.Codec, audio *container.Ogg, video container.Video, h *handle, taken func(), done func(partResult)) *part {
	p := &part{codec: c, audio: audio, video: video, handle: h, taken: taken, done: done, wake: make(chan struct{}, 1)}
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
func resumePart(c container.Codec, f *resumedFile, taken func(), done func(partResult)) *part {
	p := &part{codec: c, audio: f.audio, video: f.video, handle: f.handle, taken: taken, done: done, wake: make(chan struct{}, 1), idle: true}
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

// abandoned is why what is written to the file is lost, nil if it is not.
func (p *part) abandoned() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone
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
