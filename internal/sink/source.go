package sink

import (
	"strings"
	"sync"
	"time"

	"recorder/internal/depacket"

	"recorder/internal/timeline"

	"recorder/internal/container"
)

// Format is what an RTP payload type stands for.
type Format struct {
	MimeType  string // as in the SDP: audio/opus, audio/red, video/VP8, …
	ClockRate uint32
	Fmtp      string
}

// Feedback asks the sender for something. It is called from the pump with no lock held and must
// not wait.
type Feedback interface {
	// RequestKeyFrame sends a PLI, or a FIR.
	RequestKeyFrame(fir bool)
	// NACK asks for packets again. The slice is valid during the call.
	NACK(seqs []uint16)
}

// SourceInfo describes one connection's version of a track.
type SourceInfo struct {
	Connection uint32   // which one it is, 0 if that is not known; a track may be sent anew over the same
	Feedback   Feedback // may be nil

	// Begins says that nothing was sent over the connection before. A sender begins with a key frame.
	// Asked for another while the first is on its way, Chromium throws away what it has not sent yet.
	Begins bool
}

// Source is one track as it comes over one connection. Its methods implement the writer a remote
// track forwards to; none of them waits.
type Source struct {
	track      *Track
	number     int
	connection uint32
	feedback   Feedback

	mu       sync.Mutex
	inbox    []*depacket.Packet
	renewed  map[uint8]codecFormat // formats from here on, if not nil
	reports  []senderReport
	overflow uint64 // packets refused
	broken   uint64 // not RTP, or larger than any packet
	closed   bool

	// Owned by the pump.
	taken      []*depacket.Packet // the other inbox
	formats    map[uint8]codecFormat
	ssrc       uint32
	known      bool             // ssrc is
	candidate  *depacket.Packet // of another SSRC, or far off in sequence
	window     depacket.JitterBuffer
	nacker     depacket.NACKGenerator
	clock      timeline.Clock
	keys       depacket.KeyFrames
	begins     bool          // nothing has come, and a key frame will come first
	urged      time.Duration // when a key frame was last asked for as a precaution
	delivered  bool          // something of it is accounted for
	superseded bool          // a newer source has taken over
	over       bool          // closed, and all of it is in the window
	asm        *depacket.Depacketizer
	codec      container.Codec // asm's
	wanted     []uint16
	blocks     []depacket.REDBlock
}

type senderReport struct {
	ntp     uint64
	rtp     uint32
	arrival time.Duration
}

// codecFormat is a Format as the sink sees it.
type codecFormat struct {
	codec  container.Codec // empty when the format is not recorded
	red    bool
	stereo bool
	fmtp   string
}

const (
	// inboxLimit bounds what arrives between two ticks, or while the pump is held up: 0.4 s of 50 Mbit/s.
	inboxLimit   = 2048
	audioHeld    = 1 << 20 // bytes in the reorder window
	videoHeld    = 16 << 20
	maxReports   = 16
	maxPacket    = 64 << 10
	urgeAfter    = 400 * time.Millisecond // a hole that old may stay one
	urgeInterval = time.Second

	// pathSilence is how long nothing of a stream comes, though it was sent, before the path counts as
	// having been down. Senders of sound are never silent for so long.
	pathSilence = time.Second
)

// NewSource adds a connection that delivers the track. Until it does, its predecessor is written.
// The error is ErrClosed on a closed stream.
func (t *Track) NewSource(info SourceInfo) (*Source, error) {
	rec := t.stream.rec
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if t.stream.closed || rec.closing {
		return nil, ErrClosed
	}
	t.counter++
	t.orphan = false
	src := &Source{track: t, number: t.counter, connection: info.Connection, feedback: info.Feedback}
	slew, held := int64(timeline.AudioSlew), audioHeld
	if t.kind == video {
		slew, held = timeline.VideoSlew, videoHeld
		src.keys.Need()
		src.begins = info.Begins
	}
	src.clock = timeline.New(t.rate(), slew)
	src.window = depacket.NewJitterBuffer(rec.root.options.ReorderWindow, held)
	if t.faulty() {
		src.closed = true
		return src, nil
	}
	if len(t.sources) >= maxSources {
		t.do((*Track).finishOldest, rec.now())
	}
	t.sources = append(t.sources, src)
	return src, nil
}

// rate is that of the track's RTP time.
func (t *Track) rate() int64 {
	if t.kind == video {
		return container.VideoClockRate
	}
	return container.OpusRate
}

