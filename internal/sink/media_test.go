package sink

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/bits"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
	"github.com/pion/webrtc/v4/pkg/media/oggreader"

	ogg "recorder/internal/container"
	"recorder/internal/lab/clip"
)

// tool is the path of a program that checks our files. Without it the test is skipped, or fails
// where RECORDER_E2E says that it has to run.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("RECORDER_E2E") == "required" {
		t.Fatalf("%s is required and not installed", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// media is a clip and how it travels.
type media struct {
	name     string
	kind     string
	format   Format
	frames   [][]byte // as sent
	want     [][]byte // as they have to stand in the file
	every    time.Duration
	payloads func() rtp.Payloader
}

func load(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("../lab/clip/testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func ivfFrames(t testing.TB, file []byte) (frames [][]byte, pts []int64) {
	t.Helper()
	if len(file) < 32 {
		t.Fatalf("IVF file of %d bytes", len(file))
	}
	for b := file[32:]; len(b) > 0; {
		n := int(binary.LittleEndian.Uint32(b))
		frames, pts = append(frames, b[12:12+n]), append(pts, int64(binary.LittleEndian.Uint64(b[4:])))
		b = b[12+n:]
	}
	return frames, pts
}

func oggPackets(t testing.TB, file []byte) (packets [][]byte) {
	t.Helper()
	r, err := oggreader.NewWithOptions(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	for {
		packet, page, err := r.ParseNextPage()
		if errors.Is(err, io.EOF) {
			return packets
		}
		if err != nil {
			t.Fatal(err)
		}
		if kind, ok := page.HeaderType(packet); !ok || kind == "" {
			packets = append(packets, packet)
		}
	}
}

// accessUnits splits an H.264 byte stream at its delimiters, which pion does not send.
func accessUnits(file []byte) (sent, want [][]byte) {
	for unit := range bytes.SplitSeq(file, []byte{0, 0, 0, 1, 9}) {
		if len(unit) == 0 {
			continue
		}
		unit = unit[1:] // what kinds of slices there are
		sent = append(sent, unit)
		var avc []byte
		for nal := range bytes.SplitSeq(bytes.ReplaceAll(unit, []byte{0, 0, 0, 1}, []byte{0, 0, 1}), []byte{0, 0, 1}) {
			if len(nal) > 0 {
				avc = append(binary.BigEndian.AppendUint32(avc, uint32(len(nal))), nal...)
			}
		}
		want = append(want, avc)
	}
	return sent, want
}

func vp8Media() media {
	m := media{name: "VP8", kind: video, format: Format{MimeType: "video/VP8", ClockRate: 90000}, every: time.Second / clip.FrameRate,
		payloads: func() rtp.Payloader { return &codecs.VP8Payloader{EnablePictureID: true} }}
	for _, s := range clip.VP8() {
		m.frames = append(m.frames, s.Data)
	}
	m.want = m.frames
	return m
}

func videoMedia(t testing.TB) []media {
	h264, avc := accessUnits(load(t, "h264.h264"))
	vp9, _ := ivfFrames(t, load(t, "vp9.ivf"))
	av1, _ := ivfFrames(t, load(t, "av1.ivf"))
	return []media{
		vp8Media(),
		{name: "VP9", kind: video, format: Format{MimeType: "video/VP9", ClockRate: 90000}, frames: vp9, want: vp9, every: time.Second / 15,
			payloads: func() rtp.Payloader { return &codecs.VP9Payloader{} }},
		{name: "VP9flexible", kind: video, format: Format{MimeType: "video/VP9", ClockRate: 90000}, frames: vp9, want: vp9, every: time.Second / 15,
			payloads: func() rtp.Payloader { return &codecs.VP9Payloader{FlexibleMode: true} }},
		layersMedia(t),
		{name: "AV1", kind: video, format: Format{MimeType: "video/AV1", ClockRate: 90000}, frames: av1, want: av1, every: time.Second / 15,
			payloads: func() rtp.Payloader { return &codecs.AV1Payloader{} }},
		{name: "H264", kind: video, format: Format{MimeType: "video/H264", ClockRate: 90000}, frames: h264, want: avc, every: time.Second / 15,
			payloads: func() rtp.Payloader { return &codecs.H264Payloader{} }},
	}
}

func opusMedia() media {
	m := media{name: "Opus", kind: audio, format: Format{MimeType: "audio/opus", ClockRate: 48000}, every: clip.PacketDuration,
		payloads: func() rtp.Payloader { return &codecs.OpusPayloader{} }}
	for _, s := range clip.Opus() {
		m.frames = append(m.frames, s.Data)
	}
	m.want = m.frames
	return m
}

func voiceMedia(t testing.TB) media {
	m := opusMedia()
	m.name = "voice"
	m.frames = oggPackets(t, load(t, "voice.ogg"))
	m.want = m.frames
	return m
}

// matroskaFrames reads the SimpleBlocks of one of our files, which have no lacing.
func matroskaFrames(t testing.TB, file []byte) (frames [][]byte, pts []int64) {
	t.Helper()
	var cluster int64
	for b := file; len(b) > 0; {
		id := vintLength(b[0])
		name := b[:id]
		b = b[id:]
		n := vintLength(b[0])
		size := int64(b[0]) &^ (1 << (8 - n))
		unknown := size == 1<<(8-n)-1
		for _, c := range b[1:n] {
			size = size<<8 | int64(c)
			unknown = unknown && c == 0xff
		}
		b = b[n:]
		switch {
		case unknown: // Segment, Cluster: their content follows
			continue
		case bytes.Equal(name, []byte{0xe7}):
			cluster = 0
			for _, c := range b[:size] {
				cluster = cluster<<8 | int64(c)
			}
		case bytes.Equal(name, []byte{0xa3}):
			at := cluster + int64(int16(binary.BigEndian.Uint16(b[1:])))
			frames, pts = append(frames, b[4:size]), append(pts, (18*at+10)/20)
		}
		b = b[size:]
	}
	return frames, pts
}

func vintLength(b byte) int { return bits.LeadingZeros8(b) + 1 }

// oggAll reads all packets of one of our Ogg files but the headers, by lacing.
func oggAll(t testing.TB, b []byte) (packets [][]byte) {
	t.Helper()
	var packet []byte
	for len(b) > 0 {
		if len(b) < 27 || string(b[:4]) != "OggS" {
			t.Fatal("no Ogg page where one has to be")
		}
		lacing := b[27 : 27+int(b[26])]
		b = b[27+len(lacing):]
		for _, n := range lacing {
			packet = append(packet, b[:n]...)
			b = b[n:]
			if n < 255 {
				packets, packet = append(packets, packet), nil
			}
		}
	}
	return packets[2:]
}

func opusSamples(packet []byte) int { return ogg.OpusSamples(packet) }
