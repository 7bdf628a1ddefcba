package sink

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"recorder/internal/timeline"

	"recorder/internal/container"
)

// window is the reconnect window of these tests.
const window = time.Minute

// begin starts a recording in dir, as a process does: what a crash left there is recovered first.
func begin(t *testing.T, dir string) *call {
	t.Helper()
	root, rec := restart(t, dir, slog.DiscardHandler)
	c := &call{T: t, root: root, rec: rec, pumped: true}
	c.open("alice")
	return c
}

// open has alice's stream come, or come back, under a peer id.
func (c *call) open(peer string) {
	c.Helper()
	owner := peer
	if asleep := c.rec.Asleep("camera"); len(asleep) == 1 {
		owner = asleep[0]
	}
	if c.stream = c.reopen(owner, peer); c.stream != nil {
		return
	}
	var err error
	if c.stream, err = c.rec.NewStream(StreamInfo{PeerID: peer, StreamID: "camera"}); err != nil {
		c.Fatal(err)
	}
}

// reopen has the stream that owner sent go on as a peer's. It is nil if there is none.
func (c *call) reopen(owner, peer string) *Stream {
	result := make(chan *Stream, 1)
	if !c.rec.Reopen(owner, StreamInfo{PeerID: peer, StreamID: "camera"}, func(s *Stream) { result <- s }) {
		return nil
	}
	return <-result
}

// end closes the recording as a process that is told to stop does.
func (c *call) end() {
	c.Helper()
	if err := c.rec.Close(context.Background()); err != nil {
		c.Fatal(err)
	}
	if err := c.root.Close(); err != nil {
		c.Fatal(err)
	}
}

// crash returns what a process that dies now leaves on the disk.
func (c *call) crash(dir string) string {
	c.Helper()
	synctest.Wait() // what the flushers were given they write in no time
	if err := os.CopyFS(dir, os.DirFS(c.root.options.Dir)); err != nil {
		c.Fatal(err)
	}
	return dir
}

// talk sends sound and pictures for a while.
func (c *call) talk(a, v *leg, d time.Duration) {
	for i := range int(d / (40 * ms)) {
		c.step(a, v, i == 0)
	}
}

// At whatever moment the recorder dies, after a repair every file is as its manifest says, and no
// more is missing than the sync interval's worth.
func TestACrashCostsAtMostASyncInterval(t *testing.T) {
	dir, crashes := t.TempDir(), t.TempDir()
	var ends []time.Time
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, dir)
		a, v := c.audio(), c.video()
		c.talk(a, v, 2*time.Second)
		for i := range 30 {
			c.talk(a, v, 120*ms)
			time.Sleep(time.Duration(i) * ms)
			ends = append(ends, time.Now())
			c.crash(filepath.Join(crashes, string(rune('A'+i))))
		}
		c.end()
	})
	for i, died := range ends {
		dir := filepath.Join(crashes, string(rune('A'+i)))
		report, err := Repair(t.Context(), dir, nil)
		if err != nil || !report.OK || len(report.Recordings) != 1 || report.Recordings[0].State != StateRecovered {
			t.Fatalf("repair: %+v %v", report, err)
		}
		r := readRecording(t, filepath.Join(dir, filepath.FromSlash(report.Recordings[0].Dir)))
		for _, kind := range []string{audio, video} {
			r = r.of(kind)
			p := r.track.Parts[0]
			end := r.manifest.Streams[0].Started.UTC.Add(p.Duration.Duration())
			if lost := died.Sub(end); lost > 1200*ms || lost < 0 || !p.Final || !p.Recovered {
				t.Errorf("died at %v: %s lost %v of %+v", died, kind, lost, p)
			}
			for _, g := range r.track.Gaps {
				if g.Reason != ReasonRestart || g.Start.Duration() < p.Duration.Duration()-100*ms {
					t.Errorf("%s ends at %v, gaps %s", kind, p.Duration.Duration(), r.gaps())
				}
			}
			if i%7 == 0 {
				decode(t, r.file)
			}
		}
		before := tree(t, dir)
		if again, err := Repair(t.Context(), dir, nil); err != nil || !again.OK || len(again.Recordings) != 0 {
			t.Errorf("second repair: %+v %v", again, err)
		}
		if !reflect.DeepEqual(before, tree(t, dir)) {
			t.Error("a second repair changed something")
		}
	}
}

