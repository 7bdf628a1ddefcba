package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// openFiles is how many media files are open once all that is under way is done.
func (c *call) openFiles() int {
	synctest.Wait()
	c.root.descriptors.mu.Lock()
	defer c.root.descriptors.mu.Unlock()
	return c.root.descriptors.open
}

// withoutSerial is a file without what is random in it: the serial number of an Ogg stream, and the
// checksums that cover it.
func withoutSerial(b []byte) []byte {
	b = bytes.Clone(b)
	for at := 0; bytes.HasPrefix(b[at:], []byte("OggS")); {
		clear(b[at+14 : at+18])
		clear(b[at+22 : at+26])
		size := 27 + int(b[at+26])
		for _, n := range b[at+27 : at+size] {
			size += int(n)
		}
		at += size
	}
	return b
}

// A member that is away holds no descriptor, and what it sends when it is back makes the file that it
// would have made if that had stayed open, to the byte.
func TestAMemberThatIsAwayHoldsNoDescriptor(t *testing.T) {
	var files [2]map[string][]byte
	for i, name := range []string{"closed while away", "open all the time"} {
		files[i] = make(map[string][]byte)
		var crashed string
		r := inCall(t, Options{}, func(c *call) {
			if name == "open all the time" {
				c.root.descriptors.restAfter = time.Hour
			}
			for stay := range 3 {
				a, v := c.audio(), c.video()
				a.ssrc, v.ssrc = uint32(stay), uint32(stay)
				a.rtp, v.rtp = uint32(stay)*77777, uint32(stay)*99999
				c.connection++
				c.talk(a, v, 4*time.Second)
				if n := c.openFiles(); n != 2 {
					t.Errorf("%d files are open while they are written", n)
				}
				a.Close()
				v.Close()
				c.stream.Outage(ReasonReconnect, time.Time{})
				c.wait(8 * time.Second)
				if n, want := c.openFiles(), 2*i; n != want {
					t.Errorf("%s: %d files are open while the member is away, want %d", name, n, want)
				}
				if stay == 1 {
					crashed = c.crash(t.TempDir())
				}
				c.stream.Resume("alice")
			}
		})
		for _, track := range r.manifest.Streams[0].Tracks {
			if len(track.Parts) != 1 || track.Parts[0].Error != "" || track.Parts[0].SHA256 == "" {
				t.Fatalf("%s: %+v", name, track.Parts)
			}
			b, err := os.ReadFile(filepath.Join(r.dir, track.Parts[0].File))
			if err != nil {
				t.Fatal(err)
			}
			files[i][track.Kind] = withoutSerial(b)
		}
		soundFiles(t, filepath.Dir(filepath.Dir(r.dir)))
		if report, err := Repair(context.Background(), crashed, nil); err != nil || !report.OK {
			t.Errorf("%s: a crash while the files are closed: %+v %v", name, report, err)
		}
		soundFiles(t, crashed)
	}
	for kind, b := range files[0] {
		if !bytes.Equal(b, files[1][kind]) {
			t.Errorf("%s: %d bytes differ from the %d of a file that stayed open", kind, len(b), len(files[1][kind]))
		}
	}
}

// soundFiles has all recordings in a directory be as their manifests say.
func soundFiles(t *testing.T, dir string) {
	t.Helper()
	report, err := Verify(t.Context(), dir, nil)
	if err != nil || !report.OK || len(report.Recordings) == 0 {
		t.Errorf("verify: %+v %v", report, err)
	}
}

// Files of every codec are the same whether they are closed after every write or never.
func TestAFileOfEveryCodecGoesOnAfterEachWrite(t *testing.T) {
	for _, m := range videoMedia(t) {
		t.Run(m.name, func(t *testing.T) {
			var files [2][]byte
			for i := range files {
				r := inCall(t, Options{}, func(c *call) {
					go c.rec.pump()
					defer func() {
						close(c.rec.stop)
						<-c.rec.pumped
					}()
					l := newLink(weather{}, 1)
					l.to = newSource(trackOf(c.stream, TrackInfo{ID: "track", Kind: m.kind}), SourceInfo{Feedback: l}, map[uint8]Format{96: m.format})
					go l.run()
					done := make(chan struct{})
					go func() {
						for i == 0 {
							select {
							case <-done:
								return
							case <-time.After(10 * ms):
								c.root.descriptors.spareOne()
							}
						}
					}()
					m.play(l, 2)
					time.Sleep(3 * time.Second)
					close(l.stop)
					close(done)
					l.to.Close()
				})
				if len(r.track.Parts) != 1 || r.track.Completeness != 1 {
					t.Errorf("parts %+v, gaps %s", r.track.Parts, r.gaps())
				}
				b, err := os.ReadFile(r.file)
				if err != nil {
					t.Fatal(err)
				}
				files[i] = b
			}
			if !bytes.Equal(files[0], files[1]) {
				t.Errorf("%d bytes differ from the %d of a file that stayed open", len(files[0]), len(files[1]))
			}
		})
	}
}

