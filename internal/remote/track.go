package remote

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"

	"recorder/internal/guard"
)

// receiveMTU is the largest RTP packet accepted, in bytes; browsers keep
// packets below 1300.
const receiveMTU = 1600

// RTPWriter takes what a [Track] receives. Its methods are called one at a
// time, must not block, must not call the Track and must not keep the buffer.
type RTPWriter interface {
	// SetFormats tells what payload types stand for, before the first packet
	// and whenever it was negotiated anew.
	SetFormats(formats map[uint8]webrtc.RTPCodecParameters)
	// WriteRTP takes one decrypted packet. Packets come as they arrive: out
	// of order, with gaps, and more than once (those recovered through RTX
	// among them, already in their original form).
	WriteRTP(packet []byte, arrival time.Time)
	// WriteSenderReport takes the NTP time (RFC 3550 §4, 32.32 fixed point)
	// that the sender says belongs to an RTP time stamp.
	WriteSenderReport(ntp uint64, rtp uint32, arrival time.Time)
	// Close says that nothing will follow: this track has ended.
	Close()
}

// Track is a media track of the member on one connection. A rebuilt
// connection brings another Track with, usually, the same id. Its methods
// may be called from any goroutine.
type Track struct {
	id         string
	mid        string
	connection uint32
	kind       webrtc.RTPCodecType
	metadata   *metadataStore
	inlet      *inlet
	delivered  func()                    // called at the first packet
	stopped    func(*webrtc.TrackRemote) // called when pion has nothing more

	ssrc      atomic.Uint32
	first     atomic.Bool // a packet was delivered
	firSeq    atomic.Uint32
	plis      atomic.Uint64 // sent
	nacks     atomic.Uint64 // packets asked for
	reception reception
	wanted    chan struct{} // closed at the first Forward, and at the end

	mu       sync.Mutex
	label    string // track id of the last description
	streams  []string
	formats  map[uint8]webrtc.RTPCodecParameters
	payloads map[uint8]payload   // what of formats matters for a packet
	remote   *webrtc.TrackRemote // what is being read, if any
	receiver *webrtc.RTPReceiver // of remote

	writing sync.Mutex // held while the writer is called
	writer  RTPWriter
	started bool // wanted is closed
	over    bool
}

// Connection tells the connection that brings the track from any other, of this
// peer or another. It is not 0.
func (t *Track) Connection() uint32 { return t.connection }

// ID is the track's id as the member's description gave it (msid) when the
// track was added; a description without one gives "mid:" and the m-line's mid.
func (t *Track) ID() string { return t.id }

// Kind is audio or video.
func (t *Track) Kind() webrtc.RTPCodecType { return t.kind }

// StreamIDs are the ids of the streams the track belongs to, none for an
// unaffiliated track.
func (t *Track) StreamIDs() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.streams)
}

// Metadata is the label the member gave the track, such as {"role":"screen"},
// nil if there is none. It is read fresh on every call.
func (t *Track) Metadata() json.RawMessage {
	return t.metadata.lookup(t.name())
}

func (t *Track) name() trackName {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := trackName{id: t.label, audio: t.kind == webrtc.RTPCodecTypeAudio}
	if len(t.streams) > 0 {
		n.stream = t.streams[0]
	}
	return n
}

// SSRC is the current synchronisation source, 0 before the transport is up.
func (t *Track) SSRC() uint32 { return t.ssrc.Load() }

// Formats are the payload types negotiated so far: what a packet of this track
// can hold, audio/red included, RTX left out.
func (t *Track) Formats() map[uint8]webrtc.RTPCodecParameters {
	t.mu.Lock()
	defer t.mu.Unlock()
	formats := make(map[uint8]webrtc.RTPCodecParameters, len(t.formats))
	for pt, codec := range t.formats {
		if !isRTX(codec) {
			formats[pt] = codec
		}
	}
	return formats
}