// What came more than a second ago is in the files, however seldom they are synced: to the last picture, and
// the last packet but one, before nothing comes any more.
func TestAKillCostsAtMostASecondWhateverTheSyncInterval(t *testing.T) {
	spacing := map[string]time.Duration{audio: 20 * ms, video: 40 * ms}
	for _, every := range []time.Duration{time.Second, 1500 * ms, time.Minute} {
		inCall(t, Options{SyncInterval: every}, func(c *call) {
			d := new(disk)
			c.rec.create = d.wrap(c.rec.create)
			a, v := c.audio(), c.video()
			check := func(audioMost, videoMost time.Duration) {
				most := map[string]time.Duration{audio: audioMost, video: videoMost}
				synctest.Wait()
				for _, track := range c.stream.tracks {
					f, err := os.Open(filepath.Join(c.root.options.Dir, c.rec.Dir(), track.manifest.Parts[0].File))
					if err != nil {
						t.Fatal(err)
					}
					defer f.Close()
					info, err := container.Scan(container.Codec(track.manifest.Parts[0].Codec), f)
					if lost := track.manifest.Parts[0].Frames - info.Frames; err != nil || info.TornBytes > 0 || lost > int64(most[track.kind]/spacing[track.kind]) {
						t.Errorf("sync interval %v: of %s %d of %d are missing after %v, %v", every, track.kind, lost, track.manifest.Parts[0].Frames, c.rec.now(), err)
					}
				}
			}
			c.talk(a, v, 2*time.Second)
			for range 15 {
				c.talk(a, v, 200*ms)
				check(time.Second, time.Second)
			}
			c.wait(time.Second)
			check(20*ms, 0)
			if n, most := d.synced(), 2*(int(c.rec.now()/every)+1); n > most {
				t.Errorf("sync interval %v: %d syncs in %v, want at most %d", every, n, c.rec.now(), most)
			}
			c.talk(a, v, time.Second)
		})
	}
}

// tree is every file below dir.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			var b []byte
			b, err = os.ReadFile(filepath.Join(dir, name))
			files[name] = string(b)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// A stream that comes back after a crash, and after another, goes on in the files it had; the time
// between is a gap.
func TestARestartIsAGapInTheSameFiles(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	synctest.Test(t, func(t *testing.T) {
		var id string
		for i, dir := range dirs {
			c := begin(t, dir)
			if i > 0 && (c.rec.ID() != id || c.stream.manifest.Reconnects[i-1].Resumed == nil) {
				t.Fatalf("another recording after the restart: %+v", c.stream.manifest)
			}
			id = c.rec.ID()
			a, v := c.audio(), c.video()
			a.ssrc, a.rtp = uint32(i), uint32(i)*77777 // another connection's
			c.talk(a, v, 4*time.Second)
			if i < len(dirs)-1 {
				c.crash(dirs[i+1])
				time.Sleep(5 * time.Second)
			} else {
				a.Close()
				v.Close()
				c.wait(time.Second)
			}
			if i == 0 {
				defer c.end()
			} else {
				c.end()
			}
		}
	})
	found, _ := filepath.Glob(filepath.Join(dirs[2], "*", "*"))
	if len(found) != 1 {
		t.Fatalf("recordings %q", found)
	}
	r := readRecording(t, found[0])
	if r.manifest.State != StateComplete || len(r.manifest.Streams) != 1 || len(r.manifest.Streams[0].Tracks) != 2 {
		t.Fatalf("manifest %+v", r.manifest)
	}
	for _, kind := range []string{audio, video} {
		r := r.of(kind)
		if len(r.track.Parts) != 1 || r.track.Parts[0].Recovered {
			t.Errorf("%s: parts %+v", kind, r.track.Parts)
		}
		if len(r.track.Gaps) != 2 {
			t.Fatalf("%s: gaps %s", kind, r.gaps())
		}
		var missing time.Duration
		for i, g := range r.track.Gaps {
			end := time.Duration(9*(i+1)) * time.Second
			if g.Reason != ReasonRestart || g.Duration < Seconds(4900*ms) || g.Duration > Seconds(6200*ms) || !near((g.Start+g.Duration).Duration(), end, 50*ms) {
				t.Errorf("%s: gaps %s", kind, r.gaps())
			}
			missing += g.Duration.Duration()
		}
		if !near(r.track.Expected.Duration(), 22*time.Second, 150*ms) || !near(r.track.Recorded.Duration(), 22*time.Second-missing, 150*ms) {
			t.Errorf("%s: %v of %v, gaps %s", kind, r.track.Recorded.Duration(), r.track.Expected.Duration(), r.gaps())
		}
		decode(t, r.file)
	}
	if length, _ := r.audioFile(t); !near(length, 22*time.Second, 40*ms) {
		t.Errorf("sound lasts %v", length)
	}
	_, pts := pictures(t, r.of(video).file)
	if last := pts[len(pts)-1]; !near(timeline.ToDuration(last, 90000), 22*time.Second-40*ms, 40*ms) {
		t.Errorf("the last picture is at %v", timeline.ToDuration(last, 90000))
	}
	opusInfo(t, r.of(audio).file)
}

