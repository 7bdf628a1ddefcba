package clip

import (
	"testing"
	"time"
)

func TestBothClipsFillTheirLengthWithoutAHole(t *testing.T) {
	for _, tt := range []struct {
		name    string
		samples []Sample
		want    int
	}{
		{"VP8", VP8(), int(Length/time.Second) * FrameRate},
		{"Opus", Opus(), int(Length / PacketDuration)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if len(tt.samples) != tt.want {
				t.Fatalf("got %d samples, want %d", len(tt.samples), tt.want)
			}
			var at time.Duration
			for i, s := range tt.samples {
				if s.At != at {
					t.Errorf("sample %d is due at %v, want %v", i, s.At, at)
				}
				if len(s.Data) == 0 {
					t.Errorf("sample %d is empty", i)
				}
				at += s.Duration
			}
			if at != Length {
				t.Errorf("the samples last %v, want %v", at, Length)
			}
		})
	}
}

func TestPictureHasAKeyFrameEachSecondAndItsSize(t *testing.T) {
	for i, s := range VP8() {
		if want := i%FrameRate == 0; s.Key != want {
			t.Errorf("frame %d: key = %v, want %v", i, s.Key, want)
		}
		if s.Data[0]&0x10 == 0 {
			t.Errorf("frame %d is hidden", i)
		}
	}
	// RFC 6386 section 9.1: 3 bytes of tag, 3 of start code, then width and height, 14 bits each.
	key := VP8()[0].Data
	width := (int(key[6]) | int(key[7])<<8) & 0x3fff
	height := (int(key[8]) | int(key[9])<<8) & 0x3fff
	if width != Width || height != Height {
		t.Errorf("the picture is %dx%d, want %dx%d", width, height, Width, Height)
	}
}

func TestSoundIsStereoInPacketsOfOneFrame(t *testing.T) {
	for i, s := range Opus() {
		toc := s.Data[0] // RFC 6716 section 3.1
		if toc&0x04 == 0 {
			t.Errorf("packet %d is mono", i)
		}
		if toc&0x03 != 0 {
			t.Errorf("packet %d holds more than one frame", i)
		}
	}
}

func TestLoopGoesOnInTimeAndStopsWhenAsked(t *testing.T) {
	samples := VP8()
	n, due := 0, time.Duration(0)
	for i, s := range Loop(samples) {
		if i != n%len(samples) {
			t.Fatalf("index %d at step %d", i, n)
		}
		if s.At != due {
			t.Fatalf("step %d is due at %v, want %v", n, s.At, due)
		}
		due += s.Duration
		if n++; n == 2*len(samples)+1 {
			break
		}
	}
	if due <= 2*Length {
		t.Errorf("the third round ended at %v", due)
	}
	for range Loop(nil) {
		t.Fatal("an empty clip played")
	}
}
