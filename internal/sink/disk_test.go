package sink

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"recorder/internal/container"
)

// disk is a file system that can be told to stall or to fail.
type disk struct {
	mu    sync.Mutex
	stall chan struct{} // writes wait until it is closed
	slow  time.Duration // what each write takes
	fail  error         // of writes
	syncs int
}

func (d *disk) wrap(create func(string) (File, error)) func(string) (File, error) {
	return func(name string) (File, error) {
		if err := d.wait(); err != nil {
			return nil, err
		}
		f, err := create(name)
		return diskFile{f, d}, err
	}
}

func (d *disk) wait() error {
	d.mu.Lock()
	stall, slow, fail := d.stall, d.slow, d.fail
	d.mu.Unlock()
	if stall != nil {
		<-stall
	}
	time.Sleep(slow)
	return fail
}

func (d *disk) set(stall chan struct{}, fail error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stall, d.fail = stall, fail
}

func (d *disk) synced() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.syncs
}

type diskFile struct {
	File
	disk *disk
}

func (f diskFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.disk.wait(); err != nil && len(b) > 100 {
		n, _ := f.File.WriteAt(b[:len(b)/2], off) // a full disk takes a part, and changes in place
		return n, err
	}
	return f.File.WriteAt(b, off)
}

func (f diskFile) Sync() error {
	f.disk.mu.Lock()
	f.disk.syncs++
	f.disk.mu.Unlock()
	return f.File.Sync()
}

// A disk that stalls stops no one: the pump goes on, other files are written, and once the disk is
// back nothing short of the queue's bound is missing.
func TestStalledDiskStopsNoOne(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		d := new(disk)
		create := c.rec.create
		c.rec.create = func(name string) (File, error) {
			if filepath.Ext(name) == ".ivf" {
				return d.wrap(create)(name)
			}
			return create(name)
		}
		a, v := c.audio(), c.video()
		for range 50 {
			c.step(a, v, true)
		}
		stall := make(chan struct{})
		d.set(stall, nil)
		for range 125 { // 5 s
			c.step(a, v, true)
		}
		synctest.Wait() // every flusher but the stalled one is idle
		if part := c.stream.tracks[0].manifest.Parts[0]; c.stream.tracks[0].kind == audio {
			info, err := os.Stat(filepath.Join(c.root.options.Dir, c.rec.Dir(), part.File))
			if err != nil || info.Size() < 2000 {
				t.Errorf("the other file does not grow: %v", err)
			}
		}
		d.set(nil, nil)
		close(stall)
		for range 50 {
			c.step(a, v, true)
		}
		a.Close()
		v.Close()
		c.wait(time.Second)
	})
	frames, _ := pictures(t, r.of(video).file)
	if len(frames) != 225 || len(r.of(video).track.Gaps) != 0 {
		t.Errorf("%d pictures of 225, gaps %s", len(frames), r.of(video).gaps())
	}
}

// A disk that takes 5 s for each write takes all there is in the end, from a queue that does not
// grow. Files on another one are not held up, and neither is the call.
func TestASlowDiskTakesAll(t *testing.T) {
	const length = 2 * time.Minute
	r := inCall(t, Options{}, func(c *call) {
		d := &disk{slow: 5 * time.Second}
		create := c.rec.create
		c.rec.create = func(name string) (File, error) {
			if strings.HasPrefix(name, "alice/") {
				return d.wrap(create)(name)
			}
			return create(name)
		}
		a, v := c.audio(), c.video()
		slow := c.stream
		c.open("bob")
		other := c.audio()
		begun := time.Now()
		for range length / (40 * ms) {
			for range 2 {
				other.put(tone(other.seq))
				other.rtp += 960
			}
			c.step(a, v, true)
			for _, t := range slow.tracks {
				if n := t.writer.unwritten(); n > partQueue/2 {
					c.Errorf("%d bytes of %s wait after %v", n, t.kind, time.Since(begun))
				}
			}
		}
		if took := time.Since(begun); took != length {
			c.Errorf("%v of call took %v", length, took)
		}
		synctest.Wait()
		if n := c.stream.tracks[0].writer.unwritten(); n > 1000 {
			c.Errorf("%d bytes of the other stream wait", n)
		}
		a.Close()
		v.Close()
		other.Close()
		c.wait(time.Second)
	})
	for _, s := range r.manifest.Streams {
		for _, track := range s.Tracks {
			if len(track.Gaps) > 0 || track.Completeness < 1 || track.Ledger.FramesDropped > 0 || !near(track.End.Duration(), length, 100*ms) {
				t.Errorf("%s of %s: completeness %v up to %v, %d gaps", track.Kind, s.PeerID, track.Completeness, track.End.Duration(), len(track.Gaps))
			}
		}
	}
}

