package sink

import (
	"context"
	"encoding/binary"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// call is a recording whose pump the test turns by hand, in virtual time.
type call struct {
	*testing.T
	root   *Root
	rec    *Recording
	stream *Stream
	pumped bool // by its own pump

	connection uint32 // of the legs that begin
}

// inCall runs a call and returns what it left behind.
func inCall(t *testing.T, options Options, f func(c *call)) recorded {
	t.Helper()
	options.Dir = t.TempDir()
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	var dir string
	synctest.Test(t, func(t *testing.T) {
		root, err := Open(options)
		if err != nil {
			t.Fatal(err)
		}
		rec, err := root.newRecording(RecordingInfo{Channel: "room", Bot: "bot", Start: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		stream, err := rec.NewStream(StreamInfo{PeerID: "alice", StreamID: "camera"})
		if err != nil {
			t.Fatal(err)
		}
		f(&call{T: t, root: root, rec: rec, stream: stream})
		if err := rec.finish(context.Background(), context.Background(), rec.now()); err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(options.Dir, rec.Dir())
		if err := root.Close(); err != nil {
			t.Fatal(err)
		}
	})
	return readRecording(t, dir)
}

// startCall begins a recording with alice's stream. Unlike in inCall its pump turns by itself, and the
// test closes it.
func startCall(t *testing.T, options Options) *call {
	t.Helper()
	options.Logger = slog.New(slog.DiscardHandler)
	root, err := Open(options)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := root.NewRecording(RecordingInfo{Channel: "room"})
	if err != nil {
		t.Fatal(err)
	}
	c := &call{T: t, root: root, rec: rec, pumped: true}
	c.open("alice")
	return c
}

// wait lets time pass with the pump running.
func (c *call) wait(d time.Duration) {
	if c.pumped {
		time.Sleep(d)
		return
	}
	for until := time.Now().Add(d); time.Now().Before(until); {
		time.Sleep(min(pumpInterval, time.Until(until)))
		c.rec.tick(c.rec.now())
	}
}

// skip lets time pass with one tick at its end.
func (c *call) skip(d time.Duration) {
	time.Sleep(d)
	c.rec.tick(c.rec.now())
}

// leg is one connection's version of a track and what it sends.
type leg struct {
	*call
	*Source
	mu   sync.Mutex
	pt   uint8
	seq  uint16
	rtp  uint32
	ssrc uint32
	plis int
	firs int

	answered int // requests, by converse
}

func (l *leg) RequestKeyFrame(fir bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if fir {
		l.firs++
	} else {
		l.plis++
	}
}

func (l *leg) NACK([]uint16) {}

func (c *call) audio() *leg { return c.leg("audio track", audio) }
func (c *call) video() *leg { return c.leg("video track", video) }

const (
	ptOpus = 111
	ptVP8  = 96
	ptVP9  = 98
	ptH264 = 102
)

func (c *call) leg(id, kind string) *leg {
	l := &leg{call: c, pt: ptOpus, seq: 65000, rtp: 0xfffff000, ssrc: 7}
	if kind == video {
		l.pt = ptVP8
	}
	l.Source = newSource(trackOf(c.stream, TrackInfo{ID: id, Kind: kind}), SourceInfo{Connection: c.connection, Feedback: l}, map[uint8]Format{
		ptOpus: {MimeType: "audio/opus", ClockRate: 48000}, ptVP8: {MimeType: "video/VP8", ClockRate: 90000},
		ptVP9: {MimeType: "video/VP9", ClockRate: 90000}, ptH264: {MimeType: "video/H264", ClockRate: 90000},
	})
	return l
}

func newSource(t *Track, info SourceInfo, formats map[uint8]Format) *Source {
	src, err := t.NewSource(info)
	if err != nil {
		panic(err)
	}
	src.SetFormats(formats)
	return src
}

// trackOf is a track of a stream that is open, nil if it takes none of the kind.
func trackOf(s *Stream, info TrackInfo) *Track {
	t, _ := s.Track(info)
	return t
}

func rtpPacket(pt uint8, marker bool, seq uint16, rtp, ssrc uint32, payload []byte) []byte {
	b := make([]byte, 12, 12+len(payload))
	b[0], b[1] = 0x80, pt
	if marker {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], seq)
	binary.BigEndian.PutUint32(b[4:], rtp)
	binary.BigEndian.PutUint32(b[8:], ssrc)
	return append(b, payload...)
}

// put sends one packet now.
func (l *leg) put(payload []byte) {
	l.WriteRTP(rtpPacket(l.pt, true, l.seq, l.rtp, l.ssrc, payload), time.Now())
	l.seq++
}

// speak sends n packets of 20 ms in their time. Each holds a different frame.
func (l *leg) speak(n int) {
	for range n {
		l.put(tone(l.seq))
		l.rtp += 960
		l.wait(20 * ms)
	}
}

// tone is a CELT frame that decodes, mono, 20 ms, different for each number.
func tone(n uint16) []byte { return []byte{0xf8, 0xff, 0xfe, byte(n >> 8), byte(n)} }

// film sends n VP8 pictures at 25 frames/s, the first a key frame if so asked.
func (l *leg) film(n int, key bool) {
	for i := range n {
		l.put(vp8Payload([]byte{0x10}, testPicture(key && i == 0)...))
		l.rtp += 3600
		l.wait(40 * ms)
	}
}

// testPicture is the clip's first key frame or the picture behind it.
func testPicture(key bool) []byte {
	if key {
		return vp8Media().frames[0]
	}
	return vp8Media().frames[1]
}

// ogg is what stands in the recording's audio file.
func (r recorded) audioFile(t *testing.T) (length time.Duration, packets [][]byte) {
	t.Helper()
	for _, track := range r.manifest.Streams[0].Tracks {
		if track.Kind == audio && len(track.Parts) > 0 {
			r.file = filepath.Join(r.dir, filepath.FromSlash(track.Parts[len(track.Parts)-1].File))
		}
	}
	b, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	samples := 0
	packets = oggAll(t, b)
	for _, p := range packets {
		samples += opusSamples(p)
	}
	return samplesTime(int64(samples)), packets
}

// of makes the track of that kind the one looked at.
func (r recorded) of(kind string) recorded {
	for _, track := range r.manifest.Streams[0].Tracks {
		if track.Kind == kind {
			r.track = track
			if len(track.Parts) > 0 {
				r.file = filepath.Join(r.dir, filepath.FromSlash(track.Parts[0].File))
			}
			return r
		}
	}
	return r
}

func near(a, b, tolerance time.Duration) bool { return max(a-b, b-a) <= tolerance }
