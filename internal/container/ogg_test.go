package container

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4/pkg/media/oggreader"
	"github.com/pion/webrtc/v4/pkg/media/oggwriter"
)

// silence is 20 ms of it, mono, as libopus encodes it.
var silence = []byte{0xf8, 0xff, 0xfe}

func oggSample(t *testing.T) sample {
	write := func(o *Ogg, from int64, b []byte, page func()) []byte {
		for i := from; i < 10; i++ {
			b = o.AppendPacket(b, append(bytes.Clone(silence), byte(i)), 960)
			page()
		}
		return o.AppendEOS(b)
	}
	o, err := NewOgg(OggOptions{Serial: 7, Channels: 1, PreSkip: LibopusPreSkip, PagePackets: 3})
	if err != nil {
		t.Fatal(err)
	}
	s := sample{name: "ogg", codec: Opus, bytes: o.AppendHeader(nil)}
	s.header = len(s.bytes)
	// ends and frames come from the layout asked for: three packets of four bytes a page
	s.bytes = write(o, 0, s.bytes, func() {})
	const page = oggHeaderSize + 3 + 3*4
	for i := range 3 {
		s.ends = append(s.ends, s.header+(i+1)*page)
		s.frames = append(s.frames, int64(3*(i+1)))
	}
	s.ends, s.frames = append(s.ends, len(s.bytes)), append(s.frames, 10)
	s.resume = func(t *testing.T, f *memFile) {
		o, info, err := ResumeOgg(f, 3)
		if err != nil {
			t.Fatal(err)
		}
		if info.End != int64(len(f.b)) || o.Granule() != info.Frames*960 || info.Frames == 0 && info.End != int64(s.header) {
			t.Fatalf("resumed with %+v, %d bytes", info, len(f.b))
		}
		f.b = write(o, info.Frames, f.b, func() {})
		if info.Frames < 10 && !bytes.Equal(f.b, s.bytes) { // nothing left to add: one more empty page
			t.Fatal("the resumed file is not the uninterrupted one")
		}
	}
	return s
}

func TestOggBytesAreThoseOfPion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pion.ogg")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := oggwriter.NewWriter(f, oggwriter.WithSeekableOutput(f)) // so that it marks the last page
	if err != nil {
		t.Fatal(err)
	}
	track, err := w.NewTrack(1, oggwriter.WithSerial(99), oggwriter.WithChannelCount(2), oggwriter.WithVendor(vendor),
		oggwriter.WithUserComments(oggwriter.UserComment{Comment: "CHANNEL", Value: "lobby"}))
	if err != nil {
		t.Fatal(err)
	}
	o, err := NewOgg(OggOptions{Serial: 99, Channels: 2, PreSkip: 3840, PagePackets: 1, Tags: []Tag{{"channel", "lobby"}}})
	if err != nil {
		t.Fatal(err)
	}
	ours := o.AppendHeader(nil)
	random := rand.New(rand.NewPCG(1, 2))
	for i, size := range []int{1, 3, 100, 254, 255, 256, 509, 510, 511, 1275, 65024, 65025, 65026, 70000, 131000, 3} {
		packet := make([]byte, size)
		for i := range packet {
			packet[i] = byte(random.Uint32())
		}
		packet[0] = byte(i)<<3 | 1<<2&^3 // every configuration, one frame
		samples := OpusSamples(packet)
		ours = o.AppendPacket(ours, packet, samples)
		if err := track.WriteRTP(&rtp.Packet{Header: rtp.Header{SSRC: 1}, Payload: packet}); err != nil {
			t.Fatal(err)
		}
	}
	ours = o.AppendEOS(ours)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	theirs, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(ours, theirs) {
		t.Fatalf("ours differ from pion's at byte %d of %d and %d", firstDifference(ours, theirs), len(ours), len(theirs))
	}
	info, err := ScanOgg(bytes.NewReader(ours))
	if err != nil || !info.Clean() || info.Frames != 16 {
		t.Fatalf("%+v %v %v", info, info.Faults(), err)
	}
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func TestOggIsReadByPion(t *testing.T) {
	o, _ := NewOgg(OggOptions{Channels: 2, PreSkip: 312, Tags: []Tag{{"PEER", "anna"}}})
	b := o.AppendHeader(nil)
	for range 120 {
		b = o.AppendPacket(b, silence, 960)
	}
	r, head, err := oggreader.NewWith(bytes.NewReader(o.AppendEOS(b)))
	if err != nil {
		t.Fatal(err)
	}
	if head.Channels != 2 || head.PreSkip != 312 || head.SampleRate != 48000 || head.Version != 1 {
		t.Errorf("head %+v", head)
	}
	payload, _, err := r.ParseNextPage()
	if err != nil {
		t.Fatal(err)
	}
	tags, err := oggreader.ParseOpusTags(payload)
	if err != nil || len(tags.UserComments) != 1 || tags.UserComments[0].Value != "anna" {
		t.Errorf("tags %+v %v", tags, err)
	}
	var granules []uint64
	for {
		_, page, err := r.ParseNextPage()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		granules = append(granules, page.GranulePosition)
	}
	// 50 packets a page, which is also a second
	if want := []uint64{48000, 96000, 120 * 960}; len(granules) != 3 || granules[0] != want[0] || granules[1] != want[1] || granules[2] != want[2] {
		t.Errorf("granules %d, want %d", granules, want)
	}
}