// However few descriptors there are, all streams are recorded in full.
func TestAnyNumberOfFilesIsWrittenWithFewDescriptors(t *testing.T) {
	const peers, most = 12, 2
	r := inCall(t, Options{descriptors: most}, func(c *call) {
		c.stream.Close("not of this test")
		var legs [][2]*leg
		for i := range peers {
			var err error
			if c.stream, err = c.rec.NewStream(StreamInfo{PeerID: string(rune('a' + i)), StreamID: "camera"}); err != nil {
				t.Fatal(err)
			}
			legs = append(legs, [2]*leg{c.audio(), c.video()})
		}
		for i := range 25 * 12 {
			for _, l := range legs {
				l[1].put(vp8Payload([]byte{0x10}, testPicture(i == 0)...))
				l[1].rtp += 3600
			}
			for range 2 {
				for _, l := range legs {
					l[0].put(tone(l[0].seq))
					l[0].rtp += 960
				}
				c.wait(20 * ms)
			}
			if n := c.openFiles(); n > most {
				t.Fatalf("%d files are open, want at most %d", n, most)
			}
		}
		c.wait(3 * time.Second)
	})
	for _, s := range r.manifest.Streams[1:] {
		for _, track := range s.Tracks {
			if track.Completeness != 1 || len(track.Parts) != 1 || track.Ledger.FramesDropped != 0 {
				t.Errorf("%s of %s: %v, %d parts", track.Kind, s.PeerID, track.Completeness, len(track.Parts))
			}
		}
	}
	soundFiles(t, filepath.Dir(filepath.Dir(r.dir)))
}

// A file that is removed, replaced or changed while its member is away is not gone on with. The manifest
// says what was lost, a file that took its place stays as it is, and what comes is in another one.
func TestAFileThatIsReplacedWhileItIsClosedIsNotGoneOnWith(t *testing.T) {
	other := []byte("of somebody else")
	for name, spoil := range map[string]func(path string) error{
		"removed":  os.Remove,
		"replaced": func(path string) error { return os.WriteFile(path+".new", other, 0o600) },
		"with its directory": func(path string) error {
			return os.RemoveAll(filepath.Dir(path))
		},
		"truncated": func(path string) error { return os.Truncate(path, 10_000) },
	} {
		for _, back := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				var log bytes.Buffer
				r := inCall(t, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, func(c *call) {
					v := c.video()
					v.film(200, true)
					v.Close()
					c.stream.Outage(ReasonReconnect, time.Time{})
					c.wait(5 * time.Second)
					path := filepath.Join(c.root.options.Dir, c.rec.Dir(), c.stream.tracks[0].manifest.Parts[0].File)
					err := spoil(path)
					if name == "replaced" {
						err = os.Rename(path+".new", path)
					}
					if err != nil {
						t.Fatal(err)
					}
					if back {
						c.stream.Resume("alice")
						c.connection++
						v = c.video()
						for range 8 {
							v.film(25, true) // it takes a moment to notice, and a retry
						}
						c.wait(3 * time.Second)
						v.Close()
					}
				})
				parts := r.track.Parts
				first := parts[0]
				if first.Error == "" || first.SHA256 != "" && name != "truncated" || !strings.Contains(log.String(), "while nothing was written to it") {
					t.Errorf("it is said to be %+v, in the log %q", first, log.String())
				}
				if name == "truncated" {
					if !first.Final || first.Frames == 0 {
						t.Errorf("what is left was not saved: %+v", first)
					}
				} else if first.Frames != 0 || first.Final {
					t.Errorf("it is said to hold %d frames", first.Frames)
				}
				if b, err := os.ReadFile(filepath.Join(r.dir, first.File)); name == "replaced" && (err != nil || !bytes.Equal(b, other)) {
					t.Errorf("what took its place was written to: %q %v", b, err)
				}
				if r.track.Missing[ReasonDisk] < Seconds(5*time.Second) {
					t.Errorf("gaps %s", r.gaps())
				}
				if back && (len(parts) != 2 || parts[1].Error != "" || parts[1].Frames < 50) {
					t.Errorf("parts %+v", parts)
				}
			})
		}
	}
}