// A disk that takes nothing ends every file that is tried on it, and no more: all of it is counted,
// and told once.
func TestWriteErrorsAreCountedAndToldOnce(t *testing.T) {
	const length, members = time.Minute, 20
	var log bytes.Buffer
	r := inCall(t, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, func(c *call) {
		d := new(disk)
		c.rec.create = d.wrap(c.rec.create)
		var legs []*leg
		for i := range members {
			c.open(strconv.Itoa(i))
			legs = append(legs, c.audio())
		}
		say := func(length time.Duration) {
			for range length / (20 * ms) {
				for _, l := range legs {
					l.put(tone(l.seq))
					l.rtp += 960
				}
				c.wait(20 * ms)
			}
		}
		say(5 * time.Second)
		d.set(nil, syscall.EIO)
		say(length)
		for _, l := range legs {
			l.Close()
		}
		c.wait(time.Second)
	})
	if strings.Contains(log.String(), "written again") {
		t.Error("said to be over")
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
		t.Errorf("told %d times in %v", n, length)
	}
	for _, s := range r.manifest.Streams {
		if len(s.Tracks) == 0 {
			continue
		}
		track := s.Tracks[0]
		if p := track.Parts[0]; p.Error == "" || len(track.Gaps) != 1 || track.Gaps[0].Reason != ReasonDisk || !near(track.Recorded.Duration(), 5*time.Second, 1100*ms) {
			t.Errorf("of %s %v are recorded, %q", s.PeerID, track.Recorded.Duration(), p.Error)
		}
		if n := track.Ledger.FramesDropped; n < uint64(length/(20*ms)) || n > uint64((length+2*time.Second)/(20*ms)) {
			t.Errorf("of %s %d packets are dropped", s.PeerID, n)
		}
	}
}

// Whatever the disk fails to do for a file is counted, though the file is mended afterwards.
func TestFailedOpensWritesAndSyncsAreCounted(t *testing.T) {
	for _, what := range []string{"open", "write", "sync"} {
		t.Run(what, func(t *testing.T) {
			registry := prometheus.NewPedanticRegistry()
			inCall(t, Options{Registerer: registry}, func(c *call) {
				d, create := new(disk), c.rec.create
				c.rec.create = d.wrap(create)
				if what == "sync" {
					c.rec.create = func(name string) (File, error) {
						f, err := create(name)
						return &forgetful{File: f, disk: d, dirty: make(map[int64][]byte)}, err
					}
				}
				failed := func() float64 { return gathered(t, registry, "recorder_sink_write_errors_total")[""] }
				a := c.audio()
				if what != "open" {
					a.speak(100)
				}
				if n := failed(); n != 0 {
					t.Errorf("%v failures of a disk that is well", n)
				}
				d.set(nil, syscall.EIO)
				for range 100 {
					a.speak(1)
					synctest.Wait()
					if failed() > 0 {
						break
					}
				}
				d.set(nil, nil)
				a.speak(500)
				if n := failed(); n != 1 {
					t.Errorf("%v failures are counted, want 1", n)
				}
			})
		})
	}
}

