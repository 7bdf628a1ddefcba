package sink

import (
	"errors"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A sender may send anything at all: the files stay correct and everything stays bounded.
func FuzzSender(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 5, 200, 3, 4})
	f.Add([]byte{255, 1, 77, 3, 2, 99, 100, 1, 4, 77, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 400 {
			return
		}
		inCall(t, Options{}, func(c *call) {
			legs := []*leg{c.audio(), c.video()}
			take := func() byte {
				if len(b) == 0 {
					return 0
				}
				v := b[0]
				b = b[1:]
				return v
			}
			for len(b) > 0 {
				l := legs[take()%2]
				switch take() % 10 {
				case 0:
					l.seq += uint16(take()) << (take() % 9)
				case 1:
					l.rtp += uint32(take()) << (take() % 25)
				case 2:
					l.ssrc = uint32(take() % 3)
				case 3:
					l.pt = []byte{ptOpus, ptVP8, ptVP9, ptH264, 63, 0}[take()%6]
				case 4:
					c.wait(time.Duration(take()) * 10 * ms)
				case 5:
					l.WriteSenderReport(uint64(take())<<(take()%60), uint32(take())<<(take()%25), time.Now())
				case 6:
					n := min(int(take()%32), len(b))
					l.put(b[:n])
					b = b[n:]
				case 7:
					l.put(tone(l.seq))
					l.rtp += 960
				case 8:
					l.put(vp8Payload([]byte{0x10}, testPicture(take()%2 == 0)...))
					l.rtp += 3000
				case 9:
					legs[0], legs[1] = c.audio(), c.video()
				}
			}
		})
	})
}

// A flood costs the packets of it, and no memory.
func TestFloodIsBounded(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		a := c.audio()
		for range 3 {
			for range 10_000 {
				a.put(tone(a.seq))
				a.rtp += 960
			}
			if n := len(a.inbox); n > inboxLimit {
				t.Fatalf("%d packets in the inbox", n)
			}
			c.wait(20 * ms)
		}
		for range 20 {
			c.audio()
		}
		if n := len(c.stream.tracks[0].sources); n > maxSources {
			t.Errorf("%d sources", n)
		}
		for range 200 {
			trackOf(c.stream, TrackInfo{ID: strings.Repeat("x", len(c.stream.tracks)), Kind: audio})
		}
		if n := len(c.stream.tracks); n > maxTracks {
			t.Errorf("%d tracks", n)
		}
		if trackOf(c.stream, TrackInfo{ID: "t", Kind: "hologram"}) != nil {
			t.Error("a track of a kind there is not")
		}
	})
	if l := r.track.Ledger; l.Overflow < 20_000 {
		t.Errorf("overflow counted as %d", l.Overflow)
	}
}

// A packet that is larger than any is counted with those that are none.
func TestAPacketThatIsTooLargeIsCounted(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		a := c.audio()
		a.speak(5)
		a.put(make([]byte, maxPacket-12)) // no Opus, but a packet
		a.put(make([]byte, maxPacket-11))
		a.speak(5)
		a.Close()
		c.wait(3 * time.Second)
	})
	if l := r.track.Ledger; l.Received != 11 || l.Malformed != 2 {
		t.Errorf("%d packets received and %d malformed, want 11 and 2", l.Received, l.Malformed)
	}
}

// Metadata from the wire is kept if it is JSON of bounded size, and never breaks the manifest.
func TestMetadataIsBounded(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		c.rec.PeerJoined("bob", []byte(`{"name":`))
		c.rec.PeerJoined("carol", []byte(`{"name":"Carol"}`))
		c.rec.PeerJoined("dave", []byte(`"`+strings.Repeat("x", 100_000)+`"`))
		c.rec.PeerLeft("carol")
		c.rec.PeerLeft("nobody")
		c.wait(time.Second)
	})
	var text []string
	for _, p := range r.manifest.Peers {
		text = append(text, p.ID+strings.Join(strings.Fields(string(p.Metadata)), ""))
		if end := r.manifest.Ended.UTC; p.Left == nil || (p.ID == "carol") != p.Left.UTC.Before(end) {
			t.Errorf("%s was there until %v of %v", p.ID, p.Left, end)
		}
	}
	if got := strings.Join(text, " "); got != `alice bob carol{"name":"Carol"} dave` {
		t.Errorf("peers %s", got)
	}
}