func TestAPageHoldsOneSecondAtMost(t *testing.T) {
	o, _ := NewOgg(OggOptions{Channels: 1})
	b := o.AppendHeader(nil)
	header := len(b)
	for range 16 { // of 60 ms
		b = o.AppendPacket(b, []byte{0x18}, 2880)
	}
	if len(b) != header {
		t.Fatal("a page of 0.96 s was not kept open")
	}
	if b = o.AppendPacket(b, []byte{0x18}, 2880); len(b) != header+oggHeaderSize+2*16 {
		t.Fatalf("%d bytes after 1.02 s", len(b)-header)
	}
}

func TestAnEarlyPageLeavesTheNewestPacket(t *testing.T) {
	o, _ := NewOgg(OggOptions{Channels: 1})
	b := o.AppendHeader(nil)
	for i := range 5 {
		b = o.AppendPage(o.AppendPacket(b, silence, 960))
		info, err := ScanOgg(bytes.NewReader(b))
		if err != nil || info.Frames != int64(i) || info.OutOfOrder != 0 {
			t.Fatalf("after %d packets: %+v %v", i+1, info, err)
		}
		if again := o.AppendPage(b); len(again) != len(b) {
			t.Fatal("a page without packets was written")
		}
	}
	info, err := ScanOgg(bytes.NewReader(o.AppendEOS(b)))
	if err != nil || !info.Clean() || info.Frames != 5 {
		t.Fatalf("%+v %v", info, err)
	}
}

func TestTagsAreSanitisedAndBounded(t *testing.T) {
	long := strings.Repeat("é", 2000)
	tags := []Tag{{"chan=nel\x00", "a\nTITLE=b\x1b[31m\xff"}, {"", "dropped"}, {strings.Repeat("n", 500), long}}
	for range 100 {
		tags = append(tags, Tag{"many", "x"})
	}
	o, _ := NewOgg(OggOptions{Channels: 1, Tags: tags})
	b := o.AppendEOS(o.AppendHeader(nil))
	info, err := ScanOgg(bytes.NewReader(b))
	if err != nil || !info.Clean() {
		t.Fatal(err, info.Faults())
	}
	if got := info.Tags[0]; got != (Tag{"CHANNEL", "a TITLE=b [31m\ufffd"}) {
		t.Errorf("%q", got)
	}
	if got := info.Tags[1]; len(got.Name) != maxTagName || got.Value != strings.Repeat("é", maxTagValue/2) {
		t.Errorf("%q", got)
	}
	if len(info.Tags) != maxTags {
		t.Errorf("%d tags", len(info.Tags))
	}
}