// What does not fit into the queue is a gap with its reason, and ends at a key frame.
func TestQueueIsBounded(t *testing.T) {
	big := slices.Concat(testPicture(true), make([]byte, 60_000)) // a decoder ignores what follows the partitions
	r := inCall(t, Options{}, func(c *call) {
		d := new(disk)
		c.rec.create = d.wrap(c.rec.create)
		v := c.video()
		send := func(n int, key bool) {
			for i := range n {
				if key || i == 0 {
					v.put(vp8Payload([]byte{0x10}, big...))
				} else {
					v.put(vp8Payload([]byte{0x10}, testPicture(false)...))
				}
				v.rtp += 3600
				v.wait(40 * ms)
			}
		}
		send(25, true)
		stall := make(chan struct{})
		d.set(stall, nil)
		send(250, true) // 15 MB
		if w := c.stream.tracks[0].writer.(*videoWriter); len(w.part.buf)+w.part.flying > partQueue {
			t.Errorf("%d bytes in the queue", len(w.part.buf)+w.part.flying)
		}
		d.set(nil, nil)
		close(stall)
		send(50, false)
		c.wait(time.Second)
		v.Close()
	})
	if len(r.track.Gaps) != 1 || r.track.Gaps[0].Reason != ReasonDisk || r.track.Gaps[0].Duration.Duration() < 3*time.Second {
		t.Errorf("gaps %s", r.gaps())
	}
	if r.track.Completeness > 0.8 || r.track.Completeness < 0.4 {
		t.Errorf("completeness %v", r.track.Completeness)
	}
	decode(t, r.file)
}

// A write error ends its file, which keeps what it held, and nothing else. Later another file is
// begun.
func TestWriteErrorEndsItsFile(t *testing.T) {
	for _, kind := range []string{audio, video} {
		t.Run(kind, func(t *testing.T) {
			r := inCall(t, Options{}, func(c *call) {
				d := new(disk)
				c.rec.create = d.wrap(c.rec.create)
				var a, v *leg
				if kind == audio {
					a = c.audio()
				} else {
					v = c.video()
				}
				for range 75 {
					c.step(a, v, true)
				}
				d.set(nil, &fs.PathError{Op: "write", Path: "file", Err: syscall.ENOSPC})
				for range 50 {
					c.step(a, v, true)
				}
				d.set(nil, nil)
				for range 250 {
					c.step(a, v, true)
				}
				if a != nil {
					a.Close()
				} else {
					v.Close()
				}
				c.wait(time.Second)
			})
			p := r.track.Parts
			if len(p) != 2 || p[0].Error == "" || p[1].Error != "" {
				t.Fatalf("parts %+v", p)
			}
			for _, part := range p {
				file := filepath.Join(r.dir, part.File)
				f, err := os.Open(file)
				if err != nil {
					t.Fatal(err)
				}
				info, err := container.Scan(container.Codec(part.Codec), f)
				f.Close()
				if err != nil || !info.Clean() {
					t.Errorf("%s: %v %v", part.File, info.Faults(), err)
				}
				decode(t, file)
			}
			var lost time.Duration
			for _, g := range r.track.Gaps {
				if g.Reason != ReasonDisk {
					t.Errorf("gaps %s", r.gaps())
				}
				lost += g.Duration.Duration()
			}
			if lost < 2*time.Second || lost > 4*time.Second {
				t.Errorf("%v missing: %s", lost, r.gaps())
			}
		})
	}
}

// A crash costs at most a sync interval: everything older is on the disk.
func TestFilesAreSyncedEveryInterval(t *testing.T) {
	inCall(t, Options{SyncInterval: 500 * ms}, func(c *call) {
		d := new(disk)
		c.rec.create = d.wrap(c.rec.create)
		a := c.audio()
		a.speak(500)
		synctest.Wait()
		if n := d.synced(); n < 18 || n > 21 {
			t.Errorf("%d syncs in 10 s, want one each 500 ms", n)
		}
		file := filepath.Join(c.root.options.Dir, c.rec.Dir(), c.stream.tracks[0].manifest.Parts[0].File)
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		info, err := container.Scan(container.Opus, f)
		if err != nil || info.TornBytes > 0 || info.Duration < 9*time.Second {
			t.Errorf("on the disk: %v of 10 s, %v", info.Duration, err)
		}
	})
}

// Close gives up at its deadline when the disk does not let it finish.
func TestCloseEndsAtItsDeadline(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		root, err := Open(Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		rec, err := root.NewRecording(RecordingInfo{Channel: "room"})
		if err != nil {
			t.Fatal(err)
		}
		d := &disk{stall: make(chan struct{})}
		rec.create = d.wrap(rec.create)
		s, _ := rec.NewStream(StreamInfo{PeerID: "p", StreamID: "s"})
		src := newSource(trackOf(s, TrackInfo{ID: "t", Kind: audio}), SourceInfo{}, map[uint8]Format{111: {MimeType: "audio/opus", ClockRate: 48000}})
		for i := range 100 {
			src.WriteRTP(rtpPacket(111, false, uint16(i), uint32(i*960), 1, tone(1)), time.Now())
			time.Sleep(20 * ms)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begun := time.Now()
		if err := rec.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("close: %v", err)
		}
		if took := time.Since(begun); took != 3*time.Second {
			t.Errorf("close took %v", took)
		}
		if err := rec.Close(ctx); !errors.Is(err, ErrClosed) {
			t.Errorf("second close: %v", err)
		}
		if _, err := rec.NewStream(StreamInfo{}); !errors.Is(err, ErrClosed) {
			t.Errorf("stream of a closed recording: %v", err)
		}
		src.WriteRTP(make([]byte, 12), time.Now())
		close(d.stall)
		synctest.Wait()
		root.Close()
	})
}