// A recorder that dies again before it has joined leaves the recording to the next one.
func TestARecordingGoesOnAfterSeveralRestarts(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, first)
		c.talk(c.audio(), nil, 2*time.Second)
		c.crash(second)
		if report, err := Repair(context.Background(), second, nil); err != nil || len(report.Recordings) != 1 {
			t.Errorf("repair: %+v %v", report, err)
		}
		again := begin(t, second)
		if again.rec.ID() != c.rec.ID() || len(again.stream.manifest.Reconnects) != 1 {
			t.Error("another recording was begun")
		}
		again.end()
		c.end()
		after := begin(t, second) // that one was finished
		if after.rec.ID() == again.rec.ID() {
			t.Error("a finished recording was continued")
		}
		after.end()
	})
}

// A stream of a continued recording that does not come back stays as it was recovered, and one that
// comes back too late is another.
func TestAStreamThatReturnsTooLateIsAnother(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, first)
		a, v := c.audio(), c.video()
		c.talk(a, v, 3*time.Second)
		c.crash(second)
		defer c.end()

		root, err := Open(Options{Dir: second, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		<-root.Recover(t.Context())
		rec, err := root.NewRecording(RecordingInfo{Channel: "room", Bot: "bot", Start: time.Now(), ReconnectWindow: window})
		if err != nil || rec.ID() != c.rec.ID() {
			t.Fatalf("not continued: %v", err)
		}
		time.Sleep(window + time.Second)
		late := &call{T: t, root: root, rec: rec, pumped: true}
		late.open("alice")
		late.talk(late.audio(), nil, 2*time.Second)
		late.end()
	})
	found, _ := filepath.Glob(filepath.Join(second, "*", "*"))
	r := readRecording(t, found[0])
	if s := r.manifest.Streams; len(s) != 2 || s[0].EndReason != Interrupted || s[0].Dir == s[1].Dir || len(s[0].Reconnects) != 0 {
		t.Errorf("streams %+v", s)
	}
}

// What is not the interrupted recording of the same bot and channel, or not any more, is not
// continued.
func TestWhatIsNotContinued(t *testing.T) {
	for name, info := range map[string]RecordingInfo{
		"another channel": {Channel: "hall", Bot: "bot", ReconnectWindow: window},
		"another bot":     {Channel: "room", Bot: "robot", ReconnectWindow: window},
		"too late":        {Channel: "room", Bot: "bot", ReconnectWindow: 4 * time.Second},
		"no window":       {Channel: "room", Bot: "bot"},
	} {
		t.Run(name, func(t *testing.T) {
			first, second := t.TempDir(), t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				c := begin(t, first)
				c.talk(c.audio(), nil, 2*time.Second)
				c.crash(second)
				defer c.end()
				time.Sleep(5 * time.Second)
				root, err := Open(Options{Dir: second, Logger: slog.New(slog.DiscardHandler)})
				if err != nil {
					t.Fatal(err)
				}
				defer root.Close()
				<-root.Recover(t.Context())
				rec, err := root.NewRecording(info)
				if err != nil || rec.ID() == c.rec.ID() {
					t.Errorf("continued: %v", err)
				}
				rec.Close(t.Context())
			})
		})
	}
}

// Two recorders on one directory: neither takes the other's recordings for left over.
func TestARecordingInProgressIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, dir)
		c.talk(c.audio(), nil, 2*time.Second)
		synctest.Wait()
		before := tree(t, dir)
		report, err := Repair(t.Context(), dir, nil)
		if err != nil || !report.OK || len(report.Recordings) != 1 || !report.Recordings[0].Busy || report.Recordings[0].State != StateRecording {
			t.Errorf("repair: %+v %v", report, err)
		}
		if !reflect.DeepEqual(before, tree(t, dir)) {
			t.Error("something was changed")
		}
		other := begin(t, dir)
		if other.rec.ID() == c.rec.ID() {
			t.Error("the other recorder's recording was continued")
		}
		other.end()
		c.end()
		if report, err := Repair(t.Context(), dir, nil); err != nil || len(report.Recordings) != 0 {
			t.Errorf("repair of finished recordings: %+v %v", report, err)
		}
	})
}