// While the process has no descriptors, files wait for them and lose nothing that fits their queues. More
// is missing for want of capacity and not for the disk's sake, which is said once, and two seconds after
// there are descriptors again all is recorded.
func TestFilesWaitForADescriptor(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	var log bytes.Buffer
	r := inCall(t, Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), Registerer: registry}, func(c *call) {
		var short atomic.Bool
		create, reopen := c.rec.create, c.rec.reopen
		c.rec.create = func(name string) (File, error) {
			if short.Load() {
				return nil, &os.PathError{Op: "open", Path: name, Err: syscall.EMFILE}
			}
			return create(name)
		}
		c.rec.reopen = func(name string, was os.FileInfo) (File, error) {
			if short.Load() {
				return nil, &os.PathError{Op: "open", Path: name, Err: syscall.ENFILE}
			}
			return reopen(name, was)
		}
		a := c.audio()
		a.speak(100)
		c.wait(6 * time.Second) // its file is closed
		if c.openFiles() != 0 {
			t.Error("it is open")
		}
		a.rtp += 6 * 48000
		short.Store(true)
		v := c.video()
		payload := vp8Payload([]byte{0x10}, append(bytes.Clone(testPicture(true)), make([]byte, 40_000)...)...)
		for range 20 * 25 { // 20 MB
			v.put(payload)
			v.rtp += 3600
			a.speak(2)
		}
		if got := gathered(t, registry, "recorder_sink_descriptor_shortages_total"); got[""] != 2 {
			t.Errorf("shortages %v, want that of two files", got)
		}
		short.Store(false)
		again := c.rec.now()
		for range 10 * 25 {
			v.put(payload)
			v.rtp += 3600
			a.speak(2)
		}
		c.wait(3 * time.Second)
		for _, track := range c.stream.tracks {
			if track.kind != video {
				continue
			}
			gaps := track.ledger.gaps
			if len(gaps) != 1 || gaps[0].Reason != ReasonCapacity {
				t.Errorf("gaps %+v", gaps)
				continue
			}
			if end := track.stream.origin + (gaps[0].Start + gaps[0].Duration).Duration(); end > again+2*time.Second {
				t.Errorf("pictures are back %v after there were descriptors", end-again)
			}
		}
		if got := gathered(t, registry, "recorder_sink_frames_dropped_total"); got["kind=video reason=capacity"] == 0 || got["kind=video reason=disk"] != 0 {
			t.Errorf("dropped: %v", got)
		}
		if got := gathered(t, registry, "recorder_sink_write_errors_total"); got[""] != 0 {
			t.Errorf("%v errors of a disk that is well", got)
		}
	})
	if s := r.of(audio).track; s.Completeness != 1 || len(s.Parts) != 1 {
		t.Errorf("sound: %v in %d parts", s.Completeness, len(s.Parts))
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 || strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("the log says %s", log.String())
	}
	soundFiles(t, filepath.Dir(filepath.Dir(r.dir)))
}

// A recorder that starts again opens the files of a stream that is back, and keeps none open that nothing
// is written to.
func TestAFileThatIsGoneOnWithAfterAStopHoldsNoDescriptor(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, dir)
		c.talk(c.audio(), c.video(), 3*time.Second)
		c.suspend()
		c = begin(t, dir)
		if n := c.openFiles(); n != 2 {
			t.Errorf("%d files are open, want 2", n)
		}
		c.wait(3 * time.Second)
		if n := c.openFiles(); n != 0 {
			t.Errorf("%d files are open", n)
		}
		c.talk(c.audio(), c.video(), 3*time.Second)
		c.end()
	})
	r := readRecording(t, find(t, dir, 1)[0])
	for _, track := range r.manifest.Streams[0].Tracks {
		if len(track.Parts) != 1 || !track.Parts[0].Final || track.Parts[0].Error != "" {
			t.Errorf("%s: %+v", track.Kind, track.Parts)
		}
	}
	soundFiles(t, dir)
}

