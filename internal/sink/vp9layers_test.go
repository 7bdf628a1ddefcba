package sink

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"recorder/internal/depacket"

	"github.com/pion/rtp"

	"recorder/internal/container"
)

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
	var pic []byte
	whole := depacket.New(container.VP9, "", func(p depacket.Frame) { pic = bytes.Clone(p.Data) }, func(depacket.Frame) {})
	payloader := m.payloads()
	for i, super := range sent {
		payloads := payloader.Payload(1200, super)
		for n, payload := range payloads {
			whole.Push(&depacket.Packet{Timestamp: uint32(i), Marker: n == len(payloads)-1, Payload: payload}, 0)
		}
		if pic == nil {
			t.Fatalf("superframe %d is not whole", i)
		}
		m.want, pic = append(m.want, pic), nil
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
	all := decoded(t, filepath.Join("../lab/clip/testdata", "vp9layers.ivf")) // the lower layers, too
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