// A crash may come before the manifest, before a file, or before anything is in it.
func TestRepairOfHardlyAnything(t *testing.T) {
	root := tempRoot(t)
	bare := newManifest("room")
	st, err := newStore(root, bare)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.root().WriteFile(manifestTemp, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	st.Close()
	if err := root.MkdirAll("somebody/elses", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := root.WriteFile("somebody/elses/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}

	m := newManifest("room")
	st, err = newStore(root, m)
	if err != nil {
		t.Fatal(err)
	}
	track := &ManifestTrack{ID: "t", Kind: audio, Completeness: 1}
	m.Peers = []*ManifestPeer{{ID: "p", Joined: m.Started}}
	m.Streams = []*ManifestStream{{ID: "s", PeerID: "p", Dir: "p/s", Started: m.Started, Tracks: []*ManifestTrack{track}}}
	for _, name := range []string{"p/s/audio-1.ogg", "p/s/audio-2.ogg"} {
		track.Parts = append(track.Parts, &ManifestPart{File: name, Codec: "opus", ClockRate: 48000, Channels: 1, Frames: 70})
	}
	f, err := st.Create("p/s/audio-1.ogg")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("OggS\x00\x02"), 0); err != nil {
		t.Fatal(err)
	}
	f.Close()
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Save(b); err != nil {
		t.Fatal(err)
	}
	st.Close()

	report, err := Repair(t.Context(), root.Name(), nil)
	if err != nil || !report.OK || len(report.Recordings) != 1 || len(report.Recordings[0].Parts) != 2 {
		t.Fatalf("repair: %+v %v", report, err)
	}
	if _, err := root.Stat(st.Dir()); err != nil {
		t.Error(err)
	}
	names := entries(t, root)
	if slices.ContainsFunc(names, func(n string) bool { return filepath.Base(n) == manifestTemp }) || !slices.Contains(names, "somebody/elses/file") {
		t.Errorf("left %q", names)
	}
	r := readRecording(t, filepath.Join(root.Name(), filepath.FromSlash(st.Dir())))
	for _, p := range r.track.Parts {
		if p.Error == "" || p.Frames != 0 || p.Final {
			t.Errorf("part %+v", p)
		}
	}
	if p := r.manifest.Peers[0]; p.Left == nil {
		t.Error("the peer never left")
	}
}

// A stream that was closed while the disk stalled, and whose recorder then died, lacks what was not
// written: that is a gap, and the stream's end stays.
func TestWhatAClosedStreamLostInACrashIsAGap(t *testing.T) {
	dir, crashed := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, dir)
		d := new(disk)
		c.rec.create = d.wrap(c.rec.create)
		a, v := c.audio(), c.video()
		c.talk(a, v, 2*time.Second)
		stall := make(chan struct{})
		d.set(stall, nil)
		c.talk(a, v, 5*time.Second)
		c.stream.Close("left")
		c.wait(3 * time.Second)
		c.crash(crashed)
		d.set(nil, nil)
		close(stall)
		c.end()
	})
	report, err := Repair(t.Context(), crashed, nil)
	if err != nil || !report.OK {
		t.Fatalf("repair: %+v %v", report, err)
	}
	r := readRecording(t, filepath.Join(crashed, filepath.FromSlash(report.Recordings[0].Dir)))
	for _, kind := range []string{audio, video} {
		r := r.of(kind)
		held := r.track.Parts[0].Duration.Duration()
		if g := r.track.Gaps; len(g) != 1 || g[0].Reason != ReasonRestart || !near(g[0].Duration.Duration(), 7*time.Second-held, 50*ms) {
			t.Errorf("%s holds %v of 7 s, gaps %s", kind, held, r.gaps())
		}
		if !near(r.track.Recorded.Duration(), held, 50*ms) {
			t.Errorf("%s holds %v, the manifest says %v", kind, held, r.track.Recorded.Duration())
		}
	}
	if s := r.manifest.Streams[0]; s.EndReason != "left" || !near(r.manifest.position(*s.Ended), 7*time.Second, 50*ms) {
		t.Errorf("ended %+v, %s", s.Ended, s.EndReason)
	}
}

