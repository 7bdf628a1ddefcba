// Package sink turns the RTP packets of a call into files: Opus in Ogg, VP8, VP9 and AV1 in IVF,
// H.264 in Matroska, and a manifest that accounts for every second of them.
//
// A Recording is one stay in one channel. It holds Streams, which hold Tracks. A Track is fed by
// Sources, one for each connection it comes over; when a connection is replaced its successor takes
// over as soon as it delivers, and the files go on.
//
//	Source.WriteRTP → inbox → jitter buffer → clock → depacketizer → part → disk
//	 (any goroutine)  └─────────── pump, every 20 ms ───────────┘   └ flusher ┘
//
// The goroutine that delivers packets only copies them. One pump for each Recording does everything
// else that touches no disk, and one flusher for each open file does what does.
package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Options configures a Root.
type Options struct {
	// Dir is where recordings go. It is made if it does not exist.
	Dir string
	// Logger takes what is worth a person's attention. Default: slog.Default.
	Logger *slog.Logger
	// Registerer takes the recorder_sink_… metrics. Default: none.
	Registerer prometheus.Registerer
	// SyncInterval is how much a power cut may cost: files are synced this often, and written at least
	// every second. Default 1 s.
	SyncInterval time.Duration
	// ReorderWindow is how long a missing packet holds back those behind it, and so how long its
	// retransmission is of use. Default 2 s.
	ReorderWindow time.Duration
	// MinFree is how many bytes must be free on the disk for a new recording to begin. Below half of
	// that no pictures are recorded, and below a quarter all files are finished and nothing is
	// recorded; with more space both go on. 0: never mind.
	MinFree int64

	free        func(*os.Root) (int64, error)             // bytes on the disk; default freeSpace
	closeWait   time.Duration                             // default closeWait
	clocks      func() (wall time.Time, at time.Duration) // the wall clock and one that no one sets; default the system's
	descriptors int                                       // media files that may be open; default half of what the process may have
}

// Root is the directory all recordings live in.
type Root struct {
	options Options
	at      atomic.Pointer[os.Root]
	metrics *metrics
	level   atomic.Int32          // a pressure
	life    context.Context       // until Close
	stop    context.CancelFunc    // ends it
	lost    atomic.Pointer[error] // why there is no recordings directory, nil if there is
	working sync.WaitGroup        // what goes on in the background
	hashing turn                  // of those who read a file for its hash

	channels    *keyed // of those who make, open or remove directories of a channel
	stalls      stalls
	descriptors *descriptors // of media files

	finished map[string]kept // recordings, by directory; owned by Retain
	clock    wallWatch       // owned by Retain

	mu          sync.Mutex      // held for moments only, and never while the disk is waited for
	looking     bool            // Recover has yet to find what may be continued
	interrupted []interrupted   // what it found, until continued
	warned      map[string]bool // of directories that could not be read
}

// dir is the directory all recordings live in, as it was last opened.
func (r *Root) dir() *os.Root { return r.at.Load() }

// ErrClosed is returned by what was closed before.
var ErrClosed = errors.New("recording closed")

// Open prepares the recordings directory. It fails when nothing can be created in it. What a crash
// left there is Recover's affair.
func Open(o Options) (*Root, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.SyncInterval <= 0 {
		o.SyncInterval = time.Second
	}
	if o.ReorderWindow <= 0 {
		o.ReorderWindow = 2 * time.Second
	}
	if o.free == nil {
		o.free = freeSpace
	}
	if o.closeWait <= 0 {
		o.closeWait = closeWait
	}
	if o.clocks == nil {
		begun := time.Now()
		o.clocks = func() (time.Time, time.Duration) { return time.Now().Round(0), time.Since(begun) }
	}
	dir, err := openRoot(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("recordings directory %q: %w", o.Dir, err)
	}
	files := newDescriptors(o.descriptors, o.Logger)
	m, err := newMetrics(o.Registerer, files)
	if err != nil {
		dir.Close()
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	r := &Root{options: o, metrics: m, hashing: newTurn(), channels: newKeyed(), descriptors: files, warned: make(map[string]bool)}
	r.at.Store(dir)
	r.stalls.now = make(map[string]int)
	m.hanging = r.stalls.sum
	if !hasLocks(dir) {
		o.Logger.Warn("the file system has no file locks: lock files mark what is being recorded, and must not be removed", "dir", o.Dir)
	}
	r.life, r.stop = context.WithCancel(context.Background())
	if o.MinFree > 0 {
		r.checkSpace()
		r.working.Go(func() { r.watchSpace(r.life) })
	}
	r.working.Go(func() { r.lookAround(r.life) })
	return r, nil
}

// unreadable warns of a directory that cannot be read, once until it can: it is come across again each minute.
func (r *Root) unreadable(dir string, err error) {
	r.mu.Lock()
	known := r.warned[dir]
	r.warned[dir] = true
	r.mu.Unlock()
	if known {
		return
	}
	r.options.Logger.Warn("could not read a directory: recordings in it are neither recovered nor removed", "dir", dir, "err", err)
}

// readable notes that every directory could be read but these.
func (r *Root) readable(but map[string]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.warned, func(dir string, _ bool) bool { return !but[dir] })
}

// closeWait is for how long Close waits for what goes on in the background, which ends at once unless the
// disk hangs.
const closeWait = 100 * time.Millisecond

// Close releases the directory. Recordings are closed first. Nothing goes on afterwards that does not
// wait for a disk that hangs.
func (r *Root) Close() error {
	r.stop()
	r.metrics.close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.working.Wait()
	}()
	select {
	case <-ended:
	case <-time.After(r.options.closeWait):
	}
	r.mu.Lock() // the directory is not taken for another any more, see reopen
	dir := r.dir()
	r.mu.Unlock()
	return dir.Close()
}
