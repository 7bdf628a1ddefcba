package depacket

import (
	"bytes"
	"fmt"
	"testing"

	"recorder/internal/container"
	"recorder/internal/lab/clip"
)

func TestInvalidOpusIsRecognised(t *testing.T) {
	real := frames(t, container.Opus, "voice.ogg")
	for _, s := range clip.Opus() {
		real = append(real, s.Data)
	}
	for i, p := range real {
		if !OpusValid(p) {
			t.Fatalf("packet %d of a real encoder is refused", i)
		}
	}
	tests := []struct {
		name   string
		Packet []byte
		want   bool
	}{
		{"nothing", nil, false},
		{"one empty frame", []byte{0xf8}, true},
		{"browsers' silence", []byte{0xf8, 0xff, 0xfe}, true},
		{"two frames of a size", []byte{0xf9, 1, 2}, true},
		{"two frames of a size, odd", []byte{0xf9, 1, 2, 3}, false},
		{"two frames", []byte{0xfa, 1, 9, 9}, true},
		{"two frames, the first too long", []byte{0xfa, 4, 9, 9}, false},
		{"two frames, length cut short", []byte{0xfa, 253}, false},
		{"no count", []byte{0xfb}, false},
		{"no frames", []byte{0xfb, 0}, false},
		{"140 ms", []byte{0xfb, 7, 1, 2, 3, 4, 5, 6, 7}, false},
		{"three frames of a size", []byte{0xfb, 3, 1, 2, 3}, true},
		{"three frames of a size, one too short", []byte{0xfb, 3, 1, 2}, false},
		{"three frames", []byte{0xfb, 0x83, 1, 1, 7, 8, 9}, true},
		{"three frames, lengths too long", []byte{0xfb, 0x83, 4, 1, 7, 8, 9}, false},
		{"padding", []byte{0xfb, 0x41, 2, 7, 0, 0}, true},
		{"padding beyond the end", []byte{0xfb, 0x41, 9, 7, 0, 0}, false},
		{"long padding cut short", []byte{0xfb, 0x41, 255}, false},
		{"a frame too long", append([]byte{0xf8}, make([]byte, 1276)...), false},
	}
	for _, tt := range tests {
		if got := OpusValid(tt.Packet); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

// RFC 7845 §4.1: gaps are filled with empty frames of the last packet's mode, bandwidth and
// channels, in units of 2.5 ms; what is left over is carried.
func TestGapsAreFilledByTheBook(t *testing.T) {
	const unit = 120 // samples
	tests := []struct {
		toc     byte
		samples int
		want    string // packets in hex, with their samples
		rest    int
	}{
		{0xf8, 960, "f8:960", 0},                  // CELT full band, 20 ms
		{0xfc, 960, "fc:960", 0},                  // stereo stays stereo
		{0xf8, 2400, "fb02:1920 f0:480", 0},       // 50 ms
		{0xe0, 960, "f8:960", 0},                  // from 2.5 ms frames
		{0xf8, 5760 + 120, "fb06:5760 e0:120", 0}, // longer than a packet
		{0xf8, 119, "", 119},                      // shorter than a frame
		{0xf8, 1000, "f8:960", 40},                // the rest is carried
		{0x08, 960, "08:960", 0},                  // SILK narrow band, 20 ms
		{0x18, 960, "08:960", 0},                  // from 60 ms frames
		{0x08, 480 + 240, "00:480 88:240", 0},     // SILK has no 5 ms: CELT narrow band
		{0x28, 240, "88:240", 0},                  // medium band has no CELT: narrow band
		{0x48, 120, "a0:120", 0},                  // wide band
		{0x68, 1440, "68:960 60:480", 0},          // hybrid super-wide band
		{0x7c, 120, "e4:120", 0},                  // hybrid full band, stereo
		{0x78, 120 * unit, "7b06:5760 7b06:5760 7b03:2880", 0},
	}
	for _, tt := range tests {
		var text []byte
		rest := tt.samples
		for {
			f, ok := OpusConcealment(tt.toc, rest)
			if !ok {
				break
			}
			text = fmt.Appendf(text, "%x:%d ", f.Bytes(), f.Samples)
			rest -= f.Samples
			if n := container.OpusSamples(f.Bytes()); n != f.Samples || !OpusValid(f.Bytes()) {
				t.Errorf("toc %x: packet %x lasts %d samples, not %d", tt.toc, f.Bytes(), n, f.Samples)
			}
		}
		if got := string(bytes.TrimSpace(text)); got != tt.want || rest != tt.rest {
			t.Errorf("toc %x, %d samples: %s, %d left; want %s, %d", tt.toc, tt.samples, got, rest, tt.want, tt.rest)
		}
	}
}

func TestSilenceLastsAsLongAsAsked(t *testing.T) {
	for samples := range 6000 {
		rest := samples
		for {
			f, ok := OpusSilence(samples%2 == 1, rest)
			if !ok {
				break
			}
			if n := container.OpusSamples(f.Bytes()); n != f.Samples || !OpusValid(f.Bytes()) || OpusStereo(f.data[0]) != (samples%2 == 1) {
				t.Fatalf("%d samples: packet %x", rest, f.Bytes())
			}
			rest -= f.Samples
		}
		if rest != samples%OpusUnit {
			t.Fatalf("%d samples: %d left", samples, rest)
		}
	}
}

func TestInBandFECIsSeen(t *testing.T) {
	tests := []struct {
		Packet []byte
		want   bool
	}{
		{[]byte{0x08, 0xc1}, true},  // 20 ms, voice, LBRR
		{[]byte{0x08, 0x81}, false}, // voice alone
		{[]byte{0x10, 0x20}, true},  // 40 ms: behind two voice flags
		{[]byte{0x18, 0x10}, true},  // 60 ms: behind three
		{[]byte{0x78, 0x40}, true},  // hybrid
		{[]byte{0xf8, 0xff}, false}, // CELT has none
		{[]byte{0x08}, false},
	}
	for _, tt := range tests {
		if got := OpusHasFEC(tt.Packet); got != tt.want {
			t.Errorf("%x: %v", tt.Packet, got)
		}
	}
}

func TestREDBlocksAreSplit(t *testing.T) {
	// Two blocks before the primary: 1920 and 960 ticks older, of 2 and 1 bytes.
	payload := []byte{0xef, 0x1e, 0x00, 0x02, 0xef, 0x0f, 0x00, 0x01, 0x6f, 'a', 'b', 'c', 'd', 'e'}
	blocks, ok := ParseRED(nil, payload)
	if !ok || len(blocks) != 3 {
		t.Fatalf("%v, %v", blocks, ok)
	}
	want := []REDBlock{{111, 1920, []byte("ab")}, {111, 960, []byte("c")}, {111, 0, []byte("de")}}
	for i, b := range blocks {
		if b.PayloadType != want[i].PayloadType || b.Offset != want[i].Offset || !bytes.Equal(b.Payload, want[i].Payload) {
			t.Errorf("block %d: %+v", i, b)
		}
	}
	for n := range payload {
		if blocks, ok := ParseRED(nil, payload[:n]); ok && n < 12 {
			t.Errorf("cut to %d bytes: %v", n, blocks)
		}
	}
	if _, ok := ParseRED(nil, bytes.Repeat([]byte{0x80, 0, 0, 0}, 100)); ok {
		t.Error("100 blocks taken")
	}
}

func FuzzAudioPayloads(f *testing.F) {
	f.Add([]byte{0xef, 0x0f, 0x00, 0x01, 0x6f, 1, 2})
	f.Add([]byte{0xfb, 0xc3, 1, 1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		if OpusValid(b) {
			if n := container.OpusSamples(b); n < OpusUnit || n > OpusLongest {
				t.Fatalf("%d samples", n)
			}
		}
		OpusHasFEC(b)
		if blocks, ok := ParseRED(nil, b); ok {
			total := 0
			for _, block := range blocks {
				total += len(block.Payload)
			}
			if total >= len(b) {
				t.Fatalf("%d bytes in blocks of %d", total, len(b))
			}
		}
		p := Packet{Raw: b}
		if p.Parse() == nil && len(p.Payload) > len(b)-12 {
			t.Fatal("payload beyond the packet")
		}
	})
}
