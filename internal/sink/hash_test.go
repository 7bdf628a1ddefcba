package sink

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// slowly opens files that are read no sooner than released.
func slowly(open opener, release chan struct{}) opener {
	return func(name string) (io.ReadCloser, error) {
		<-release
		return open(name)
	}
}

// leave records a few seconds of sound and pictures and closes the recording without leaving it the
// time to read a file again. It returns the recording's directory.
func leave(t *testing.T, dir string) (name string) {
	t.Helper()
	c := startCall(t, Options{Dir: dir})
	release := make(chan struct{})
	c.rec.open = slowly(c.rec.open, release)
	c.talk(c.audio(), c.video(), 3*time.Second)
	ctx, cancel := context.WithTimeout(context.Background(), 9*time.Second)
	defer cancel()
	if err := c.rec.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
	if ctx.Err() == nil {
		t.Error("closed before its time was over")
	}
	name = filepath.Join(dir, filepath.FromSlash(c.rec.Dir()))
	checkFinal(t, name, 1)
	c.root.Close() // as the process ends
	close(release)
	synctest.Wait()
	checkFinal(t, name, 1)
	return name
}

// checkFinal wants a recording all of whose files are final, and so many without their hash.
func checkFinal(t *testing.T, dir string, unhashed int) {
	t.Helper()
	m := readRecording(t, dir).manifest
	if m.State != StateComplete || m.Ended == nil {
		t.Errorf("state %q", m.State)
	}
	files := 0
	for _, s := range m.Streams {
		for _, track := range s.Tracks {
			for _, p := range track.Parts {
				if files++; !p.Final || p.Error != "" || p.Frames == 0 {
					t.Errorf("not final: %+v", p)
				}
				if p.SHA256 == "" {
					unhashed--
				}
			}
		}
	}
	if files != 2 || unhashed != 0 {
		t.Errorf("%d files, %d fewer without hash than expected", files, unhashed)
	}
	report, err := Verify(t.Context(), dir, nil)
	if err != nil || !report.OK {
		t.Errorf("verify: %+v %v", report, err)
	}
}

// A file that has to be read for its hash holds up no Close: all files are final and the manifest
// says so before. The hash is made up for by the next start, and by repair.
func TestAFileIsFinalBeforeItsHashIsKnown(t *testing.T) {
	for name, makeUp := range map[string]func(t *testing.T, dir string){
		"the next start": func(t *testing.T, dir string) {
			root, err := Open(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			<-root.Recover(t.Context())
			synctest.Wait()
			root.Close()
		},
		"repair": func(t *testing.T, dir string) {
			report, err := Repair(t.Context(), dir, nil)
			if err != nil || !report.OK || len(report.Recordings) != 1 || report.Recordings[0].Hashed != 1 {
				t.Errorf("repair: %+v %v", report, err)
			}
			if report, err = Repair(t.Context(), dir, nil); err != nil || !report.OK || len(report.Recordings) != 0 {
				t.Errorf("repair again: %+v %v", report, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				left := leave(t, dir)
				makeUp(t, dir)
				checkFinal(t, left, 0)
			})
		})
	}
}

// suspendUnhashed records a few seconds and stops the process, which waits a moment for hashes. Before that the
// stream ends, if it is over. It returns the recording's directory.
func suspendUnhashed(t *testing.T, dir string, over bool) (name string) {
	t.Helper()
	c := begin(t, dir)
	release := make(chan struct{})
	c.rec.open = slowly(c.rec.open, release)
	c.talk(c.audio(), c.video(), 3*time.Second)
	if over {
		c.stream.Close("over")
	}
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 9*time.Second)
	defer cancel()
	if err := c.rec.Suspend(ctx); err != nil {
		t.Errorf("suspend: %v", err)
	}
	if took := time.Since(begun); took != suspendHashing {
		t.Errorf("it took %v", took)
	}
	name = filepath.Join(dir, filepath.FromSlash(c.rec.Dir()))
	checkFinal(t, name, 1)
	c.root.Close()
	close(release)
	synctest.Wait()
	return name
}

// A stop that a start may follow waits for hashes a moment only: nothing is recorded until then. Files of
// streams that may come back are not read before that is out of question.
func TestAStopWaitsAMomentForHashes(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		left := suspendUnhashed(t, dir, false)
		root, err := Open(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		<-root.Recover(t.Context())
		time.Sleep(window - suspendHashing - time.Second)
		checkFinal(t, left, 1)
		time.Sleep(2 * time.Second)
		checkFinal(t, left, 0)
		root.Close()
	})
}