// A manifest that the disk does not take holds up Close no more than a file does.
func TestCloseWaitsForNoManifest(t *testing.T) {
	root, err := Open(Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	rec, err := root.NewRecording(RecordingInfo{Channel: "room"})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := root.dir().OpenRoot(rec.Dir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	rec.saving.Lock() // as a write that hangs does
	rec.PeerJoined("alice", nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	closed := make(chan error, 1)
	go func() { closed <- rec.Close(ctx) }()
	select {
	case err := <-closed:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("close: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("close waits although its time is over")
	}
	rec.saving.Unlock()
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(ms) {
		held, err := lock(dir) // which is free when what Close had no time for is done
		if err == nil {
			held.Close()
			if m, err := readManifest(dir); err != nil || m.State != StateComplete {
				t.Errorf("the manifest says %+v, %v", m, err)
			}
			break
		}
		if time.Now().After(until) {
			t.Fatalf("the recording is not finished: %v", err)
		}
	}
	if err := root.Close(); err != nil {
		t.Fatal(err)
	}
}

// What an error costs is in the manifest, though the stream has ended by then: what did not reach
// the disk is a gap, and no size of a picture is listed that is in no file. A disk that was well for
// a while is tried again soon when it fails anew.
func TestWhatAnErrorCostIsInTheManifest(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		d := new(disk)
		c.rec.create = d.wrap(c.rec.create)
		a, v := c.audio(), c.video()
		say := func(d time.Duration) {
			for range d / (40 * ms) {
				c.step(a, v, true)
			}
		}
		fail := func() {
			d.set(nil, syscall.ENOSPC)
			say(7 * time.Second)
			d.set(nil, nil)
		}
		say(20 * time.Second)
		fail()
		say(97 * time.Second)
		fail()
		say(20 * time.Second)
		synctest.Wait()
		d.set(nil, syscall.ENOSPC)
		say(80 * ms)
		a.Close()
		v.Close()
	})
	for _, kind := range []string{audio, video} {
		r := r.of(kind)
		files := make(map[string]int64)
		for _, p := range r.track.Parts {
			files[p.File] = p.LastPTS
		}
		if len(r.track.Gaps) != 3 {
			t.Fatalf("%s gaps %s, want 3", kind, r.gaps())
		}
		for i, g := range r.track.Gaps {
			if most := []time.Duration{18 * time.Second, 18 * time.Second, 2 * time.Second}[i]; g.Reason != ReasonDisk || g.Duration.Duration() > most {
				t.Errorf("%s gaps %s", kind, r.gaps())
			}
		}
		var missing Seconds
		for _, g := range r.track.Gaps {
			missing += g.Duration
		}
		if got := r.track.Expected - r.track.Recorded; !near(got.Duration(), missing.Duration(), 3*gapMerge) {
			t.Errorf("%s: %v not recorded, %v in gaps", kind, got.Duration(), missing.Duration())
		}
		for _, s := range r.track.Resolutions {
			if last, ok := files[s.File]; !ok || s.PTS > last || last == 0 {
				t.Errorf("size %+v is in no file", s)
			}
		}
	}
}

// forgetful is a file on a disk that fails to sync once: what was written since the sync before is in
// the cache of the system, which takes it for written from then on.
type forgetful struct {
	File
	disk *disk

	dirty  map[int64][]byte // by offset
	stored []byte           // what a power cut would leave
}

func (f *forgetful) WriteAt(b []byte, off int64) (int, error) {
	f.dirty[off] = slices.Clone(b)
	return f.File.WriteAt(b, off)
}

func (f *forgetful) Sync() error {
	defer clear(f.dirty)
	if err := f.disk.wait(); err != nil {
		f.disk.set(nil, nil)
		return err
	}
	for off, b := range f.dirty {
		if n := int(off) + len(b) - len(f.stored); n > 0 {
			f.stored = append(f.stored, make([]byte, n)...)
		}
		copy(f.stored[off:], b)
	}
	return nil
}

func (f *forgetful) Truncate(size int64) error {
	f.stored = f.stored[:min(int(size), len(f.stored))]
	return f.File.Truncate(size)
}

// A sync that fails ends its file. What the manifest then calls final is on the disk, though the
// system takes for written what it failed to write.
func TestASyncErrorEndsItsFile(t *testing.T) {
	for _, kind := range []string{audio, video} {
		t.Run(kind, func(t *testing.T) {
			files := make(map[string]*forgetful)
			r := inCall(t, Options{}, func(c *call) {
				d := new(disk)
				create := c.rec.create
				c.rec.create = func(name string) (File, error) {
					f, err := create(name)
					files[name] = &forgetful{File: f, disk: d, dirty: make(map[int64][]byte)}
					return files[name], err
				}
				l := c.leg("track", kind)
				say := func(d time.Duration) {
					for range d / (40 * ms) {
						if kind == audio {
							l.speak(2)
						} else {
							l.film(1, true)
						}
					}
				}
				say(3500 * ms)
				d.set(nil, syscall.EIO)
				say(10 * time.Second)
				l.Close()
				c.wait(time.Second)
			})
			p := r.track.Parts
			if len(p) != 2 || !strings.Contains(p[0].Error, "input/output error") || p[1].Error != "" {
				t.Fatalf("parts %+v", p)
			}
			for _, part := range p {
				b, err := os.ReadFile(filepath.Join(r.dir, filepath.FromSlash(part.File)))
				if err != nil || !part.Final || !bytes.Equal(b, files[part.File].stored) {
					t.Errorf("%s: final %v, %d bytes of %d on the disk, %v", part.File, part.Final, len(files[part.File].stored), len(b), err)
				}
			}
			for _, g := range r.track.Gaps {
				if g.Reason != ReasonDisk {
					t.Errorf("gaps %s", r.gaps())
				}
			}
		})
	}
}

// A disk that takes nothing has no sender asked for a key frame all the time, though each comes at once
// and is needed again: that is what it could take least.
func TestKeyFramesStayRareWhileTheDiskRefuses(t *testing.T) {
	const length = 30 * time.Second
	big := slices.Concat(testPicture(true), make([]byte, 60_000)) // a decoder ignores what follows the partitions
	for name, refuse := range map[string]struct {
		key   []byte
		begin func(d *disk) (end func())
		most  int // requests meanwhile
	}{
		"with an error": {testPicture(true), func(d *disk) func() {
			d.set(nil, syscall.EIO)
			return func() { d.set(nil, nil) }
		}, 2},
		"as it stalls": {big, func(d *disk) func() {
			stall := make(chan struct{})
			d.set(stall, nil)
			return func() { d.set(nil, nil); close(stall) }
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			r := inCall(t, Options{}, func(c *call) {
				d := new(disk)
				c.rec.create = d.wrap(c.rec.create)
				v, answered := c.video(), 0
				film := func(length time.Duration, always bool) {
					for range length / (40 * ms) {
						frame := testPicture(false)
						if asked := v.plis + v.firs; asked > answered || always {
							answered, frame = asked, refuse.key
						}
						v.put(vp8Payload([]byte{0x10}, frame...))
						v.rtp += 3600
						v.wait(40 * ms)
					}
				}
				film(5*time.Second, false)
				end := refuse.begin(d)
				film(6*time.Second, true)
				before := answered
				film(length, false)
				if n := answered - before; n > refuse.most {
					t.Errorf("%d key frames asked for in %v, want no more than %d", n, length, refuse.most)
				}
				end()
				film(7*time.Second, false)
				v.Close()
				c.wait(time.Second)
			})
			if last := r.track.Gaps[len(r.track.Gaps)-1]; last.Reason != ReasonDisk || r.track.End-last.Start-last.Duration < Seconds(4*time.Second) {
				t.Errorf("it does not go on: gaps %s, end %v", r.gaps(), r.track.End.Duration())
			}
		})
	}
}
