package container

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

// written is a file of each container with its frames, as our writers make it.
type written struct {
	codec  Codec
	file   []byte
	frames []Frame
}

func writtenFiles(t *testing.T) []written {
	t.Helper()
	ogg, err := NewOgg(OggOptions{Serial: 7, Channels: 1, PreSkip: LibopusPreSkip})
	if err != nil {
		t.Fatal(err)
	}
	opus := written{codec: Opus, file: ogg.AppendHeader(nil)}
	for i := range 120 { // on several pages, of sizes around those of lacing values
		packet := append([]byte{0x78}, bytes.Repeat([]byte{byte(i)}, 250+i)...)
		opus.file = ogg.AppendPacket(opus.file, packet, 960)
		opus.frames = append(opus.frames, Frame{int64(i) * 960, true, packet})
	}
	opus.file = ogg.AppendEOS(opus.file)

	ivf, err := NewIVF(VP8, 64, 48)
	if err != nil {
		t.Fatal(err)
	}
	mkv, err := NewMatroska(AVC{SPS: []byte{0x67, 66, 0, 30, 0xda, 0x02, 0x80, 0xf6, 0x80}, PPS: []byte{0x68, 0xce, 0x3c, 0x80}})
	if err != nil {
		t.Fatal(err)
	}
	all := []written{opus}
	for codec, w := range map[Codec]Video{VP8: ivf, H264: mkv} {
		s := written{codec: codec, file: w.AppendHeader(nil)}
		for i := range 40 {
			f := Frame{int64(i) * 3000, i%10 == 0, append([]byte{byte(min(i%10, 1)), 0, 0, 0}, bytes.Repeat([]byte{byte(i)}, 700*i)...)}
			s.file = w.AppendFrame(s.file, f.PTS, f.Key, f.Data)
			s.frames = append(s.frames, f)
		}
		all = append(all, s)
	}
	return all
}

func TestFramesReturnsWhatWasWritten(t *testing.T) {
	for _, s := range writtenFiles(t) {
		t.Run(string(s.codec), func(t *testing.T) {
			n := 0
			for f, err := range Frames(s.codec, iotest.HalfReader(bytes.NewReader(s.file))) {
				if err != nil {
					t.Fatal(err)
				}
				if n == len(s.frames) {
					t.Fatal("more frames than were written")
				}
				want := s.frames[n]
				if f.PTS != want.PTS || f.Key != want.Key || !bytes.Equal(f.Data, want.Data) {
					t.Fatalf("frame %d: PTS %d key %v of %d bytes, want PTS %d key %v of %d bytes",
						n, f.PTS, f.Key, len(f.Data), want.PTS, want.Key, len(want.Data))
				}
				n++
			}
			if n != len(s.frames) {
				t.Fatalf("%d frames, %d were written", n, len(s.frames))
			}
		})
	}
}

func TestFramesEndWhereScanSaysTheFileEnds(t *testing.T) {
	for _, s := range writtenFiles(t) {
		t.Run(string(s.codec), func(t *testing.T) {
			for cut := len(s.file); cut > 0; cut -= 1997 {
				info, scanned := Scan(s.codec, bytes.NewReader(s.file[:cut]))
				var n int64
				var read error
				for _, err := range Frames(s.codec, bytes.NewReader(s.file[:cut])) {
					if read = err; err == nil {
						n++
					}
				}
				if errors.Is(scanned, ErrFormat) != errors.Is(read, ErrFormat) || scanned == nil && n != info.Frames {
					t.Fatalf("of %d bytes: %d frames, %v; Scan finds %d, %v", cut, n, read, info.Frames, scanned)
				}
			}
		})
	}
}

func TestFramesStopsWhenNoMoreAreWanted(t *testing.T) {
	for _, s := range writtenFiles(t) {
		in := bytes.NewReader(s.file)
		for _, err := range Frames(s.codec, in) {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		if s.codec != Opus && in.Len() < len(s.file)/2 {
			t.Errorf("%s: %d of %d bytes were read for one frame", s.codec, len(s.file)-in.Len(), len(s.file))
		}
	}
}

func TestFramesTellsOfAFailingDisk(t *testing.T) {
	broken := errors.New("input/output error")
	for _, s := range writtenFiles(t) {
		half := bytes.NewReader(s.file[:len(s.file)/2])
		var last error
		for _, err := range Frames(s.codec, io.MultiReader(half, iotest.ErrReader(broken))) {
			last = err
		}
		if !errors.Is(last, broken) {
			t.Errorf("%s: the last error is %v", s.codec, last)
		}
	}
}

func TestAClaimedFrameSizeTakesNoMemory(t *testing.T) {
	ivf, err := NewIVF(VP8, 64, 48)
	if err != nil {
		t.Fatal(err)
	}
	file := ivf.AppendFrame(ivf.AppendHeader(nil), 0, true, []byte{0, 0, 0, 0})
	file = append(file, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0, 1, 1)
	var frames int
	var last error
	for _, err := range Frames(VP8, bytes.NewReader(file)) {
		if last = err; err == nil {
			frames++
		}
	}
	if frames != 1 || last == nil {
		t.Errorf("%d frames and %v, want one and an error", frames, last)
	}
}
