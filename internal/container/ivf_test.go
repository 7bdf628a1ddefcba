package container

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4/pkg/media/ivfreader"
	"github.com/pion/webrtc/v4/pkg/media/ivfwriter"
)

func ivfSample(t *testing.T) sample {
	write := func(v *IVF, from int64, b []byte, unit func(n int)) []byte {
		for i := from; i < 5; i++ {
			b = v.AppendFrame(b, i*3000, i == 0, bytes.Repeat([]byte{byte(min(i, 1)), 0xee}, 5+int(i)))
			unit(len(b))
		}
		patch := v.Patch()
		if err := patch.Apply(&memFile{b}); err != nil {
			t.Fatal(err)
		}
		return b
	}
	v, err := NewIVF(VP8, 640, 360)
	if err != nil {
		t.Fatal(err)
	}
	s := sample{name: "ivf", codec: VP8, header: ivfHeaderSize}
	s.bytes = write(v, 0, v.AppendHeader(nil), func(n int) {
		s.ends, s.frames = append(s.ends, n), append(s.frames, int64(len(s.ends)+1))
	})
	s.resume = func(t *testing.T, f *memFile) {
		v, info, err := ResumeIVF(f)
		if err != nil || info.Width != 640 || info.Height != 360 {
			t.Fatal(info, err)
		}
		if again, err := ContinueIVF(f, info); err != nil || !reflect.DeepEqual(again, v) {
			t.Errorf("%+v goes on where %+v would, %v", again, v, err)
		}
		if f.b = write(v, info.Frames, f.b, func(int) {}); !bytes.Equal(f.b, s.bytes) {
			t.Fatal("the resumed file is not the uninterrupted one")
		}
	}
	return s
}

// vp8Packet is one RTP packet that holds a whole VP8 frame.
func vp8Packet(timestamp uint32, frame []byte) *rtp.Packet {
	return &rtp.Packet{
		Header:  rtp.Header{Timestamp: timestamp, Marker: true},
		Payload: append([]byte{0x10}, frame...),
	}
}