func TestScanOggSeesWhatIsWrong(t *testing.T) {
	file := func(edit func(pages [][]byte) [][]byte) []byte {
		o, _ := NewOgg(OggOptions{Serial: 5, Channels: 1, PagePackets: 1})
		var pages [][]byte
		add := func(b []byte) { pages = append(pages, b) }
		head := o.AppendHeader(nil)
		add(head)
		o.AppendPacket(nil, silence, 960)
		for range 3 {
			add(o.AppendPacket(nil, silence, 960))
		}
		add(o.AppendEOS(nil))
		return bytes.Join(edit(pages), nil)
	}
	granule := func(page []byte, v uint64) {
		binary.LittleEndian.PutUint64(page[6:], v)
		setOggCRC(page)
	}
	for _, test := range []struct {
		name string
		edit func([][]byte) [][]byte
		want Info
	}{
		{"nothing", func(p [][]byte) [][]byte { return p }, Info{Frames: 4, EOS: true}},
		{"a page lost", func(p [][]byte) [][]byte { return append(p[:2:2], p[3:]...) }, Info{Frames: 3, EOS: true, OutOfOrder: 2}},
		{"a granule that jumps", func(p [][]byte) [][]byte { granule(p[2], 96000); return p }, Info{Frames: 4, EOS: true, OutOfOrder: 3}},
		{"a flipped bit", func(p [][]byte) [][]byte { p[3][28] ^= 1; return p }, Info{Frames: 2, TornBytes: 2 * 31}},
		{"no end", func(p [][]byte) [][]byte { return p[:4] }, Info{Frames: 3}},
		{"a trimmed end", func(p [][]byte) [][]byte { granule(p[4], 3000); return p }, Info{Frames: 4, EOS: true}},
		{"bytes behind the end", func(p [][]byte) [][]byte { return append(p, p[1]) }, Info{Frames: 4, EOS: true, TornBytes: 31}},
		{"another stream", func(p [][]byte) [][]byte { p[2][14]++; setOggCRC(p[2]); return p }, Info{Frames: 1, TornBytes: 3 * 31}},
	} {
		info, err := ScanOgg(bytes.NewReader(file(test.edit)))
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		got := Info{Frames: info.Frames, EOS: info.EOS, OutOfOrder: info.OutOfOrder, TornBytes: info.TornBytes}
		if got.Frames != test.want.Frames || got.EOS != test.want.EOS || got.OutOfOrder != test.want.OutOfOrder || got.TornBytes != test.want.TornBytes {
			t.Errorf("%s: frames %d eos %v order %d torn %d", test.name, got.Frames, got.EOS, got.OutOfOrder, got.TornBytes)
		}
	}
}

func TestOggIsAcceptedByTools(t *testing.T) {
	for _, packets := range []int{1, 60, 150, 151} {
		o, _ := NewOgg(OggOptions{Serial: 1, Channels: 1, PreSkip: LibopusPreSkip, Tags: []Tag{{"CHANNEL", "lobby"}}})
		b := o.AppendHeader(nil)
		for range packets {
			b = o.AppendPacket(b, silence, 960)
		}
		b = o.AppendEOS(b)
		info, err := ScanOgg(bytes.NewReader(b))
		if want := time.Duration(packets)*20*time.Millisecond - 6500*time.Microsecond; err != nil || info.Duration != want {
			t.Errorf("%d packets: scanned %v, want %v (%v)", packets, info.Duration, want, err)
		}
		path := writeFile(t, "a.ogg", b)
		if report := run(t, "opusinfo", path); strings.Contains(report, "WARNING") || !strings.Contains(report, "Pre-skip: 312") {
			t.Errorf("%d packets: %s", packets, report)
		}
		run(t, "ffmpeg", "-v", "error", "-i", path, "-f", "null", "-")
		out := run(t, "ffprobe", "-v", "error", "-show_entries", "format_tags=CHANNEL:stream_tags=CHANNEL", "-of", "csv=p=0", path)
		if !strings.Contains(out, "lobby") {
			t.Errorf("no tag in %q", out)
		}
		pcm := run(t, "ffmpeg", "-v", "error", "-i", path, "-f", "s16le", "-ac", "1", "-ar", "48000", "-")
		if got, want := len(pcm)/2, packets*960-LibopusPreSkip; got != want {
			t.Errorf("%d packets decoded to %d samples, want %d", packets, got, want)
		}
	}
}