// Metadata that is small on the wire is so in the manifest: deep nesting is not kept, and neither
// are spaces.
func TestMetadataDoesNotSwellTheManifest(t *testing.T) {
	nested := func(depth int, inner string) []byte {
		return []byte(`{"a` + `\"[[":` + strings.Repeat("[", depth-1) + inner + strings.Repeat("]", depth-1) + "}")
	}
	inCall(t, Options{}, func(c *call) {
		for i := range maxTracks {
			trackOf(c.stream, TrackInfo{ID: strconv.Itoa(i), Kind: audio, Metadata: nested(4000, "")})
		}
		c.rec.PeerJoined("deep", nested(maxNesting+1, "1"))
		c.rec.PeerJoined("deep behind a number", nested(maxNesting, "1e999,[1]"))
		c.rec.PeerJoined("shallow", nested(maxNesting, "1,  2"))
		b, err := c.rec.manifest.Encode()
		if err != nil || len(b) > 64<<10 {
			t.Errorf("manifest of %d bytes, %v", len(b), err)
		}
		for _, p := range c.rec.manifest.Peers {
			want := ""
			if p.ID == "shallow" {
				want = string(nested(maxNesting, "1,2"))
			}
			if string(p.Metadata) != want {
				t.Errorf("%s: metadata %q, want %q", p.ID, p.Metadata, want)
			}
		}
	})
}

// A sender that changes its codec with every picture does not fill the directory with files: what
// would need one too many is missing, and the manifest says so.
func TestFilesOfATrackAreBounded(t *testing.T) {
	flip := func(c *call, v *leg, pictures int) {
		for i := range pictures {
			if v.pt = ptVP8; i%2 == 0 {
				v.pt = ptVP9
				v.put(append([]byte{0x08 | 0x04}, vp9Key16...))
			} else {
				v.put(vp8Payload([]byte{0x10}, testPicture(true)...))
			}
			v.rtp += 3600
			c.wait(40 * ms)
		}
	}
	r := inCall(t, Options{}, func(c *call) {
		v := c.video()
		flip(c, v, 250) // 10 s
		v.Close()
		c.wait(time.Second)
	})
	if n := len(r.track.Parts); n < 8 || n > 10+partBurst {
		t.Errorf("%d files in 10 s", n)
	}
	if len(r.track.Gaps) == 0 || r.track.Completeness > 0.9 {
		t.Errorf("completeness %v, gaps %s", r.track.Completeness, r.gaps())
	}
	inCall(t, Options{}, func(c *call) {
		v := c.video()
		track := c.stream.tracks[0].manifest
		wearOut(track, 1)
		flip(c, v, 100)
		if n := len(track.Parts); n != maxParts {
			t.Errorf("%d files of one track, want no more than %d", n, maxParts)
		}
		track.Parts = track.Parts[maxParts-1:]
		v.Close()
		c.wait(time.Second)
	})
}

// wearOut has a track have had all its files but so many.
func wearOut(track *ManifestTrack, left int) {
	for i := range maxParts - left {
		track.Parts = append(track.Parts, &ManifestPart{File: "before-" + strconv.Itoa(i), Codec: "vp8", ClockRate: 90000, Size: 1, Error: "lost"})
	}
}

// A recording one of whose tracks has had all its files is full, so that another goes on. What the disk
// never took anything of is no file.
func TestARecordingIsFullWhenATrackIsOutOfFiles(t *testing.T) {
	inCall(t, Options{}, func(c *call) {
		d := new(disk)
		c.rec.create = d.wrap(c.rec.create)
		a := c.audio()
		track := c.stream.tracks[0].manifest
		wearOut(track, 2)
		for i := range 4 {
			track.Parts = append(track.Parts, &ManifestPart{File: "refused-" + strconv.Itoa(i), Codec: "opus", ClockRate: 48000, Error: "refused"})
		}
		d.set(nil, syscall.EIO)
		a.speak(50 * 60)
		if n := len(track.Parts); n < maxParts+2 || c.rec.Full() {
			t.Errorf("full %v although none of %d files more could be opened", c.rec.Full(), n-maxParts+2)
		}
		d.set(nil, nil)
		a.speak(50 * 60)
		if n := track.Ledger.FramesWritten; n == 0 || c.rec.Full() {
			t.Errorf("with one file left: %d packets are written, full %v", n, c.rec.Full())
		}
		d.set(nil, syscall.EIO)
		a.speak(50 * 3)
		d.set(nil, nil)
		a.speak(50 * 70) // it is tried again after a minute at most
		if !c.rec.Full() {
			t.Error("not full with the last file")
		}
		track.Parts = track.Parts[maxParts-2:]
		if c.rec.Full() {
			t.Error("full with files left")
		}
	})
}

