package depacket

import (
	"bytes"
	"testing"

	"recorder/internal/container"
)

// A bit that is put into a header moves all behind it, to another byte if need be.
func TestHidingAFrameKeepsItsHeader(t *testing.T) {
	tests := []struct {
		name        string
		header      vp9Header
		frame, want []byte
	}{
		{"key frame", vp9Header{key: true, shown: true, shownAt: 6, end: 12}, []byte{0x82, 0x40, 0xaa}, []byte{0x80, 0x40, 0xaa}},
		{"within a byte's padding", vp9Header{shown: true, shownAt: 6, end: 15}, []byte{0x87, 0xfe, 0xaa}, []byte{0x85, 0x7f, 0xaa}},
		{"into another byte", vp9Header{shown: true, shownAt: 6, end: 16}, []byte{0x87, 0xff, 0xaa}, []byte{0x85, 0x7f, 0x80, 0xaa}},
		{"not at a byte's edge", vp9Header{shown: true, shownAt: 7, end: 16}, []byte{0x83, 0xff}, []byte{0x82, 0xbf, 0x80}},
		{"hidden already", vp9Header{shownAt: 6, end: 16}, []byte{0x85, 0x7f, 0xaa}, []byte{0x85, 0x7f, 0xaa}},
	}
	for _, tt := range tests {
		if got := tt.header.hide(nil, tt.frame); !bytes.Equal(got, tt.want) {
			t.Errorf("%s: %x, want %x", tt.name, got, tt.want)
		}
	}
}

// A hidden frame is the same one but for that.
func FuzzHiddenVP9Frames(f *testing.F) {
	superframes := frames(f, container.VP9, "vp9layers.ivf")
	for _, super := range superframes[:4] {
		for _, frame := range layers(super) {
			f.Add(frame[:64])
		}
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		var before vp9Sizes
		for i := range before {
			before[i].width, before[i].height = 320, 180
		}
		after := before
		h, ok := before.read(frame)
		if !ok || h.end == 0 {
			return
		}
		hidden := h.hide(nil, frame)
		want := h
		if want.shown = false; h.shown && !h.key {
			want.end++
		}
		if got, ok := after.read(hidden); !ok || got != want || after != before {
			t.Errorf("%+v is %+v when hidden", h, got)
		}
		if rest := (h.end + 7) / 8; !bytes.HasSuffix(hidden, frame[rest:]) || len(hidden)-len(frame) > 1 {
			t.Errorf("%x became %x", frame, hidden)
		}
	})
}
