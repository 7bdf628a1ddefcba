package sink

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"recorder/internal/container"
)

// writeCounter counts the writes to files, by their extension.
type writeCounter struct {
	mu     sync.Mutex
	writes map[string]int
}

type countedFile struct {
	File
	ext     string
	counter *writeCounter
}

func (f countedFile) WriteAt(b []byte, off int64) (int, error) {
	f.counter.mu.Lock()
	f.counter.writes[f.ext]++
	f.counter.mu.Unlock()
	return f.File.WriteAt(b, off)
}

// A file is written once a second, and the header of a video once a minute besides, however many
// packets come.
func TestFilesAreWrittenOnceASecond(t *testing.T) {
	const seconds = 150
	counter := writeCounter{writes: make(map[string]int)}
	inCall(t, Options{}, func(c *call) {
		create := c.rec.create
		c.rec.create = func(name string) (File, error) {
			f, err := create(name)
			return countedFile{f, filepath.Ext(name), &counter}, err
		}
		a, v := c.audio(), c.video()
		for range seconds * 25 {
			c.step(a, v, true)
		}
		a.Close()
		v.Close()
	})
	const ends = 2 // what is left when the recording ends, and the header then
	headers := map[string]int{".ogg": 0, ".ivf": 1}
	for ext, n := range counter.writes {
		if most := seconds + headers[ext] + ends; n > most || n < seconds*9/10 {
			t.Errorf("%d writes to the %s file in %d s, want at most %d", n, ext, seconds, most)
		}
	}
	if len(counter.writes) != 2 {
		t.Errorf("writes to %v, want two files", counter.writes)
	}
}

// Players need no duration, and each change of a header is a write and a block to sync.
func TestAHeaderSaysTheDurationOnceTheFileIsFinal(t *testing.T) {
	inCall(t, Options{}, func(c *call) {
		v := c.video()
		length := func() uint32 {
			synctest.Wait() // nothing is being written
			b, err := os.ReadFile(filepath.Join(c.root.options.Dir, c.rec.Dir(), c.stream.tracks[0].manifest.Parts[0].File))
			if err != nil {
				t.Fatal(err)
			}
			return binary.LittleEndian.Uint32(b[24:])
		}
		v.film(25*100, true)
		if n := length(); n != 0 {
			t.Errorf("the header of a growing file says %d", n)
		}
		v.Close()
		c.stream.Close(NotBack)
		c.wait(time.Second)
		if n := length(); n != 100*container.VideoClockRate {
			t.Errorf("the header of 100 s says %d ticks", n)
		}
	})
}

// syncing is a file whose syncs last until they are let go.
type syncing struct {
	File
	begun, end chan struct{}
}

func (f syncing) Sync() error {
	f.begun <- struct{}{}
	<-f.end
	return f.File.Sync()
}

// A disk that takes its time to sync holds no buffers: other files fill them meanwhile.
func TestBufferIsSpareWhileTheDiskSyncs(t *testing.T) {
	for spares.get(container.AV1) != nil {
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "video-1.ivf"))
	if err != nil {
		t.Fatal(err)
	}
	ivf, err := container.NewIVF(container.AV1, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	f, closed := syncing{file, make(chan struct{}), make(chan struct{})}, make(chan partResult)
	p := startPart(container.AV1, nil, ivf, testHandle(f), func() {}, func(r partResult) { closed <- r })
	if !p.writeVideo(0, true, make([]byte, 10_000)) {
		t.Fatal("a frame was refused")
	}
	p.seal(0, true)
	<-f.begun
	if b := spares.get(container.AV1); cap(b) < 10_000 {
		t.Errorf("while the disk syncs there is a buffer of %d bytes, want the one that was written", cap(b))
	}
	f.end <- struct{}{}
	p.close()
	<-f.begun
	f.end <- struct{}{}
	if r := <-closed; r.err != nil || !r.final {
		t.Errorf("%+v", r)
	}
}

// testHandle is that of a file that is never opened again.
func testHandle(f File) *handle {
	return &handle{pool: newDescriptors(1, slog.New(slog.DiscardHandler)), create: func() (File, error) { return f, nil }}
}

// noted is a file that notes what is done to it, and fails the first write if told to.
type noted struct {
	*os.File
	calls   []string
	written int
	fail    error
}

func (f *noted) WriteAt(b []byte, off int64) (int, error) {
	if err := f.fail; err != nil {
		f.fail = nil
		return 0, err
	}
	f.calls, f.written = append(f.calls, "write"), f.written+len(b)
	return f.File.WriteAt(b, off)
}

func (f *noted) Sync() error {
	f.calls = append(f.calls, "sync")
	return f.File.Sync()
}

func (f *noted) Close() error {
	f.calls = append(f.calls, "close")
	return f.File.Close()
}

// resumed is a file that is gone on with, and what becomes of it.
func resumed(t *testing.T, c container.Codec, content []byte) (*noted, *part, <-chan partResult) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "part")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := &noted{File: f}
	r := &resumedFile{handle: testHandle(file)}
	if c == container.Opus {
		r.audio, r.info, err = container.ResumeOgg(f, 0)
	} else {
		r.video, r.info, err = container.ResumeIVF(f)
	}
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan partResult, 1)
	return file, resumePart(c, r, func() {}, func(r partResult) { done <- r }), done
}

// A file that was gone on with in vain is on the disk as it was before, its end of stream included,
// when it is called final.
func TestFileThatIsResumedInVainIsSynced(t *testing.T) {
	ogg, err := container.NewOgg(container.OggOptions{Serial: 1, Channels: 1})
	if err != nil {
		t.Fatal(err)
	}
	b := ogg.AppendHeader(nil)
	for i := range uint16(100) {
		b = ogg.AppendPacket(b, tone(i), 960)
	}
	file, p, done := resumed(t, container.Opus, ogg.AppendEOS(b))
	p.close()
	if r := <-done; r.err != nil || !r.final {
		t.Errorf("%+v", r)
	}
	if n := len(file.calls); n < 3 || !slices.Equal(file.calls[n-3:], []string{"write", "sync", "close"}) {
		t.Errorf("it was %v", file.calls)
	}
}

// When the disk refuses what follows a long file, the file itself is not written again.
func TestRefusedWriteLeavesALongFileAlone(t *testing.T) {
	ivf, err := container.NewIVF(container.VP8, 160, 120)
	if err != nil {
		t.Fatal(err)
	}
	b, frame := ivf.AppendHeader(nil), make([]byte, 1<<20)
	for i := range int64(20) {
		b = ivf.AppendFrame(b, i*3000, i == 0, frame)
	}
	file, p, done := resumed(t, container.VP8, b)
	file.fail = errors.New("no space left on device")
	p.writeVideo(90_000, false, frame)
	p.close()
	if r := <-done; r.err == nil || !r.final || r.size != int64(len(b)) {
		t.Errorf("%+v, want an error and the %d bytes before it", r, len(b))
	}
	if most := partWrite + resumeReach + 4096; file.written > most {
		t.Errorf("%d bytes were written again, want at most %d", file.written, most)
	}
}