// A picture too large for any file is not whole. That is no fault of the disk.
func TestAPictureNoFileCanHoldIsDropped(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		v := c.video()
		v.pt = ptVP9
		send := func(frame []byte) {
			for range 50 {
				v.put(append([]byte{0x08 | 0x04}, frame...))
				v.rtp += 3600
				c.wait(40 * ms)
			}
		}
		send([]byte{0x82, 0x49, 0x83, 0x42, 0x2f, 0xff, 0xf0, 0x00, 0xf0, 0xaa}) // 65536×16
		if v.plis+v.firs == 0 {
			t.Error("no key frame was asked for")
		}
		send(vp9Key16)
		v.Close()
		c.wait(time.Second)
	})
	if l := r.track.Ledger; l.FramesDropped != 50 || l.FramesWritten != 50 {
		t.Errorf("%d pictures dropped and %d written, want 50 each", l.FramesDropped, l.FramesWritten)
	}
	for _, g := range r.track.Gaps {
		if g.Reason != ReasonLoss && g.Reason != ReasonKeyFrameWait {
			t.Errorf("gaps %s", r.gaps())
		}
	}
}

// Metrics say what the ledgers say, pass the linter, and end with the recording.
func TestMetricsFollowTheLedger(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	inCall(t, Options{Registerer: registry}, func(c *call) {
		a, v := c.audio(), c.video()
		for i := range 50 {
			if i == 20 {
				a.seq += 2
				a.rtp += 1920
				c.wait(40 * ms)
			}
			c.step(a, v, i == 0)
		}
		c.wait(3 * time.Second)
		want := `
# HELP recorder_sink_frames_written_total Audio packets and video pictures written as they were sent.
# TYPE recorder_sink_frames_written_total counter
recorder_sink_frames_written_total{channel="room",kind="audio"} 100
recorder_sink_frames_written_total{channel="room",kind="video"} 50
# HELP recorder_sink_packets_lost_total RTP packets given up.
# TYPE recorder_sink_packets_lost_total counter
recorder_sink_packets_lost_total{channel="room",kind="audio"} 2
recorder_sink_packets_lost_total{channel="room",kind="video"} 0
`
		if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "recorder_sink_frames_written_total", "recorder_sink_packets_lost_total"); err != nil {
			t.Error(err)
		}
		if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
			t.Errorf("lint: %v %v", problems, err)
		}
		if n, err := testutil.GatherAndCount(registry); err != nil || n != 2*(1+1+1+1+2+1+3+5+8+1+2+1)+2*(1+5+8+1+1+1+1)+1+1+1+1+4+2+4+1+1+3 {
			t.Errorf("%d series, %v", n, err)
		}
	})
	if n, err := testutil.GatherAndCount(registry); err != nil || n != 0 {
		t.Errorf("%d series after the recording, %v", n, err)
	}
}

// A recording takes so many members and streams, and no manifest that could not be read back. What
// it has goes on all the same.
func TestAFullRecordingTakesNoMoreStreams(t *testing.T) {
	inCall(t, Options{}, func(c *call) {
		another := func() error {
			_, err := c.rec.NewStream(StreamInfo{PeerID: "alice", StreamID: "screen"})
			return err
		}
		for i := range maxEver - 2 {
			c.rec.PeerJoined(strconv.Itoa(i), nil)
		}
		if err := another(); err != nil || c.rec.Full() {
			t.Errorf("with room for one member: full %v, %v", c.rec.Full(), err)
		}
		c.rec.PeerJoined("the last", nil)
		if _, err := c.rec.NewStream(StreamInfo{PeerID: "bob", StreamID: "phone"}); !errors.Is(err, ErrFull) || !c.rec.Full() {
			t.Errorf("with as many members as there may be: full %v, %v", c.rec.Full(), err)
		}
		if _, err := c.stream.Track(TrackInfo{ID: "another", Kind: audio}); err != nil {
			t.Errorf("a stream that is open: %v", err)
		}
		c.rec.manifest.Peers = c.rec.manifest.Peers[:3]
		if c.rec.Full() {
			t.Error("full with 3 members")
		}
		if c.rec.weight = maxManifest - 1000; !c.rec.Full() {
			t.Error("not full although its manifest is about to be too large")
		}
		c.rec.weight = 0
	})
}

// A member that sends pictures of another size each time fills its own list, and no more than that.
func TestSizesAreListedUpToABound(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		v := c.video()
		for i := range 2 * resolutionLimit {
			frame := []byte{0x10, 0x00, 0x00, 0x9d, 0x01, 0x2a, byte(16 + i%2), 0x00, 0x10, 0x00}
			v.put(vp8Payload([]byte{0x10}, frame...))
			v.rtp += 3600
			c.wait(40 * ms)
		}
		v.Close()
		c.wait(3 * time.Second)
	})
	track := r.manifest.Streams[0].Tracks[0]
	if n := len(track.Resolutions); n != resolutionLimit || track.ResolutionsOmitted != resolutionLimit {
		t.Errorf("%d sizes are listed, %d are not", n, track.ResolutionsOmitted)
	}
}
