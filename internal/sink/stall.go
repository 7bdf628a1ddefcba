package sink

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrStalled is returned by Err and Stalled while the disk does not answer.
var ErrStalled = errors.New("the disk does not answer")

// stallNotice is how long a piece of work on the disk may take before it is said that the disk hangs.
const stallNotice = 5 * time.Second

// diskWork is what is done on the disk. The set is closed: it labels a metric.
type diskWork string

const (
	workBegin    diskWork = "begin"    // making a recording, or reading one that goes on
	workResume   diskWork = "resume"   // reading the files of a stream that goes on
	workManifest diskWork = "manifest" // writing one
	workMedia    diskWork = "media"    // a media file
)

var diskWorks = []diskWork{workBegin, workResume, workManifest, workMedia}

// stalls counts the work that hangs now, by channel.
type stalls struct {
	mu  sync.Mutex
	now map[string]int
}

// set notes whether a watcher's piece of work is over.
func (s *stalls) set(w *watcher, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.over = over
}

// begin counts work that hangs, unless it is over, and reports whether no other of the channel does.
func (s *stalls) begin(w *watcher) (began, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.over || w.hangs {
		return false, false
	}
	w.hangs = true
	s.now[w.channel]++
	return true, s.now[w.channel] == 1
}

// end notes that a piece of work is over, and reports whether it was the last of the channel that hung.
func (s *stalls) end(w *watcher) (last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.over = true
	if !w.hangs {
		return false
	}
	w.hangs = false
	if s.now[w.channel]--; s.now[w.channel] > 0 {
		return false
	}
	delete(s.now, w.channel)
	return true
}

// sum is how much work of all channels hangs.
func (s *stalls) sum() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range s.now {
		n += of
	}
	return n
}

// watcher tells when one piece of work after the other on the disk, of one kind, takes long.
type watcher struct {
	root    *Root
	channel string
	work    diskWork
	begun   time.Time
	timer   *time.Timer
	hangs   bool // it was said that this piece does; guarded by stalls.mu
	over    bool // the piece is
}

func (r *Root) watcher(channel string, work diskWork) *watcher {
	w := &watcher{root: r, channel: channel, work: work}
	w.timer = time.AfterFunc(stallNotice, w.late)
	w.timer.Stop()
	return w
}

// begin is called before the work, and end after it.
func (w *watcher) begin() {
	w.begun = time.Now()
	w.root.stalls.set(w, false)
	w.timer.Reset(stallNotice)
}

func (w *watcher) end() {
	w.timer.Stop()
	if w.root.stalls.end(w) {
		w.root.options.Logger.Info("the disk answers again", "channel", w.channel, "after", time.Since(w.begun).Round(time.Millisecond))
	}
}

// late counts work that takes long, has the root say that the disk does not answer, and logs the first.
func (w *watcher) late() {
	began, first := w.root.stalls.begin(w)
	if !began {
		return // it has just ended
	}
	w.root.metrics.stalled(w.work)
	if first {
		w.root.options.Logger.Warn("the disk does not answer", "channel", w.channel, "work", string(w.work), "after", stallNotice)
	}
}

// watch watches one piece of work. What it returns is called after it.
func (r *Root) watch(channel string, work diskWork) (done func()) {
	w := r.watcher(channel, work)
	w.begin()
	return w.end
}

// watch is Root.watch for the recording's channel.
func (rec *Recording) watch(work diskWork) (done func()) {
	return rec.root.watch(rec.manifest.Channel, work)
}

// Stalled is ErrStalled while work on the disk for a channel hangs, and nil otherwise.
func (r *Root) Stalled(channel string) error {
	r.stalls.mu.Lock()
	defer r.stalls.mu.Unlock()
	if r.stalls.now[channel] == 0 {
		return nil
	}
	return ErrStalled
}

// Err is why what is sent to this recorder may not be recorded, nil when it would be: too little space
// for another recording, or a disk that hangs.
func (r *Root) Err() error {
	if n := r.stalls.sum(); n > 0 {
		return fmt.Errorf("%w: %d calls take longer than %v", ErrStalled, n, stallNotice)
	}
	return r.spaceErr()
}
