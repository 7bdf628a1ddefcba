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
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// suspend ends the recording as a process that is told to stop does.
func (c *call) suspend() {
	c.Helper()
	if err := c.rec.Suspend(context.Background()); err != nil {
		c.Fatal(err)
	}
	if err := c.root.Close(); err != nil {
		c.Fatal(err)
	}
}

// find is the directories of all recordings in dir.
func find(t *testing.T, dir string, want int) []string {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(dir, "*", "*"))
	if len(found) != want {
		t.Fatalf("recordings %q, want %d", found, want)
	}
	return found
}

// Files of pictures may be so long that reading them would take longer than what comes meanwhile can wait. One that
// nobody wrote to since the stop goes on unread; one that somebody did is read, and goes on if it is as it was.
func TestPicturesAreNotReadAgainAfterAStop(t *testing.T) {
	for _, tt := range []struct {
		name             string
		damaged, touched bool
		parts            int
	}{
		{"left alone", false, false, 1},
		{"left alone and unread", true, false, 1},
		{"written to", false, true, 1},
		{"written to and not as it was", true, true, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				for i := range 2 {
					c := begin(t, dir)
					a, v := c.audio(), c.video()
					a.ssrc, a.rtp = uint32(i), uint32(i)*77777
					c.talk(a, v, 4*time.Second)
					if i == 1 {
						c.end()
						break
					}
					c.suspend()
					file, _ := filepath.Glob(filepath.Join(dir, "*", "*", "*", "*", "video-1.ivf"))
					f, err := os.OpenFile(file[0], os.O_RDWR, 0)
					if err != nil {
						t.Fatal(err)
					}
					if tt.damaged {
						_, err = f.WriteAt(make([]byte, 12), 32) // the first frame's header
					}
					written := time.Now()
					if tt.touched {
						written = written.Add(time.Minute)
					}
					if err := errors.Join(err, f.Close(), os.Chtimes(file[0], written, written)); err != nil {
						t.Fatal(err)
					}
				}
			})
			root, err := os.OpenRoot(find(t, dir, 1)[0])
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			m, err := readManifest(root)
			if err != nil {
				t.Fatal(err)
			}
			for _, track := range m.Streams[0].Tracks {
				if want := map[string]int{audio: 1, video: tt.parts}[track.Kind]; len(track.Parts) != want {
					t.Errorf("%d files of %s, want %d", len(track.Parts), track.Kind, want)
				}
			}
		})
	}
}

// What a stop finished is final and says until when it may go on. A restart within that time goes on
// with it: the time between is a gap in the same files.
func TestAStopIsAGapInTheSameFiles(t *testing.T) {
	const stays, downs = 3, 5 * time.Second
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var id string
		for i := range stays {
			c := begin(t, dir)
			if i > 0 && (c.rec.ID() != id || readRecording(t, find(t, dir, 1)[0]).manifest.State != StateRecording) {
				t.Fatalf("not continued: %+v", c.stream.manifest)
			}
			id = c.rec.ID()
			a, v := c.audio(), c.video()
			a.ssrc, a.rtp = uint32(i), uint32(i)*77777 // another connection's
			c.talk(a, v, 4*time.Second)
			if i == stays-1 {
				c.end()
				break
			}
			c.suspend()
			m := readRecording(t, find(t, dir, 1)[0]).manifest
			if m.State != StateComplete || m.ContinuableUntil == nil || !m.ContinuableUntil.UTC.Equal(m.Ended.UTC.Add(window)) {
				t.Errorf("%s, ended %v, continuable until %v", m.State, m.Ended, m.ContinuableUntil)
			}
			for _, track := range m.Streams[0].Tracks {
				if p := track.Parts[0]; !p.Final || p.SHA256 == "" || p.Recovered {
					t.Errorf("part %+v", p)
				}
			}
			if m.Streams[0].EndReason != Stopped {
				t.Errorf("the stream ended because %q", m.Streams[0].EndReason)
			}
			time.Sleep(downs)
		}
	})
	r := readRecording(t, find(t, dir, 1)[0])
	if m := r.manifest; m.State != StateComplete || m.ContinuableUntil != nil || len(m.Streams) != 1 || len(m.Streams[0].Reconnects) != stays-1 {
		t.Fatalf("manifest %+v", m)
	}
	for _, kind := range []string{audio, video} {
		r := r.of(kind)
		if len(r.track.Parts) != 1 || len(r.track.Gaps) != stays-1 {
			t.Fatalf("%s: parts %+v, gaps %s", kind, r.track.Parts, r.gaps())
		}
		for i, g := range r.track.Gaps {
			end := time.Duration(9*(i+1)) * time.Second
			if g.Reason != ReasonRestart || !near(g.Duration.Duration(), downs, 100*ms) || !near((g.Start+g.Duration).Duration(), end, 50*ms) {
				t.Errorf("%s: gaps %s", kind, r.gaps())
			}
		}
		decode(t, r.file)
	}
	if length, _ := r.audioFile(t); !near(length, 22*time.Second, 40*ms) {
		t.Errorf("sound lasts %v", length)
	}
	opusInfo(t, r.of(audio).file)
}