// kind is the kind of track the format is for.
func (c codecFormat) kind() string {
	switch {
	case c.red || c.codec == container.Opus:
		return audio
	case c.codec != "":
		return video
	}
	return ""
}

func newCodecFormat(f Format) codecFormat {
	c := codecFormat{fmtp: f.Fmtp}
	switch strings.ToLower(f.MimeType) {
	case "audio/opus":
		c.codec = container.Opus
		for _, parameter := range strings.Split(f.Fmtp, ";") {
			if strings.EqualFold(strings.TrimSpace(parameter), "sprop-stereo=1") {
				c.stereo = true
			}
		}
	case "audio/red":
		c.red = true
	case "video/vp8":
		c.codec = container.VP8
	case "video/vp9":
		c.codec = container.VP9
	case "video/av1":
		c.codec = container.AV1
	case "video/h264":
		c.codec = container.H264
	}
	return c
}

// SetFormats says what payload types stand for, before the first packet and whenever that changes. RTX
// and FEC are not listed.
func (src *Source) SetFormats(formats map[uint8]Format) {
	known := make(map[uint8]codecFormat)
	for pt, f := range formats {
		if c := newCodecFormat(f); int64(f.ClockRate) == src.track.rate() && c.kind() == src.track.kind {
			known[pt] = c
		}
	}
	src.mu.Lock()
	defer src.mu.Unlock()
	src.renewed = known
}

// WriteRTP takes one RTP packet, which it copies. Arrival carries Go's monotonic reading.
func (src *Source) WriteRTP(b []byte, arrival time.Time) {
	p, bad := depacket.NewPacket(), len(b) > maxPacket
	if !bad {
		p.Raw = append(p.Raw[:0], b...)
		p.Arrival = arrival.Sub(src.track.stream.rec.start)
		bad = p.Parse() != nil
	}
	src.mu.Lock()
	defer src.mu.Unlock()
	switch {
	case src.closed:
	case bad:
		src.broken++
	case len(src.inbox) >= inboxLimit:
		src.overflow++
	default:
		src.inbox = append(src.inbox, p)
		return
	}
	p.Free()
}

// WriteSenderReport takes the clocks of an RTCP sender report of the track's SSRC.
func (src *Source) WriteSenderReport(ntp uint64, rtp uint32, arrival time.Time) {
	src.mu.Lock()
	defer src.mu.Unlock()
	if !src.closed && len(src.reports) < maxReports {
		src.reports = append(src.reports, senderReport{ntp, rtp, arrival.Sub(src.track.stream.rec.start)})
	}
}

// Close says that this connection delivers nothing more. What it delivered is still written.
func (src *Source) Close() {
	src.mu.Lock()
	defer src.mu.Unlock()
	src.closed = true
}

func (src *Source) isClosed() bool {
	src.mu.Lock()
	defer src.mu.Unlock()
	return src.closed
}

// collect takes over what connections have delivered.
func (src *Source) collect() {
	src.mu.Lock()
	defer src.mu.Unlock()
	src.inbox, src.taken = src.taken[:0], src.inbox
	if src.renewed != nil {
		src.formats, src.renewed = src.renewed, nil
	}
	src.over = src.over || src.closed
	l := &src.track.manifest.Ledger
	l.Overflow += src.overflow
	l.Malformed += src.broken
	src.overflow, src.broken = 0, 0
	for _, r := range src.reports {
		src.clock.Report(r.ntp, r.rtp, r.arrival)
	}
	src.reports = src.reports[:0]
}

// receive sorts in what came since the last tick.
func (src *Source) receive(now time.Duration) {
	src.collect()
	src.clock.Expire(now)

	s := src.track.stream
	heard := s.heard()
	for i, p := range src.taken {
		src.taken[i] = nil
		before, arrival, holes := heard, p.Arrival, src.window.Holes()
		heard = max(heard, arrival)
		src.track.heard = max(src.track.heard, arrival)
		if src.superseded {
			p.Free()
			continue
		}
		src.sort(p, now)
		if !s.out && arrival-before > pathSilence && src.window.Holes() > holes {
			// So few packets may be missing that for most of the time none was sent.
			most := time.Duration(src.window.Holes()-holes) * pathSilence
			s.noteOutage(outage{ReasonReconnect, before, min(arrival, before+most)})
		}
	}
}