// Many streams that one member sent and took away hold no descriptors and have no series, and are
// all finished at once with the few descriptors there are.
func TestManyStreamsThatWereTakenAwayAreFinishedWithTwoDescriptors(t *testing.T) {
	const streams = 120
	registry := prometheus.NewPedanticRegistry()
	r := inCall(t, Options{descriptors: 2, Registerer: registry}, func(c *call) {
		before, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var all []*Stream
		for i := range streams {
			c.stream, err = c.rec.NewStream(StreamInfo{PeerID: "alice", StreamID: fmt.Sprint(i)})
			if err != nil {
				t.Fatal(err)
			}
			a := c.audio()
			a.speak(5)
			a.Close()
			c.stream.Outage(ReasonReconnect, time.Time{})
			all = append(all, c.stream)
		}
		c.wait(4 * time.Second)
		after, err := registry.Gather()
		if n := c.openFiles(); n != 0 || err != nil || len(after) != len(before) {
			t.Errorf("%d files are open, %d names of series, before %d, %v", n, len(after), len(before), err)
		}
		for _, s := range all[:streams/2] {
			s.Close(NotBack)
		}
		if n := c.openFiles(); n != 0 {
			t.Errorf("%d files are open", n)
		}
	})
	for _, s := range r.manifest.Streams[1:] {
		if p := s.Tracks[0].Parts; len(p) != 1 || !p[0].Final || p[0].Error != "" || p[0].SHA256 == "" || p[0].Frames < 5 {
			t.Errorf("%s: %+v", s.ID, p)
		}
	}
	soundFiles(t, filepath.Dir(filepath.Dir(r.dir)))
}

// A member that comes and goes in a loop, each time about when its files are closed, has one file of each
// kind that holds all it sent.
func TestAMemberThatReconnectsInALoopHasOneFile(t *testing.T) {
	const stays = 40
	r := inCall(t, Options{descriptors: 1}, func(c *call) {
		for stay := range stays {
			a, v := c.audio(), c.video()
			a.ssrc, v.ssrc = uint32(stay), uint32(stay)
			c.connection++
			c.talk(a, v, 400*ms)
			a.Close()
			v.Close()
			c.stream.Outage(ReasonReconnect, time.Time{})
			c.wait(restAfter - 400*ms + time.Duration(stay)*20*ms)
			c.stream.Resume("alice")
		}
	})
	for _, track := range r.manifest.Streams[0].Tracks {
		want := map[string]uint64{audio: stays * 20, video: stays * 10}[track.Kind]
		if len(track.Parts) != 1 || track.Parts[0].Error != "" || track.Ledger.FramesWritten != want {
			t.Errorf("%s: %d frames, want %d, in %+v", track.Kind, track.Ledger.FramesWritten, want, track.Parts)
		}
	}
	soundFiles(t, filepath.Dir(filepath.Dir(r.dir)))
}

// A recording that another takes the place of while its files are closed is finished, and so are its hashes.
func TestARecordingIsRotatedWhileItsFilesAreClosed(t *testing.T) {
	r := inCall(t, Options{descriptors: 1}, func(c *call) {
		c.talk(c.audio(), c.video(), 3*time.Second)
		c.stream.Outage(ReasonReconnect, time.Time{})
		c.wait(4 * time.Second)
		if n := c.openFiles(); n != 0 {
			t.Errorf("%d files are open", n)
		}
		next, err := c.root.newRecording(RecordingInfo{Channel: "room", Bot: "bot", Follows: c.rec})
		if err != nil {
			t.Fatal(err)
		}
		if err := next.finish(context.Background(), context.Background(), next.now()); err != nil {
			t.Error(err)
		}
	})
	for _, track := range r.manifest.Streams[0].Tracks {
		if p := track.Parts; len(p) != 1 || !p[0].Final || p[0].Error != "" || p[0].SHA256 == "" {
			t.Errorf("%s: %+v", track.Kind, p)
		}
	}
}

// What opens a file for a moment, such as a manifest, takes the descriptor of a media file that is idle.
func TestAManifestTakesTheDescriptorOfAnIdleFile(t *testing.T) {
	inCall(t, Options{}, func(c *call) {
		c.talk(c.audio(), c.video(), 3*time.Second)
		for want := c.openFiles() - 1; want >= 0; want-- {
			tries := 0
			err := c.root.descriptors.need(func() error {
				if tries++; tries == 1 {
					return &os.PathError{Op: "open", Err: syscall.EMFILE}
				}
				return nil
			})
			if n := c.openFiles(); n != want || err != nil {
				t.Errorf("%d files are open, want %d, %v", n, want, err)
			}
		}
		if err := c.root.descriptors.need(func() error { return syscall.EMFILE }); !errors.Is(err, errNoDescriptors) {
			t.Errorf("with none left: %v", err)
		}
	})
}

// A file system may give a file another number once nobody has it open. The file is not another one.
func TestAnIdleFileOfAnotherNumberIsTheSame(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	if err := os.WriteFile(path, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	was, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	for size, want := range map[string]error{"12345": nil, "1234": errReplaced, "123456": errReplaced} {
		if err := os.WriteFile(path+".new", []byte(size), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path + ".new") // of another number
		if err != nil {
			t.Fatal(err)
		}
		if err := sameFile(was, f); !errors.Is(err, want) {
			t.Errorf("%s: %v", size, err)
		}
		f.Close()
	}
}