// A stream that does not come back after a restart is as the stop left it.
func TestAStreamThatStaysAwayIsAsTheStopLeftIt(t *testing.T) {
	dir := t.TempDir()
	var before, after map[string]string
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, dir)
		c.talk(c.audio(), c.video(), 2*time.Second)
		c.suspend()
		before = tree(t, dir)
		time.Sleep(time.Second)
		root, rec := restart(t, dir, slog.DiscardHandler)
		time.Sleep(window)
		(&call{T: t, root: root, rec: rec}).end()
		after = tree(t, dir)
	})
	for name, bytes := range before {
		if filepath.Base(name) != ManifestName && after[name] != bytes {
			t.Errorf("%s was changed", name)
		}
	}
	if s := readRecording(t, find(t, dir, 1)[0]).manifest.Streams; len(s) != 1 || s[0].EndReason != Stopped || len(s[0].Reconnects) != 0 {
		t.Errorf("streams %+v", s)
	}
}

// Streams of two members that claim one id go on in their own files, in whichever order the members are
// back. Who is neither of the two takes the place of none.
func TestStreamsThatShareAnIDFindTheirOwnFilesAfterAStop(t *testing.T) {
	for name, order := range map[string][]string{
		"in order":            {"alice", "mallory"},
		"in the other":        {"mallory", "alice"},
		"another comes first": {"bob", "mallory", "alice"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				suspendTwoOfOneID(t, dir)
				root, rec := restart(t, dir, slog.DiscardHandler)
				c := &call{T: t, root: root, rec: rec, pumped: true}
				for _, peer := range order {
					c.open(peer)
					if m := c.stream.manifest; m.PeerID != peer || (len(m.Reconnects) == 1) == (peer == "bob") {
						t.Errorf("%s goes on in %s, reconnects %+v", peer, m.Dir, m.Reconnects)
					}
					c.audio()
				}
				c.end()
			})
			find(t, dir, 1)
		})
	}
}

// suspendTwoOfOneID leaves a recording in which alice and mallory each sent a stream of one id.
func suspendTwoOfOneID(t *testing.T, dir string) {
	t.Helper()
	c := begin(t, dir)
	alice := c.audio()
	c.open("mallory")
	alice.put(tone(1))
	c.audio().speak(50)
	c.suspend()
}

// Two that are asked for at once are not swapped, and each is had once.
func TestStreamsThatShareAnIDAreReopenedApart(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		suspendTwoOfOneID(t, dir)
		_, rec := restart(t, dir, slog.DiscardHandler)
		got := make(chan *Stream, 2)
		reopen := func(peer string) bool {
			return rec.Reopen(peer, StreamInfo{PeerID: peer, StreamID: "camera"}, func(s *Stream) { got <- s })
		}
		for _, peer := range []string{"mallory", "alice"} {
			if !reopen(peer) {
				t.Errorf("no stream of %s", peer)
			}
			if reopen(peer) {
				t.Errorf("the stream of %s was had twice", peer)
			}
		}
		for range 2 {
			if s := <-got; s == nil || s.manifest.PeerID != s.info.PeerID || len(s.manifest.Reconnects) != 1 {
				t.Errorf("got %+v", s)
			}
		}
		(&call{T: t, root: rec.root, rec: rec}).end()
	})
}

