package sink

import (
	"bytes"
	"encoding/binary"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtp"

	"recorder/internal/container"
)

// layers splits a superframe at its index.
func layers(super []byte) (frames [][]byte) {
	marker := super[len(super)-1]
	if marker&0xe0 != 0xc0 {
		return [][]byte{super}
	}
	n, size := int(marker&7)+1, int(marker>>3&3)+1
	index := super[len(super)-n*size-1 : len(super)-1]
	for i := range n {
		var length [4]byte
		copy(length[:], index[i*size:(i+1)*size])
		end := binary.LittleEndian.Uint32(length[:])
		frames, super = append(frames, super[:end]), super[end:]
	}
	return frames
}

// layersPayloader sends superframes as Chromium does: each spatial layer in packets of its own, in
// non-flexible mode.
type layersPayloader struct{ id uint16 }

func (l *layersPayloader) Payload(mtu uint16, super []byte) (payloads [][]byte) {
	l.id = (l.id + 1) & 0x7fff
	for i, frame := range layers(super) {
		const begins, ends = 0x08, 0x04
		flags := byte(0x80 | 0x20 | begins) // picture ID, layer indices
		for len(frame) > 0 {
			n := min(len(frame), int(mtu)-5)
			if n == len(frame) {
				flags |= ends
			}
			head := []byte{flags, 0x80 | byte(l.id>>8), byte(l.id), byte(i << 1), 0}
			payloads = append(payloads, append(head, frame[:n]...))
			frame, flags = frame[n:], flags&^begins
		}
	}
	return payloads
}

func layersMedia(t testing.TB) media {
	sent, _ := ivfFrames(t, load(t, "vp9layers.ivf"))
	m := media{name: "VP9layers", kind: video, format: Format{MimeType: "video/VP9", ClockRate: 90000}, frames: sent, every: time.Second / 20,
		payloads: func() rtp.Payloader { return new(layersPayloader) }}
	v := new(vp9)
	for _, super := range sent {
		v.reset()
		var b []byte
		for _, frame := range layers(super) {
			v.frames = append(v.frames, len(b))
			b = append(b, frame...)
		}
		p, ok := v.finish(b)
		if !ok || len(v.frames) != 2 {
			t.Fatalf("superframe of %d layers: %v", len(v.frames), ok)
		}
		m.want = append(m.want, bytes.Clone(p.data))
	}
	return m
}

// Of the layers of a picture players show the highest, and it is what a receiver of the call saw.
func TestHighestVP9LayerIsShown(t *testing.T) {
	m := layersMedia(t)
	r := record(t, m, Options{}, func(_ *Stream, track *Track) {
		l := newLink(weather{}, 1)
		l.to = newSource(track, SourceInfo{Feedback: l}, map[uint8]Format{96: m.format})
		go l.run()
		m.play(l, 1)
		time.Sleep(time.Second)
		close(l.stop)
	})
	shown := decoded(t, r.file)
	if len(shown) != len(m.frames) {
		t.Fatalf("%d pictures are shown of %d", len(shown), len(m.frames))
	}
	all := decoded(t, filepath.Join("testdata", "vp9layers.ivf")) // the lower layers, too
	var highest []string
	for i := 1; i < len(all); i += 2 {
		highest = append(highest, all[i])
	}
	if !slices.Equal(shown, highest) {
		t.Errorf("shown are\n%s\nwant\n%s", strings.Join(shown, "\n"), strings.Join(highest, "\n"))
	}
	if p := r.track.Parts[0]; p.Width != 640 || p.Height != 360 || p.Codec != string(container.VP9) {
		t.Errorf("part: %+v", p)
	}
}

// decoded is a line for each picture FFmpeg shows: how many bytes, and what they are.
func decoded(t *testing.T, file string) (pictures []string) {
	t.Helper()
	out, err := exec.Command(tool(t, "ffmpeg"), "-v", "fatal", "-i", file, "-fps_mode", "passthrough", "-autoscale", "0",
		"-enc_time_base", "-1", "-f", "framemd5", "-").Output()
	if err != nil {
		t.Fatalf("ffmpeg %s: %v", file, err)
	}
	for line := range strings.Lines(string(out)) {
		if fields := strings.Split(line, ","); line[0] != '#' && len(fields) == 6 {
			pictures = append(pictures, strings.TrimSpace(fields[4]+fields[5]))
		}
	}
	return pictures
}

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
	superframes, _ := ivfFrames(f, load(f, "vp9layers.ivf"))
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
