package container

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/at-wat/ebml-go"
	"github.com/at-wat/ebml-go/mkvcore"
	"github.com/at-wat/ebml-go/webm"
)

// testAVC is Constrained Baseline, 640×360: 23 macroblock rows less a crop of 8 lines.
var testAVC = AVC{
	SPS: []byte{0x67, 0x42, 0xc0, 0x1e, 0xda, 0x02, 0x80, 0xbf, 0xe5, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04, 0x00, 0x00, 0x03, 0x00, 0xf0, 0x3c, 0x58, 0xba, 0x80},
	PPS: []byte{0x68, 0xce, 0x0f, 0x2c, 0x80},
}

func accessUnit(nal ...byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(nal))), nal...)
}

func matroskaSample(t *testing.T) sample {
	write := func(m *Matroska, from int64, b []byte, unit func(n int)) []byte {
		for i := from; i < 5; i++ {
			b = m.AppendFrame(b, i*3000, i%3 == 0, accessUnit(0x65, byte(i)))
			unit(len(b))
		}
		patch := m.Patch()
		if err := patch.Apply(&memFile{b}); err != nil {
			t.Fatal(err)
		}
		return b
	}
	m, err := NewMatroska(testAVC)
	if err != nil {
		t.Fatal(err)
	}
	s := sample{name: "matroska", codec: H264, bytes: m.AppendHeader(nil)}
	s.header = len(s.bytes)
	s.bytes = write(m, 0, s.bytes, func(n int) {
		s.ends, s.frames = append(s.ends, n), append(s.frames, int64(len(s.ends)+1))
	})
	s.resume = func(t *testing.T, f *memFile) {
		m, a, info, err := ResumeMatroska(f)
		if err != nil || !bytes.Equal(a.SPS, testAVC.SPS) || !bytes.Equal(a.PPS, testAVC.PPS) {
			t.Fatal(info, err)
		}
		if again, b, err := ContinueMatroska(f, info); err != nil || !reflect.DeepEqual(again, m) || !reflect.DeepEqual(b, a) {
			t.Errorf("%+v goes on where %+v would, %v", again, m, err)
		}
		f.b = write(m, info.Frames, f.b, func(int) {}) // in a new Cluster, so not the same bytes
	}
	return s
}

func TestMatroskaKeepsEveryTimestamp(t *testing.T) {
	for pts := range int64(200_000) {
		for _, base := range []int64{0, 1 << 32, 1 << 50} {
			if got := unscaledTime(scaledTime(base + pts)); got != base+pts {
				t.Fatalf("%d came back as %d", base+pts, got)
			}
		}
	}
	m, err := NewMatroska(testAVC)
	if err != nil {
		t.Fatal(err)
	}
	b, last := m.AppendHeader(nil), int64(0)
	for i, step := range []int64{0, 1, 3000, 29490, 29491, 29492, 90_000, 1 << 40, 2, 1} {
		last += step
		b = m.AppendFrame(b, last, i == 0, accessUnit(0x65))
	}
	info, err := ScanMatroska(bytes.NewReader(b))
	if err != nil || info.OutOfOrder != 0 || info.LastPTS != last || info.Frames != 10 || info.KeyFrames != 1 {
		t.Errorf("%+v %v, want last PTS %d", info, err, last)
	}
}