// A member that has another peer id after the restart, as a publishable key gives it one, goes on in its
// files, and after the next restart as well.
func TestAMemberWithANewPeerIDFindsItsFilesAfterAStop(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, dir)
		for i, peer := range []string{"alice 2", "alice 3", "alice 3"} {
			c.audio().speak(50)
			c.suspend()
			root, rec := restart(t, dir, slog.DiscardHandler)
			c = &call{T: t, root: root, rec: rec, pumped: true}
			c.open(peer)
			if n := len(c.stream.manifest.Reconnects); n != i+1 {
				t.Errorf("%s: %d reconnects, want %d", peer, n, i+1)
			}
		}
		c.end()
	})
	if n := len(readRecording(t, find(t, dir, 1)[0]).manifest.Streams); n != 1 {
		t.Errorf("%d streams, want 1", n)
	}
}

// restart begins a recording as a new process does, with no stream so far.
func restart(t *testing.T, dir string, log slog.Handler) (*Root, *Recording) {
	t.Helper()
	root, err := Open(Options{Dir: dir, Logger: slog.New(log)})
	if err != nil {
		t.Fatal(err)
	}
	<-root.Recover(context.Background())
	rec, err := root.NewRecording(RecordingInfo{Channel: "room", Bot: "bot", Start: time.Now(), ReconnectWindow: window})
	if err != nil {
		t.Fatal(err)
	}
	return root, rec
}

// A recording that was closed for good, or whose time has passed, is left as it is.
func TestAStopLongAgoOrForGoodIsNotContinued(t *testing.T) {
	for name, stop := range map[string]func(c *call){
		"closed": func(c *call) { c.end() },
		"too late": func(c *call) {
			c.suspend()
			time.Sleep(window + time.Second)
		},
		"the window was taken away": func(c *call) {
			c.rec.SetReconnectWindow(0)
			c.suspend()
		},
		"the window was shortened": func(c *call) {
			c.rec.SetReconnectWindow(time.Second)
			c.suspend()
			time.Sleep(2 * time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				c := begin(t, dir)
				c.talk(c.audio(), c.video(), 2*time.Second)
				stop(c)
				before := tree(t, dir)
				after := begin(t, dir)
				if after.rec.ID() == c.rec.ID() {
					t.Error("continued")
				}
				after.end()
				now := tree(t, dir)
				for name, bytes := range before {
					if now[name] != bytes {
						t.Errorf("%s was changed", name)
					}
				}
			})
			find(t, dir, 2)
		})
	}
}

// Files that somebody changed or took away after the stop are not touched. The others go on.
func TestFilesThatWereChangedSinceTheStopAreLeftAlone(t *testing.T) {
	for name, change := range map[string]func(file string) error{
		"removed": os.Remove,
		"cut":     func(file string) error { return os.Truncate(file, 2000) },
		"moved":   func(file string) error { return os.Rename(file, file+".bak") },
		"written": func(file string) error { return os.WriteFile(file, []byte("OggS"), 0o600) },
		"exchanged for a link": func(file string) error {
			return errors.Join(os.Rename(file, file+".bak"), os.Symlink(filepath.Base(file)+".bak", file))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var log bytes.Buffer
			var before, after map[string]string
			synctest.Test(t, func(t *testing.T) {
				c := begin(t, dir)
				c.talk(c.audio(), c.video(), 2*time.Second)
				c.suspend()
				files, _ := filepath.Glob(filepath.Join(dir, "*", "*", "*", "*", "*.ogg"))
				if err := change(files[0]); err != nil {
					t.Fatal(err)
				}
				before = tree(t, dir)
				time.Sleep(3 * time.Second)
				root, rec := restart(t, dir, slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
				again := &call{T: t, root: root, rec: rec, pumped: true}
				again.open("alice")
				again.talk(again.audio(), again.video(), 2*time.Second)
				again.end()
				after = tree(t, dir)
			})
			for name, bytes := range before {
				if strings.Contains(name, ".ogg") && after[name] != bytes {
					t.Errorf("%s was changed", name)
				}
			}
			if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "audio-1.ogg") {
				t.Errorf("logged %s", log.String())
			}
			dir = find(t, dir, 1)[0]
			b, err := os.ReadFile(filepath.Join(dir, ManifestName))
			if err != nil {
				t.Fatal(err)
			}
			m, err := DecodeManifest(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			for _, track := range m.Streams[0].Tracks {
				if want := map[string]int{audio: 2, video: 1}[track.Kind]; len(track.Parts) != want {
					t.Errorf("%s: %d parts", track.Kind, len(track.Parts))
				}
				last := track.Parts[len(track.Parts)-1]
				if !near(last.Duration.Duration(), 7*time.Second, 100*ms) {
					t.Errorf("%s lasts %v", track.Kind, last.Duration.Duration())
				}
				decode(t, filepath.Join(dir, filepath.FromSlash(last.File)))
			}
		})
	}
}

