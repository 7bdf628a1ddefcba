package container

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memFile is a File in memory.
type memFile struct{ b []byte }

func (f *memFile) ReadAt(b []byte, off int64) (int, error) {
	return bytes.NewReader(f.b).ReadAt(b, off)
}

func (f *memFile) WriteAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) > int64(len(f.b)) {
		return 0, io.ErrShortWrite // every patch lies within what is written
	}
	return copy(f.b[off:], b), nil
}

func (f *memFile) Truncate(size int64) error {
	f.b = f.b[:size]
	return nil
}

// tool is the path of an external program, which the recorder's own CI insists on.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("RECORDER_E2E") == "required" {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// run returns a program's standard output; anything on standard error fails the test.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	var out, complaints bytes.Buffer
	cmd := exec.Command(tool(t, name), args...)
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil || complaints.Len() > 0 {
		t.Fatalf("%s %q: %v\n%s", name, args, err, &complaints)
	}
	return out.String()
}

func writeFile(t *testing.T, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// sample is a small file of each format, with the offsets at which it may be cut without loss.
type sample struct {
	name   string
	codec  Codec
	bytes  []byte
	header int
	ends   []int // behind each unit (Ogg: page), ascending
	frames []int64
	resume func(t *testing.T, f *memFile) // appends what is missing of bytes
}

func samples(t *testing.T) []sample {
	t.Helper()
	return []sample{oggSample(t), ivfSample(t), matroskaSample(t)}
}

// whole is how many frames the first n bytes hold.
func (s sample) whole(n int) (frames int64) {
	for i, end := range s.ends {
		if end <= n {
			frames = s.frames[i]
		}
	}
	return frames
}

func TestRepairMakesAnyPrefixACleanFile(t *testing.T) {
	for _, s := range samples(t) {
		t.Run(s.name, func(t *testing.T) {
			for n := range len(s.bytes) + 1 {
				f := &memFile{bytes.Clone(s.bytes[:n])}
				r, err := Repair(s.codec, f)
				if n < s.header {
					if err == nil {
						t.Fatalf("%d bytes: half a header was repaired", n)
					}
					if len(f.b) != n {
						t.Fatalf("%d bytes: a file that cannot be repaired was changed", n)
					}
					continue
				}
				if err != nil {
					t.Fatalf("%d bytes: %v", n, err)
				}
				info, err := Scan(s.codec, bytes.NewReader(f.b))
				if err != nil || !info.Clean() {
					t.Fatalf("%d bytes: after repair: %v %v", n, err, info.Faults())
				}
				if info.Frames != s.whole(n) || r.Frames != info.Frames {
					t.Fatalf("%d bytes: %d frames, reported %d, want %d", n, info.Frames, r.Frames, s.whole(n))
				}
				before := bytes.Clone(f.b)
				if r, err := Repair(s.codec, f); err != nil || r.Changed || r.Cut != 0 || !bytes.Equal(before, f.b) {
					t.Fatalf("%d bytes: a second repair changed the file: %v", n, err)
				}
			}
		})
	}
}

func TestResumeGoesOnWhereTheWholeUnitsEnd(t *testing.T) {
	for _, s := range samples(t) {
		t.Run(s.name, func(t *testing.T) {
			for n := s.header; n <= len(s.bytes); n++ {
				for _, repaired := range []bool{false, true} {
					f := &memFile{bytes.Clone(s.bytes[:n])}
					if repaired {
						if _, err := Repair(s.codec, f); err != nil {
							t.Fatal(err)
						}
					}
					s.resume(t, f)
					info, err := Scan(s.codec, bytes.NewReader(f.b))
					if err != nil || !info.Clean() || info.Frames != s.frames[len(s.frames)-1] {
						t.Fatalf("%d bytes, repaired %v: %+v %v %v", n, repaired, info, info.Faults(), err)
					}
				}
			}
		})
	}
}

func TestScanCountsATornTail(t *testing.T) {
	for _, s := range samples(t) {
		torn := append(bytes.Clone(s.bytes[:s.ends[1]]), 0, 0, 0)
		info, err := Scan(s.codec, bytes.NewReader(torn))
		if err != nil || info.TornBytes != 3 || info.End != int64(s.ends[1]) || info.Clean() {
			t.Errorf("%s: %+v %v", s.name, info, err)
		}
	}
}

// failingReader breaks after its bytes, as a bad disk does.
type failingReader struct{ io.Reader }

func (r failingReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if err == io.EOF {
		err = os.ErrPermission
	}
	return n, err
}

func TestAReadErrorIsNotATornTail(t *testing.T) {
	for _, s := range samples(t) {
		for n := range len(s.bytes) {
			if _, err := Scan(s.codec, failingReader{bytes.NewReader(s.bytes[:n])}); err != os.ErrPermission {
				t.Fatalf("%s at %d: %v", s.name, n, err)
			}
		}
	}
}

func TestSizesAreNotBelieved(t *testing.T) {
	ivf, _ := NewIVF(VP8, 2, 2)
	ogg, _ := NewOgg(OggOptions{Channels: 1})
	ogg.flags = flagBOS
	tags := ogg.appendPage(ogg.AppendPacket(nil, append([]byte("OpusHead\x01\x01"), make([]byte, 9)...), 0), 0)
	tags = ogg.appendPage(ogg.AppendPacket(tags, append([]byte("OpusTags"), make([]byte, 4<<20)...), 0), 0)
	mkv, _ := NewMatroska(testAVC)
	for _, test := range []struct {
		codec Codec
		b     []byte
		torn  int64
	}{
		{VP8, append(ivf.AppendHeader(nil), 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 1), 13},
		{Opus, tags, 0},
		{H264, append(mkv.AppendHeader(nil), 0xa3, 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 1, 2, 3, 4), 13},
		{H264, append(mkv.AppendHeader(nil), 0x63, 0xa2, 0x1f, 0xff, 0xff, 0xfe), 6},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		info, err := Scan(test.codec, bytes.NewReader(test.b))
		runtime.ReadMemStats(&after)
		if err != nil || info.TornBytes != test.torn {
			t.Errorf("%s: %+v %v", test.codec, info, err)
		}
		allocated := after.TotalAlloc - before.TotalAlloc
		if allocated > 512<<10 {
			t.Errorf("%s: %d bytes allocated", test.codec, allocated)
		}
	}
}

func FuzzRepairIsIdempotent(f *testing.F) {
	ogg, _ := NewOgg(OggOptions{Channels: 1, Tags: []Tag{{"A", "b"}}})
	b := ogg.AppendEOS(ogg.AppendPacket(ogg.AppendHeader(nil), silence, 960))
	f.Add(byte(0), b)
	ivf, _ := NewIVF(VP8, 16, 16)
	f.Add(byte(1), ivf.AppendFrame(ivf.AppendHeader(nil), 0, true, []byte{0, 1}))
	mkv, _ := NewMatroska(testAVC)
	f.Add(byte(2), mkv.AppendFrame(mkv.AppendHeader(nil), 0, true, []byte{0, 0, 0, 1, 0x65}))
	codecs := []Codec{Opus, VP8, H264}
	f.Fuzz(func(t *testing.T, which byte, b []byte) {
		codec := codecs[int(which)%len(codecs)]
		// Checksums would keep the fuzzer from everything behind them.
		if codec == Opus {
			for at := 0; at+oggHeaderSize <= len(b); {
				page := b[at:]
				size := oggHeaderSize + int(page[26])
				for i := range min(int(page[26]), len(page)-oggHeaderSize) {
					size += int(page[oggHeaderSize+i])
				}
				if size > len(page) {
					break
				}
				setOggCRC(page[:size])
				at += size
			}
		}
		file := &memFile{bytes.Clone(b)}
		r, err := Repair(codec, file)
		if err != nil {
			if !bytes.Equal(file.b, b) {
				t.Fatalf("changed although refused: %v", err)
			}
			return
		}
		info, err := Scan(codec, bytes.NewReader(file.b))
		if err != nil || info.TornBytes != 0 || info.CountFault || codec == Opus && !info.EOS {
			t.Fatalf("after repair: %+v %v", info, err)
		}
		if info.Frames != r.Frames {
			t.Fatalf("repair said %d frames, there are %d", r.Frames, info.Frames)
		}
		if again, err := Repair(codec, file); err != nil || again.Changed {
			t.Fatalf("second repair: %+v %v", again, err)
		}
	})
}