// The files of streams that were over at the stop are hashed while the recording goes on.
func TestARecordingThatGoesOnGetsTheHashesItLacks(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		left := suspendUnhashed(t, dir, true)
		root, rec := restart(t, dir, slog.DiscardHandler)
		time.Sleep(2 * saveInterval)
		m := readRecording(t, left).manifest
		for _, track := range m.Streams[0].Tracks {
			if m.State != StateRecording || track.Parts[0].SHA256 == "" {
				t.Errorf("%s, part %+v", m.State, track.Parts[0])
			}
		}
		(&call{T: t, root: root, rec: rec}).end()
	})
}

// A stream that does not come back while its recording goes on has its files hashed once its time is over.
func TestAStreamThatStaysAwayGetsTheHashesItLacks(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		left := suspendUnhashed(t, dir, false)
		root, rec := restart(t, dir, slog.DiscardHandler)
		hashed := func() bool {
			synctest.Wait()
			return len(readRecording(t, left).manifest.Streams[0].unhashed()) == 0
		}
		time.Sleep(window - suspendHashing - time.Second)
		if hashed() {
			t.Error("hashed although it may come back")
		}
		time.Sleep(time.Second + 2*saveInterval)
		if !hashed() {
			t.Error("not hashed although its time is over")
		}
		(&call{T: t, root: root, rec: rec}).end()
	})
}

// Of a stream that is back the files that do not go on are hashed while others do.
func TestTheEarlierFilesOfAStreamThatIsBackGetTheHashesTheyLack(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, dir)
		release := make(chan struct{})
		c.rec.open = slowly(c.rec.open, release)
		v := c.video()
		v.film(25, true)
		v.pt = ptVP9
		v.put(append([]byte{0x08 | 0x04}, vp9Key16...))
		v.wait(3 * time.Second)
		c.suspend()
		close(release)
		synctest.Wait()
		again := begin(t, dir)
		time.Sleep(2 * saveInterval)
		synctest.Wait() // or one is being entered
		parts := again.stream.manifest.Tracks[0].Parts
		if len(parts) != 2 || parts[0].SHA256 == "" || parts[1].Final {
			t.Errorf("parts %+v and %+v", parts[0], parts[1])
		}
		again.end()
	})
}

// A hash is that of a file which is as its manifest says, and of no other.
func TestAFileThatChangedGetsNoHash(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		left := leave(t, dir)
		file := readRecording(t, left).of(video).file
		if err := os.Truncate(file, 5000); err != nil {
			t.Fatal(err)
		}
		report, err := Repair(t.Context(), dir, nil)
		if err != nil || report.OK || len(report.Recordings) != 1 || len(report.Recordings[0].Problems) != 1 {
			t.Errorf("repair: %+v %v", report, err)
		}
		if m, err := os.ReadFile(filepath.Join(left, ManifestName)); err != nil || bytes.Count(m, []byte(`"sha256"`)) != 1 {
			t.Errorf("it got a hash: %v", err)
		}
	})
}

// Files that end during the call are hashed during the call, one at a time.
func TestFilesAreHashedDuringTheCall(t *testing.T) {
	inCall(t, Options{}, func(c *call) {
		release := make(chan struct{})
		open, reading := c.rec.open, 0
		c.rec.open = func(name string) (io.ReadCloser, error) {
			reading++
			<-release
			reading--
			return open(name)
		}
		v := c.video()
		for range 3 {
			for range 25 {
				v.put(vp8Payload([]byte{0x10}, testPicture(true)...))
				v.rtp += 3600
				c.wait(40 * ms)
			}
			v.pt ^= ptVP8 ^ ptVP9
			for range 25 {
				v.put(append([]byte{0x08 | 0x04}, vp9Key16...))
				v.rtp += 3600
				c.wait(40 * ms)
			}
			v.pt ^= ptVP8 ^ ptVP9
		}
		synctest.Wait()
		parts := c.stream.tracks[0].manifest.Parts
		if len(parts) != 6 || reading != 1 {
			t.Fatalf("%d files, %d of them being read", len(parts), reading)
		}
		close(release)
		synctest.Wait()
		for i, p := range parts {
			if ended := i < len(parts)-1; p.Final != ended || (p.SHA256 != "") != ended {
				t.Errorf("%s: final %v, hash %q", p.File, p.Final, p.SHA256)
			}
		}
	})
}