// A recording that was moved away as a whole is no loss to the next.
func TestARecordingThatWasMovedAwayIsNotMissed(t *testing.T) {
	dir, archive := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, dir)
		c.talk(c.audio(), c.video(), 2*time.Second)
		c.suspend()
		root, err := Open(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		<-root.Recover(t.Context())
		if err := os.Rename(find(t, dir, 1)[0], filepath.Join(archive, "moved")); err != nil { // at the last moment
			t.Fatal(err)
		}
		rec, err := root.NewRecording(RecordingInfo{Channel: "room", Bot: "bot", ReconnectWindow: window})
		if err != nil {
			t.Fatal(err)
		}
		after := &call{T: t, root: root, rec: rec, pumped: true}
		after.open("alice")
		after.talk(after.audio(), after.video(), 2*time.Second)
		after.end()
	})
	readRecording(t, filepath.Join(archive, "moved"))
	readRecording(t, find(t, dir, 1)[0])
}

// A process that is killed while it finishes its files leaves what any crash does. Until it is gone
// nobody else writes its recording.
func TestAKillInTheMiddleOfAStopIsACrash(t *testing.T) {
	dir, crashed := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, dir)
		d := new(disk)
		c.rec.create = d.wrap(c.rec.create)
		c.talk(c.audio(), c.video(), 4*time.Second)
		stall := make(chan struct{})
		d.set(stall, nil)
		stopping, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if err := c.rec.Suspend(stopping); err == nil {
			t.Error("the files are finished although the disk stalls")
		}
		c.crash(crashed)

		other := begin(t, dir)
		if other.rec.ID() == c.rec.ID() {
			t.Error("two processes write one recording")
		}
		other.end()
		d.set(nil, nil)
		close(stall)
		synctest.Wait()
		c.root.Close()

		again := begin(t, crashed)
		if again.rec.ID() != c.rec.ID() || len(again.stream.manifest.Reconnects) != 1 {
			t.Error("not continued")
		}
		again.talk(again.audio(), again.video(), 2*time.Second)
		again.end()
	})
	for _, found := range find(t, dir, 2) {
		readRecording(t, found)
	}
	r := readRecording(t, find(t, crashed, 1)[0])
	for _, kind := range []string{audio, video} {
		r := r.of(kind)
		if lost := r.track.Missing[ReasonRestart].Duration(); len(r.track.Parts) != 1 || len(r.track.Missing) != 1 || lost < 1900*ms || lost > 3200*ms {
			t.Errorf("%s: %d parts, gaps %s", kind, len(r.track.Parts), r.gaps())
		}
		decode(t, r.file)
	}
}