func TestIVFBytesAreThoseOfPion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pion.ivf")
	w, err := ivfwriter.New(path, ivfwriter.WithCodec("video/VP8"), ivfwriter.WithWidthAndHeight(1280, 720),
		ivfwriter.WithFrameRate(1, 90000), ivfwriter.WithDirectPTS())
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewIVF(VP8, 1280, 720)
	if err != nil {
		t.Fatal(err)
	}
	ours := v.AppendHeader(nil)
	const base = math.MaxUint32 - 4000 // wraps at the second frame
	for i, pts := range []uint32{0, 3000, 6001, 90000, 1 << 31} {
		frame := bytes.Repeat([]byte{byte(min(i, 1)), 2, 3}, 1+i*1000)
		ours = v.AppendFrame(ours, int64(pts), i == 0, frame)
		if err := w.WriteRTP(vp8Packet(base+pts, frame)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	patch := v.Patch()
	if err := patch.Apply(&memFile{ours}); err != nil {
		t.Fatal(err)
	}
	theirs, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// Where pion counts the frames, ours has the duration, as FFmpeg does.
	if n := binary.LittleEndian.Uint32(theirs[ivfLengthOffset:]); n != 5 {
		t.Errorf("pion's header says %d", n)
	}
	const length = 1<<31 + (1<<31 - 90000)
	binary.LittleEndian.PutUint32(theirs[ivfLengthOffset:], length)
	if !bytes.Equal(ours, theirs) {
		t.Fatalf("ours differ from pion's at byte %d of %d and %d", firstDifference(ours, theirs), len(ours), len(theirs))
	}
}

// What the production code relies on, and what keeps it from using pion's frames too.
func TestPionIVFSemantics(t *testing.T) {
	var b bytes.Buffer
	w, err := ivfwriter.NewWith(&b, ivfwriter.WithFrameRate(1, 90000), ivfwriter.WithDirectPTS())
	if err != nil {
		t.Fatal(err)
	}
	if b.Len() != ivfHeaderSize {
		t.Fatalf("%d bytes at creation, want the header", b.Len())
	}
	h := b.Bytes()
	if rate, scale := binary.LittleEndian.Uint32(h[16:]), binary.LittleEndian.Uint32(h[20:]); rate != 90000 || scale != 1 {
		t.Errorf("time base %d/%d", scale, rate)
	}
	if n := binary.LittleEndian.Uint32(h[24:]); n != 900 {
		t.Errorf("count %d before closing, was 900", n)
	}
	key := []byte{0, 1}
	for _, ts := range []uint32{1000, 4000, 999} { // the last is 2^32-1 ticks on
		if err := w.WriteRTP(vp8Packet(ts, key)); err != nil {
			t.Fatal(err)
		}
	}
	var pts []uint64
	for at := ivfHeaderSize; at < b.Len(); at += ivfFrameHeaderSize + len(key) {
		pts = append(pts, binary.LittleEndian.Uint64(b.Bytes()[at+4:]))
	}
	if fmt.Sprint(pts) != "[0 3000 4294967295]" {
		t.Errorf("PTS %d", pts)
	}
}

func TestIVFIsReadByPion(t *testing.T) {
	for _, test := range []struct {
		codec  Codec
		fourCC string
	}{{VP8, "VP80"}, {VP9, "VP90"}, {AV1, "AV01"}} {
		v, err := NewIVF(test.codec, 320, 240)
		if err != nil {
			t.Fatal(err)
		}
		b := v.AppendHeader(nil)
		b = v.AppendFrame(b, 0, true, []byte("first"))
		b = v.AppendFrame(b, 1<<40, false, []byte("second"))
		patch := v.Patch()
		if err := patch.Apply(&memFile{b}); err != nil {
			t.Fatal(err)
		}
		r, head, err := ivfreader.NewWith(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if head.FourCC != test.fourCC || head.Width != 320 || head.Height != 240 || head.NumFrames != 0 || head.TimebaseDenominator != 90000 {
			t.Errorf("head %+v", head)
		}
		var frames []string
		for {
			frame, _, err := r.ParseNextFrame()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			frames = append(frames, string(frame))
		}
		if strings.Join(frames, " ") != "first second" {
			t.Errorf("frames %q", frames)
		}
		info, err := ScanIVF(bytes.NewReader(b))
		if err != nil || info.LastPTS != 1<<40 || info.Codec != test.codec || !info.Clean() {
			t.Errorf("%+v %v", info, err)
		}
	}
}

func TestNewIVFRefusesWhatTheHeaderCannotSay(t *testing.T) {
	for _, test := range []struct {
		codec         Codec
		width, height int
	}{{Opus, 1, 1}, {H264, 1, 1}, {VP8, 0, 1}, {VP8, 1, -1}, {VP8, 1 << 16, 1}} {
		if _, err := NewIVF(test.codec, test.width, test.height); err == nil {
			t.Errorf("%+v was accepted", test)
		}
	}
}

func TestScanIVFSeesWhatIsWrong(t *testing.T) {
	v, _ := NewIVF(VP8, 2, 2)
	b := v.AppendHeader(nil)
	for _, pts := range []int64{500, 400, 400, 900} {
		b = v.AppendFrame(b, pts, false, []byte{1})
	}
	info, err := ScanIVF(bytes.NewReader(b))
	if err != nil || info.OutOfOrder != 2 || !info.CountFault || info.FirstPTS != 500 || info.LastPTS != 900 ||
		info.Duration != 10*time.Millisecond || info.KeyFrames != 0 {
		t.Errorf("%+v %v", info, err)
	}
}

func TestKeyFrame(t *testing.T) {
	for _, test := range []struct {
		codec Codec
		frame string
		want  bool
	}{
		{VP8, "\x10", true}, {VP8, "\x11", false}, {VP8, "", false},
		{VP9, "\x82", true}, {VP9, "\x86", false}, {VP9, "\x8a", false}, {VP9, "\xb0", true}, {VP9, "\xb2", false}, {VP9, "\x00", false},
		{AV1, "\x12\x00\x0a\x01\x00\x32\x02\x10\x00", true},
		{AV1, "\x12\x00\x32\x02\x30\x00", false},
		{AV1, "\x12\x00\x0a\x01\x00\x36\x00\x02\x10\x00", true}, // with an extension byte
		{AV1, "\x12\x00\x0a\x01\x00\x32\x02\x00\x00", false},    // a key frame that is not shown
		{AV1, "\x12\x00\x0a\x01\x08\x32\x02\x00\x00", true},     // a still picture has no such flags
		{AV1, "\x12\x00\x32\x02\x10\x00", false},                // nothing says how to decode it
		{AV1, "\x12\x00\x32", false}, {AV1, "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff", false}, {AV1, "\x12\x00", false},
		{H264, "\x65", false},
	} {
		if got := KeyFrame(test.codec, []byte(test.frame)); got != test.want {
			t.Errorf("%s %x: %v", test.codec, test.frame, got)
		}
	}
}

// Real pictures, retimed by us: what players make of the file, finished or not.
func TestIVFIsAcceptedByTools(t *testing.T) {
	for _, test := range []struct {
		codec    Codec
		args     []string
		decoders [][]string
	}{
		{VP8, []string{"-c:v", "libvpx", "-deadline", "realtime"}, [][]string{{"vpxdec", "--rawvideo"}}},
		{VP9, []string{"-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"}, [][]string{{"vpxdec", "--rawvideo"}}},
		{AV1, []string{"-c:v", "libaom-av1", "-usage", "realtime", "-cpu-used", "8"},
			[][]string{{"aomdec", "--rawvideo"}, {"dav1d", "--quiet", "-i"}}},
	} {
		t.Run(string(test.codec), func(t *testing.T) {
			source := filepath.Join(t.TempDir(), "source.ivf")
			args := append([]string{"-v", "error", "-f", "lavfi", "-i", "testsrc=s=160x120:r=30", "-frames:v", "20", "-g", "10",
				"-pix_fmt", "yuv420p"}, test.args...)
			run(t, "ffmpeg", append(args, source)...)
			f, err := os.Open(source)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			r, head, err := ivfreader.NewWith(f)
			if err != nil {
				t.Fatal(err)
			}
			v, err := NewIVF(test.codec, int(head.Width), int(head.Height))
			if err != nil {
				t.Fatal(err)
			}
			b, want := v.AppendHeader(nil), ""
			var behind Patch
			for i := int64(0); ; i++ {
				frame, _, err := r.ParseNextFrame()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				pts := i * 3003
				if i >= 10 {
					pts += 900_000 // a gap of 10 s
				}
				b = v.AppendFrame(b, pts, KeyFrame(test.codec, frame), frame)
				want += fmt.Sprintf("%d\n", pts)
				if i == 4 {
					behind = v.Patch()
				}
			}
			var path string
			const last = 2
			for i, patch := range []Patch{{}, behind, v.Patch()} {
				if err := patch.Apply(&memFile{b}); err != nil {
					t.Fatal(err)
				}
				path = writeFile(t, "ours.ivf", b)
				if says := run(t, "ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", path); i == last &&
					!strings.HasPrefix(says, "10.667333") {
					t.Errorf("ffprobe takes it for %q s long", says)
				}
				run(t, "ffmpeg", "-v", "error", "-i", path, "-f", "null", "-")
				if got := run(t, "ffprobe", "-v", "error", "-show_entries", "packet=pts", "-of", "default=nw=1:nk=1", path); got != want {
					t.Errorf("PTS %q, want %q", got, want)
				}
				for _, decoder := range test.decoders {
					raw := filepath.Join(t.TempDir(), "out.yuv")
					run(t, decoder[0], append(decoder[1:], path, "-o", raw)...)
					if s, err := os.Stat(raw); err != nil || s.Size() != 20*160*120*3/2 {
						t.Errorf("%s decodes %v, %v; want 20 pictures", decoder[0], s, err)
					}
				}
			}
			keys := strings.Count(run(t, "ffprobe", "-v", "error", "-show_entries", "packet=flags", "-of", "csv=p=0", path), "K")
			info, err := ScanIVF(bytes.NewReader(b))
			if err != nil || !info.Clean() || info.Frames != 20 || int(info.KeyFrames) != keys {
				t.Errorf("%+v %v, want %d key frames", info, err, keys)
			}
		})
	}
}

func TestIVFFramesCostNoAllocation(t *testing.T) {
	v, _ := NewIVF(VP8, 2, 2)
	frame, b, pts := make([]byte, 4000), make([]byte, 0, 8000), int64(0)
	if n := testing.AllocsPerRun(1000, func() { b, pts = v.AppendFrame(b[:0], pts, false, frame), pts+3000 }); n != 0 {
		t.Errorf("%v allocations per frame", n)
	}
}

func BenchmarkIVFFrame(b *testing.B) {
	v, _ := NewIVF(VP8, 2, 2)
	frame, buf := make([]byte, 4000), make([]byte, 0, 8000)
	b.ReportAllocs()
	for b.Loop() {
		buf = v.AppendFrame(buf[:0], 1, false, frame)
	}
}