// Forward hands the track's packets to w. Nothing is read before the first
// call, so that a handler of [StreamAdded] or [TrackAdded] gets the first
// packet; up to 1 MB waits. Another call replaces the writer without closing
// it, and after it returns the old one is not called again; nil drops what
// comes. The writer in place when the track ends is closed, which happens at
// once if it already has.
func (t *Track) Forward(w RTPWriter) {
	t.writing.Lock()
	defer t.writing.Unlock()
	if t.over {
		if w != nil {
			w.Close()
		}
		return
	}
	t.writer = w
	if w != nil {
		w.SetFormats(t.Formats())
	}
	if !t.started && w != nil {
		t.started = true
		close(t.wanted)
	}
}

// RequestKeyFrame asks the sender for a key frame: with a PLI (RFC 4585
// §6.3.1), or with a FIR (RFC 5104 §4.3.1), which is the stronger plea. It does
// not wait, and what it asks may be lost.
func (t *Track) RequestKeyFrame(fir bool) error {
	ssrc := t.SSRC()
	if ssrc == 0 {
		return errNotReceiving
	}
	if !fir {
		t.plis.Add(1)
		return t.inlet.feedback.request(&rtcp.PictureLossIndication{SenderSSRC: t.connection, MediaSSRC: ssrc})
	}
	seq := uint8(t.firSeq.Add(1))
	return t.inlet.feedback.request(&rtcp.FullIntraRequest{SenderSSRC: t.connection, MediaSSRC: ssrc, FIR: []rtcp.FIREntry{{SSRC: ssrc, SequenceNumber: seq}}})
}

// NACK asks the sender for packets again (RFC 4585 §6.2.1). seqs are in
// rising order. It does not wait, and what it asks may be lost.
func (t *Track) NACK(seqs []uint16) error {
	ssrc := t.SSRC()
	if ssrc == 0 {
		return errNotReceiving
	}
	t.nacks.Add(uint64(len(seqs)))
	return t.inlet.feedback.request(&rtcp.TransportLayerNack{SenderSSRC: t.connection, MediaSSRC: ssrc, Nacks: rtcp.NackPairsFromSequenceNumbers(seqs)})
}

var errNotReceiving = errors.New("track does not receive yet")

// attach starts reading what pion receives for this track. A sender that
// takes another SSRC makes pion end one TrackRemote and start another.
func (t *Track) attach(remote *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
	t.mu.Lock()
	t.remote, t.receiver = remote, receiver
	t.mu.Unlock()
	t.ssrc.Store(uint32(remote.SSRC()))
	go t.takeRTP(remote)
	go t.readRTCP(receiver, remote.RID())
}

// takeRTP has packets delivered as soon as there is someone to deliver to.
func (t *Track) takeRTP(remote *webrtc.TrackRemote) {
	defer guard.Recover(t.inlet.fault)
	<-t.wanted
	t.inlet.forward(t, remote, func() { t.stopped(remote) })
}

// deliver takes a packet from the inlet, on the goroutine that decrypts, and
// allocates nothing.
func (t *Track) deliver(p []byte, now time.Time, recovered bool) {
	codec, ok := t.format(p[1] & 0x7f)
	if !ok || codec.rtx || len(p) > receiveMTU {
		t.reception.refused.Add(1)
		return
	}
	t.reception.packet(p, now, codec.rate, recovered)
	if t.first.CompareAndSwap(false, true) {
		t.delivered()
	}
	t.writing.Lock()
	defer t.writing.Unlock()
	if t.writer != nil {
		t.writer.WriteRTP(p, now)
	}
}