// The files of a stream that is back are read while others begin. A recording that ends meanwhile
// waits for them.
func TestAStreamThatIsBackHoldsUpNoOtherWhileItsFilesAreRead(t *testing.T) {
	for name, early := range map[string]bool{"in time": false, "too late": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				c := begin(t, dir)
				c.talk(c.audio(), c.video(), 2*time.Second)
				c.suspend()
				time.Sleep(time.Second)
				root, rec := restart(t, dir, slog.DiscardHandler)
				again := &call{T: t, root: root, rec: rec, pumped: true}
				back := make(chan *Stream, 1)
				if !rec.Reopen("alice", StreamInfo{PeerID: "alice", StreamID: "camera"}, func(s *Stream) { back <- s }) {
					t.Error("alice's stream does not go on")
				}
				if _, err := rec.NewStream(StreamInfo{PeerID: "bob", StreamID: "phone"}); err != nil {
					t.Error(err)
				}
				if !early && <-back == nil {
					t.Error("alice's stream is closed")
				}
				again.end()
			})
			r := readRecording(t, find(t, dir, 1)[0])
			if s := r.manifest.Streams; len(s) != 2 || s[0].ID != "camera" || len(s[0].Reconnects) != 1 || s[0].Ended == nil {
				t.Errorf("streams %+v", s)
			}
			for _, kind := range []string{audio, video} {
				if p := r.of(kind).track.Parts; len(p) != 1 || !p[0].Final || p[0].SHA256 == "" {
					t.Errorf("%s: parts %+v", kind, p)
				}
			}
		})
	}
}

// Files of every codec go on behind what they held, and hold all that was sent.
func TestFilesOfEveryCodecGoOnAfterAStop(t *testing.T) {
	const silent, down = 3 * time.Second, 5 * time.Second
	for _, m := range videoMedia(t) {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				for range 2 {
					time.Sleep(down)
					c := begin(t, dir)
					l := newLink(weather{}, 1)
					l.to = newSource(trackOf(c.stream, TrackInfo{ID: "track", Kind: m.kind}), SourceInfo{Feedback: l}, map[uint8]Format{96: m.format})
					go l.run()
					m.play(l, 1)
					time.Sleep(silent)
					close(l.stop)
					l.to.Close()
					c.suspend()
				}
			})
			r := readRecording(t, find(t, dir, 1)[0])
			missing := r.track.Missing
			if len(r.track.Parts) != 1 || len(missing) != 2 || !near(missing[ReasonRestart].Duration(), down, 200*ms) ||
				!near(missing[ReasonMute].Duration(), silent, 200*ms) {
				t.Errorf("parts %+v, gaps %s", r.track.Parts, r.gaps())
			}
			decode(t, r.file)
			if frames, _ := pictures(t, r.file); !slices.EqualFunc(frames, repeat(m.want, 2), bytes.Equal) {
				t.Errorf("%d frames, want those of %d twice", len(frames), len(m.want))
			}
		})
	}
}

// slowReads is a file that takes long to read.
type slowReads struct{ File }

func (f slowReads) ReadAt(b []byte, at int64) (int, error) {
	time.Sleep(5 * time.Second)
	return f.File.ReadAt(b, at)
}

func TestAStopReadsNoPicturesThatNoneFollowed(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, dir)
		c.talk(c.audio(), c.video(), 20*time.Second)
		c.suspend()
		c = begin(t, dir)
		sound := c.audio()
		c.rec.mu.Lock()
		for _, track := range c.stream.tracks {
			if w, ok := track.writer.(*videoWriter); ok {
				h := w.part.handle
				h.rest()
				reopen := h.reopen
				h.reopen = func(was fs.FileInfo) (File, error) { f, err := reopen(was); return slowReads{f}, err }
			}
		}
		c.rec.mu.Unlock()
		sound.speak(50)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := c.rec.Suspend(ctx); err != nil {
			t.Error(err)
		}
		if m := readRecording(t, find(t, dir, 1)[0]).manifest; m.State != StateComplete {
			t.Errorf("the recording is %s", m.State)
		}
		time.Sleep(time.Minute)
		c.root.Close()
	})
}

func TestWhatIsReadyGoesOnWhetherOrNotSomebodyWouldWait(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, dir)
		c.talk(c.audio(), c.video(), 2*time.Second)
		id := c.rec.ID()
		c.suspend()
		root, err := Open(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		<-root.Recover(context.Background())
		rec, err := root.NewRecording(RecordingInfo{Channel: "room", Bot: "bot", Start: time.Now(), ReconnectWindow: window, NoWait: true})
		if err != nil {
			t.Fatal(err)
		}
		if rec.ID() != id {
			t.Error("another recording began")
		}
		if err := errors.Join(rec.Close(context.Background()), root.Close()); err != nil {
			t.Error(err)
		}
	})
}