// An independent implementation reads our elements.
func TestMatroskaIsReadByEBMLGo(t *testing.T) {
	s := matroskaSample(t)
	var file struct {
		Header  webm.EBMLHeader `ebml:"EBML"`
		Segment struct {
			Info   webm.Info `ebml:"Info"`
			Tracks struct {
				TrackEntry []webm.TrackEntry `ebml:"TrackEntry"`
			} `ebml:"Tracks"`
			Cluster []struct {
				Timecode    uint64       `ebml:"Timecode"`
				SimpleBlock []ebml.Block `ebml:"SimpleBlock"`
			} `ebml:"Cluster"`
		} `ebml:"Segment"`
	}
	if err := ebml.Unmarshal(bytes.NewReader(s.bytes), &file); err != nil {
		t.Fatal(err)
	}
	if h := file.Header; h.DocType != "matroska" || h.EBMLReadVersion != 1 || h.DocTypeReadVersion != 2 {
		t.Errorf("%+v", h)
	}
	if i := file.Segment.Info; i.TimecodeScale != timestampScale || i.Duration != float64(scaledTime(12000)+1) {
		t.Errorf("%+v", i)
	}
	track := file.Segment.Tracks.TrackEntry[0]
	if track.CodecID != "V_MPEG4/ISO/AVC" || track.Video.PixelWidth != 640 || track.Video.PixelHeight != 360 {
		t.Errorf("%+v", track)
	}
	var got []string
	for _, c := range file.Segment.Cluster {
		for _, b := range c.SimpleBlock {
			got = append(got, fmt.Sprint(unscaledTime(int64(c.Timecode)+int64(b.Timecode)), b.Keyframe, len(b.Data[0])))
		}
	}
	if want := "0 true 6,3000 false 6,6000 false 6,9000 true 6,12000 false 6"; strings.Join(got, ",") != want {
		t.Errorf("%q", got)
	}
}

// And we read what it writes.
func TestScanMatroskaReadsEBMLGo(t *testing.T) {
	var b bufferCloser
	ws, err := webm.NewSimpleBlockWriter(&b, []webm.TrackEntry{{
		TrackNumber: 1, TrackUID: 1, TrackType: 1, CodecID: "V_VP8", Video: &webm.Video{PixelWidth: 64, PixelHeight: 48},
	}}, mkvcore.WithSeekHead(true))
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(10) {
		if _, err := ws[0].Write(i == 0, i*40, []byte{1, 2, 3}); err != nil {
			t.Fatal(err)
		}
	}
	if err := ws[0].Close(); err != nil {
		t.Fatal(err)
	}
	info, err := ScanMatroska(bytes.NewReader(b.Bytes()))
	if err != nil || info.Codec != VP8 || info.Frames != 10 || info.KeyFrames != 1 || info.LastPTS != 9*3600 || info.Width != 64 {
		t.Errorf("%+v %v", info, err)
	}
}

type bufferCloser struct{ bytes.Buffer }

func (*bufferCloser) Close() error { return nil }

func TestParameterSetsAreChecked(t *testing.T) {
	if w, h, err := testAVC.Size(); w != 640 || h != 360 || err != nil {
		t.Errorf("%d×%d %v", w, h, err)
	}
	huge := bytes.Repeat([]byte{0x67}, maxParameterSet+1)
	for _, a := range []AVC{{}, {SPS: testAVC.SPS}, {PPS: testAVC.PPS}, {testAVC.PPS, testAVC.SPS}, {testAVC.SPS[:8], testAVC.PPS}, {huge, testAVC.PPS}} {
		if _, err := NewMatroska(a); !errors.Is(err, ErrParameterSets) {
			t.Errorf("%x: %v", a, err)
		}
	}
}