// A click that libopus encoded half a second in has to come out half a second in.
func TestPreSkipKeepsSamplesInTheirPlace(t *testing.T) {
	const at = 24000
	source := filepath.Join(t.TempDir(), "source.ogg")
	run(t, "ffmpeg", "-v", "error", "-f", "lavfi", "-i", "aevalsrc='if(eq(n,24000),1,0)':s=48000:d=1",
		"-c:a", "libopus", "-application", "voip", "-b:a", "128k", "-page_duration", "20000", source)
	f, err := os.Open(source)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := oggreader.NewWithOptions(f)
	if err != nil {
		t.Fatal(err)
	}
	o, _ := NewOgg(OggOptions{Serial: 1, Channels: 1, PreSkip: LibopusPreSkip})
	b := o.AppendHeader(nil)
	for {
		packet, page, err := r.ParseNextPage()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, header := page.HeaderType(packet); !header {
			b = o.AppendPacket(b, packet, OpusSamples(packet))
		}
	}
	path := writeFile(t, "ours.ogg", o.AppendEOS(b))
	pcm := run(t, "ffmpeg", "-v", "error", "-i", path, "-f", "s16le", "-ac", "1", "-ar", "48000", "-")
	loudest, where := 0, 0
	for i := 0; i+1 < len(pcm); i += 2 {
		v := int(int16(binary.LittleEndian.Uint16([]byte(pcm[i:]))))
		if max(v, -v) > loudest {
			loudest, where = max(v, -v), i/2
		}
	}
	if where != at {
		t.Errorf("the click is at sample %d, was at %d", where, at)
	}
}

func TestOpusSamples(t *testing.T) {
	for toc, want := range map[string]int{
		"": 0, "\x00": 480, "\x08": 960, "\x10": 1920, "\x18": 2880, "\x60": 480, "\x68": 960, "\x70": 480,
		"\x80": 120, "\x88": 240, "\x90": 480, "\x98": 960, "\xf9": 1920, "\xfa": 1920,
		"\xfb": 0, "\xfb\x00": 0, "\xfb\x06": 5760, "\xfb\x07": 0, "\x83\x30": 5760, "\x1b\x82": 5760, "\x1b\x83": 0,
	} {
		if got := OpusSamples([]byte(toc)); got != want {
			t.Errorf("%s: %d, want %d", strconv.QuoteToASCII(toc), got, want)
		}
	}
}

func TestOggPacketsCostNoAllocation(t *testing.T) {
	o, _ := NewOgg(OggOptions{Channels: 2})
	packet := append([]byte{0xf8}, make([]byte, 500)...)
	b := make([]byte, 0, 1<<20)
	if n := testing.AllocsPerRun(1000, func() { b = o.AppendPacket(b[:0], packet, 960) }); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}

func BenchmarkOggPacket(b *testing.B) {
	o, _ := NewOgg(OggOptions{Channels: 2})
	packet := append([]byte{0xf8}, make([]byte, 85)...)
	buf := make([]byte, 0, 1<<16)
	b.ReportAllocs()
	for b.Loop() {
		buf = o.AppendPacket(buf[:0], packet, 960)
	}
}