// repair takes a packet that was sent again and makes it what it was
// (RFC 4588 §4). ssrc is that of the original.
func (t *Track) repair(p []byte, ssrc uint32, now time.Time) {
	header := rtpHeaderSize + 4*int(p[0]&0x0f)
	if p[0]&0x10 != 0 && len(p) >= header+4 {
		header += 4 + 4*int(binary.BigEndian.Uint16(p[header+2:]))
	}
	padding := 0
	if p[0]&0x20 != 0 {
		padding = int(p[len(p)-1])
	}
	if len(p) < header+2+padding {
		return // padding that probes the path
	}
	codec, ok := t.format(p[1] & 0x7f)
	if !ok || !codec.rtx {
		t.reception.refused.Add(1)
		return
	}
	p[1] = p[1]&0x80 | codec.repairs
	copy(p[2:4], p[header:])
	binary.BigEndian.PutUint32(p[8:], ssrc)
	copy(p[header:], p[header+2:])
	t.deliver(p[:len(p)-2], now, true)
}

func (t *Track) readRTCP(receiver *webrtc.RTPReceiver, rid string) {
	defer guard.Recover(t.inlet.fault)
	buf := make([]byte, receiveMTU)
	for {
		var n int
		var err error
		if rid == "" {
			n, _, err = receiver.Read(buf)
		} else {
			n, _, err = receiver.ReadSimulcast(buf, rid)
		}
		if err != nil {
			return
		}
		t.takeRTCP(buf[:n], time.Now())
	}
}

// takeRTCP takes what the sender says of its clock.
func (t *Track) takeRTCP(b []byte, now time.Time) {
	packets, err := rtcp.Unmarshal(b)
	if err != nil {
		return
	}
	for _, p := range packets {
		report, ok := p.(*rtcp.SenderReport)
		if !ok || report.SSRC != t.SSRC() {
			continue
		}
		t.reception.senderReport(report.NTPTime, now)
		t.report(report, now)
	}
}

func (t *Track) report(r *rtcp.SenderReport, now time.Time) {
	t.writing.Lock()
	defer t.writing.Unlock()
	if t.writer != nil {
		t.writer.WriteSenderReport(r.NTPTime, r.RTPTime, now)
	}
}

// format returns what a payload type was negotiated to be.
func (t *Track) format(payloadType uint8) (payload, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, ok := t.payloads[payloadType]
	return p, ok
}

// end closes the writer and stops reading. Nothing is delivered after it.
func (t *Track) end() {
	defer guard.Recover(t.inlet.fault)
	t.finish()
	t.mu.Lock()
	remote, receiver := t.remote, t.receiver
	t.mu.Unlock()
	if remote == nil {
		return
	}
	// A connection that is closed while it starts a receiver leaves it open.
	past := time.Unix(1, 0)
	if rid := remote.RID(); rid != "" {
		_ = receiver.SetReadDeadlineSimulcast(past, rid)
	} else {
		_ = receiver.SetReadDeadline(past)
	}
}

func (t *Track) finish() {
	t.writing.Lock()
	defer t.writing.Unlock()
	if t.over {
		return
	}
	t.over = true
	if !t.started {
		t.started = true
		close(t.wanted)
	}
	if w := t.writer; w != nil {
		t.writer = nil
		w.Close()
	}
}

// Ended reports whether nothing of the track will come any more.
func (t *Track) Ended() bool {
	t.writing.Lock()
	defer t.writing.Unlock()
	return t.over
}

func (t *Track) reading() *webrtc.TrackRemote {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.remote
}

func (t *Track) setLabel(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.label = id
}

func (t *Track) setStreams(ids []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.streams = ids
}

// setFormats adds to what may arrive: what was negotiated before is still under
// way. The writer is told before a packet of it comes.
func (t *Track) setFormats(formats map[uint8]webrtc.RTPCodecParameters) {
	t.writing.Lock()
	defer t.writing.Unlock()
	t.mu.Lock()
	all := make(map[uint8]webrtc.RTPCodecParameters)
	maps.Copy(all, t.formats)
	maps.Copy(all, formats)
	t.formats, t.payloads = all, payloadsOf(all)
	t.mu.Unlock()
	if t.writer != nil {
		t.writer.SetFormats(t.Formats())
	}
}