func TestMatroskaIsAcceptedByTools(t *testing.T) {
	for _, test := range []struct {
		name, size string
		args       []string
	}{
		{"baseline", "640x360", []string{"-profile:v", "baseline", "-pix_fmt", "yuv420p"}},
		{"high", "322x242", []string{"-profile:v", "high", "-bf", "0", "-pix_fmt", "yuv420p"}},
		{"high444", "161x121", []string{"-profile:v", "high444", "-bf", "0", "-pix_fmt", "yuv444p"}},
		{"interlaced", "720x576", []string{"-flags", "+ildct+ilme", "-bf", "0", "-pix_fmt", "yuv420p"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			source := filepath.Join(t.TempDir(), "source.h264")
			args := append([]string{"-v", "error", "-f", "lavfi", "-i", "testsrc=r=30:s=" + test.size, "-frames:v", "20", "-g", "10",
				"-c:v", "libx264", "-x264-params", "aud=1"}, test.args...)
			run(t, "ffmpeg", append(args, source)...)
			stream, err := os.ReadFile(source)
			if err != nil {
				t.Fatal(err)
			}
			a, units := splitAnnexB(stream)
			m, err := NewMatroska(a)
			if err != nil {
				t.Fatal(err)
			}
			b, want := m.AppendHeader(nil), ""
			var behind Patch // as until the file is finished
			for i, unit := range units {
				pts := int64(i * 3003)
				if i >= 10 {
					pts += 900_000
				}
				b = m.AppendFrame(b, pts, i%10 == 0, unit)
				want += fmt.Sprintf("%d\n", scaledTime(pts))
				if i == 4 {
					behind = m.Patch()
				}
			}
			var path string
			for _, patch := range []Patch{behind, m.Patch()} {
				if err := patch.Apply(&memFile{b}); err != nil {
					t.Fatal(err)
				}
				path = writeFile(t, "ours.mkv", b)
				run(t, "ffmpeg", "-v", "error", "-i", path, "-f", "null", "-")
				if got := run(t, "ffprobe", "-v", "error", "-show_entries", "packet=pts", "-of", "default=nw=1:nk=1", path); got != want {
					t.Errorf("PTS %q, want %q", got, want)
				}
			}
			if got := strings.TrimSpace(run(t, "ffprobe", "-v", "error", "-show_entries", "stream=width,height", "-of", "csv=p=0:s=x", path)); got != test.size {
				t.Errorf("ffprobe says %s", got)
			}
			if w, h, err := a.Size(); fmt.Sprintf("%dx%d", w, h) != test.size {
				t.Errorf("we say %dx%d %v", w, h, err)
			}
			// without loss into another container, and torn anywhere without a complaint after repair
			run(t, "ffmpeg", "-v", "error", "-i", path, "-c", "copy", filepath.Join(t.TempDir(), "out.mp4"))
			f := &memFile{bytes.Clone(b[:len(b)*2/3])}
			if _, err := RepairMatroska(f); err != nil {
				t.Fatal(err)
			}
			run(t, "ffmpeg", "-v", "error", "-i", writeFile(t, "repaired.mkv", f.b), "-f", "null", "-")
		})
	}
}

// splitAnnexB takes a byte stream with access unit delimiters apart.
func splitAnnexB(stream []byte) (a AVC, units [][]byte) {
	for nal := range bytes.SplitSeq(stream, []byte{0, 0, 1}) {
		nal = bytes.TrimRight(nal, "\x00")
		if len(nal) == 0 {
			continue
		}
		switch nal[0] & 0x1f {
		case 7:
			a.SPS = nal
		case 8:
			a.PPS = nal
		case 9:
			units = append(units, nil)
			continue
		}
		last := &units[len(units)-1]
		*last = append(*last, accessUnit(nal...)...)
	}
	return a, units
}

func TestMatroskaFramesCostNoAllocation(t *testing.T) {
	m, err := NewMatroska(testAVC)
	if err != nil {
		t.Fatal(err)
	}
	frame, b, pts := make([]byte, 4000), make([]byte, 0, 8000), int64(0)
	if n := testing.AllocsPerRun(1000, func() { b, pts = m.AppendFrame(b[:0], pts, false, frame), pts+3000 }); n != 0 {
		t.Errorf("%v allocations per frame", n)
	}
}

func BenchmarkMatroskaFrame(b *testing.B) {
	m, _ := NewMatroska(testAVC)
	frame, buf, pts := make([]byte, 4000), make([]byte, 0, 8000), int64(0)
	b.ReportAllocs()
	for b.Loop() {
		buf, pts = m.AppendFrame(buf[:0], pts, false, frame), pts+3000
	}
}

func FuzzParameterSets(f *testing.F) {
	f.Add(testAVC.SPS, testAVC.PPS)
	f.Add([]byte{0x67, 100, 0, 30, 0xac, 0xd9, 0x40, 0xa0, 0x2f, 0xf9}, testAVC.PPS)
	f.Fuzz(func(t *testing.T, sps, pps []byte) {
		a := AVC{sps, pps}
		m, err := NewMatroska(a)
		if err != nil {
			return
		}
		file := &memFile{m.AppendHeader(nil)}
		_, back, info, err := ResumeMatroska(file)
		w, h, _ := a.Size()
		if err != nil || !bytes.Equal(back.SPS, sps) || !bytes.Equal(back.PPS, pps) || info.Width != w || info.Height != h {
			t.Fatalf("%+v %v", info, err)
		}
	})
}
