package sink

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"sync"
	"testing"

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
	headers := map[string]int{".ogg": 0, ".ivf": 1 + seconds/60}
	for ext, n := range counter.writes {
		if most := seconds + headers[ext] + ends; n > most || n < seconds*9/10 {
			t.Errorf("%d writes to the %s file in %d s, want at most %d", n, ext, seconds, most)
		}
	}
	if len(counter.writes) != 2 {
		t.Errorf("writes to %v, want two files", counter.writes)
	}
}

// While a video is recorded its header counts the pictures up to a minute ago, or later ones.
func TestHeaderIsAMinuteBehindAtMost(t *testing.T) {
	inCall(t, Options{}, func(c *call) {
		v := c.video()
		for second := 1; second <= 200; second++ {
			v.film(25, true)
			if second < 4 {
				continue // nothing is written yet
			}
			b, err := os.ReadFile(filepath.Join(c.root.options.Dir, c.rec.Dir(), c.stream.tracks[0].manifest.Parts[0].File))
			if err != nil {
				t.Fatal(err)
			}
			frames, _ := ivfFrames(t, b)
			if count := int(binary.LittleEndian.Uint32(b[24:])); count > len(frames) || count < len(frames)-25*61 {
				t.Fatalf("after %d s the header counts %d of %d pictures", second, count, len(frames))
			}
		}
		v.Close()
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
	p := startPart(container.AV1, nil, ivf, func() (File, error) { return f, nil }, func() {}, func(r partResult) { closed <- r })
	if !p.writeVideo(0, true, make([]byte, 10_000)) {
		t.Fatal("a frame was refused")
	}
	p.seal(0)
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