// A file that cannot be repaired, whatever has become of it, holds up no other of its recording.
func TestAFileThatCannotBeRepairedHoldsUpNoOther(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, first)
		c.talk(c.audio(), c.video(), 2*time.Second)
		c.crash(second)
		c.end()
	})
	files, _ := filepath.Glob(filepath.Join(second, "*", "*", "*", "*", "*.ogg"))
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/nowhere", files[0]); err != nil {
		t.Fatal(err)
	}
	report, err := Repair(context.Background(), second, nil)
	if err != nil || !report.OK || report.Recordings[0].State != StateRecovered {
		t.Fatalf("repair: %+v %v", report, err)
	}
	if again, err := Repair(context.Background(), second, nil); err != nil || len(again.Recordings) != 0 {
		t.Errorf("second repair: %+v %v", again, err)
	}
	if err := os.Remove(files[0]); err != nil { // which verify would mind, rightly
		t.Fatal(err)
	}
	r := readRecording(t, filepath.Join(second, filepath.FromSlash(report.Recordings[0].Dir)))
	if p := r.of(audio).track.Parts[0]; p.Final || p.Error == "" || p.Frames != 0 {
		t.Errorf("the file that is none: %+v", p)
	}
	if p := r.of(video).track.Parts[0]; !p.Final || p.Error != "" || p.Frames == 0 {
		t.Errorf("the other one: %+v", p)
	}
	if _, err := Repair(t.Context(), filepath.Join(second, "nowhere"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("repair of nothing: %v", err)
	}
}

// A crash does not move the end of a recording, however much silence was suppressed before: what a
// merged gap holds of comfort noise is accounted for once.
func TestACrashAfterSuppressedSilenceMovesNoEnd(t *testing.T) {
	dir, crashed := t.TempDir(), t.TempDir()
	var died time.Duration
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, dir)
		a := c.audio()
		a.speak(100)
		for range 300 {
			a.put(tone(a.seq))
			a.rtp += 960 * 20
			a.wait(400 * ms)
		}
		a.speak(100)
		c.wait(1200 * ms) // all of it is synced
		died = c.rec.now()
		c.crash(crashed)
		c.end()
	})
	report, err := Repair(t.Context(), crashed, nil)
	if err != nil || !report.OK {
		t.Fatalf("repair: %+v %v", report, err)
	}
	r := readRecording(t, filepath.Join(crashed, filepath.FromSlash(report.Recordings[0].Dir))).of(audio)
	if ended := r.manifest.position(*r.manifest.Ended); ended > died || ended < died-1300*ms {
		t.Errorf("died at %v, ended at %v", died, ended)
	}
	if lost := r.track.Missing[ReasonRestart].Duration(); lost > 40*ms {
		t.Errorf("%v lost: %s", lost, r.gaps())
	}
	if r.track.Completeness < 0.99 {
		t.Errorf("completeness %v", r.track.Completeness)
	}
	if end := r.track.End.Duration(); !near(end, 124*time.Second, 100*ms) {
		t.Errorf("track ends at %v", end)
	}
	if silent := r.track.Missing[ReasonMute].Duration(); !near(silent, 300*380*ms, 400*ms) {
		t.Errorf("silent for %v", silent)
	}
}

// A crash while one recording takes the place of another is followed by the one that goes on, whichever
// was written last.
func TestAFullRecordingIsNotContinued(t *testing.T) {
	dir, crashed := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, dir)
		a, v := c.audio(), c.video()
		c.talk(a, v, 2*time.Second)
		next, err := c.root.NewRecording(RecordingInfo{Channel: "room", Bot: "bot", ReconnectWindow: window, Follows: c.rec})
		if err != nil {
			t.Fatal(err)
		}
		c.talk(a, v, 3*time.Second)
		c.crash(crashed)
		if err := next.Close(context.Background()); err != nil {
			t.Error(err)
		}
		c.end()

		again := begin(t, crashed)
		if again.rec.ID() != next.ID() {
			t.Error("the next recording does not go on")
		}
		again.end()
	})
}

// Of a recording that may go on nothing is read for hashes before it does: what goes on is hashed at its
// end, and what does not is in no hurry.
func TestWhatIsRepairedGoesOnBeforeItIsHashed(t *testing.T) {
	dir, crashed := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, dir)
		c.talk(c.audio(), c.video(), 2*time.Second)
		c.crash(crashed)
		c.end()

		root, err := Open(Options{Dir: crashed, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		<-root.Recover(t.Context())
		for _, track := range left(t, crashed)["room"].Streams[0].Tracks {
			if p := track.Parts[0]; !p.Final || p.SHA256 != "" {
				t.Errorf("part %+v", p)
			}
		}
		time.Sleep(2 * window)
		for _, track := range left(t, crashed)["room"].Streams[0].Tracks {
			if p := track.Parts[0]; p.SHA256 == "" {
				t.Errorf("part %+v", p)
			}
		}
		root.Close()
	})
}
