// Package depacket turns the RTP packets of one source into whole frames: the jitter buffer, RED
// (RFC 2198), the payload formats of VP8, VP9, AV1, H.264 and Opus, and what to ask the sender for:
// missing packets and key frames. It does no I/O and has no clock of its own: time is passed in, on
// one clock of the caller's. Nothing here is safe for use by several goroutines, and nothing allocates
// for a packet.
package depacket

import (
	"time"

	"recorder/internal/container"
)

// Frame is everything sent for one instant of a video track: a picture, or the layers of one. It is
// whole: no packet of it is missing.
type Frame struct {
	Data          []byte        // in the form its file wants; valid until the next packet is pushed
	Position      int64         // on the recording's clock, in RTP ticks
	Arrival       time.Duration // of its first packet, on the recording's clock
	Key           bool          // decodable without any before it
	Broken        bool          // something before it is missing, so only a key frame may be written
	Lost          int           // packets that may have been frames, since the frame before
	Width, Height int           // of a key frame, and of others where they may be of another size
	ParameterSets container.AVC // of a key frame in H.264; valid as long as data
}

// payloadFormat reads the RTP payloads of one codec. A frame is checked as far as that takes no
// decoder: what is let through must not trip one.
type payloadFormat interface {
	// parse looks at a payload. On false it is malformed.
	parse(payload []byte) (fragment, bool)
	// appendTo appends what the payload parsed last contributes to its frame.
	appendTo(dst []byte) ([]byte, bool)
	// finish makes a frame of what was appended since reset. On false it is not one.
	finish(data []byte) (Frame, bool)
	// reset forgets the current frame.
	reset()
}

// fragment is what a payload says of its place.
type fragment struct {
	begins begins
	empty  bool  // it contributes nothing
	id     int32 // picture ID, of idBits: 7, 15, or 0 when there is none
	idBits uint8
}

// begins says whether a payload is the first of a frame.
type begins int

const (
	never   begins = iota
	perhaps        // if the packet before it was the last of one
	surely
)

// next reports whether f has the picture ID behind last's. It may have come round to it.
func (f fragment) next(last fragment) bool {
	return f.idBits != 0 && f.idBits == last.idBits && f.id == (last.id+1)&(1<<f.idBits-1)
}

// follows reports whether picture IDs prove that no frame lies between two, though packets were lost:
// too few for a frame of each ID.
func (f fragment) follows(last fragment, lost int) bool {
	return f.next(last) && lost < 1<<f.idBits
}

// skips reports whether they prove that one does.
func (f fragment) skips(last fragment) bool {
	return f.idBits != 0 && f.idBits == last.idBits && f.id != last.id && !f.next(last)
}

// Depacketizer makes frames of packets in sequence. Only proof counts: a frame is given out when
// it is known where it begins, when no packet is missing from there on, and when the marker or the
// next frame's beginning ends it. A lost marker never joins two.
type Depacketizer struct {
	format payloadFormat
	emit   func(Frame)
	drop   func(Frame) // one that will not be given out, once for each

	buf     []byte
	open    bool          // a frame is being gathered in buf,
	rtp     uint32        // of this time
	pos     int64         // and position,
	arrival time.Duration // and since then,
	first   fragment      // which began so
	before  int           // packets lost since the one before
	last    fragment      // the first fragment of the frame given out last
	ended   bool          // the packet before was not lost and ended a frame
	broken  bool          // frames were lost, so what comes may not be decodable
	lost    int           // packets since the last frame, perhaps only padding
	passed  bool          // the packets of time rtp are being passed over
}

// maxFrame bounds a frame: a key frame of 8K at the best quality has less.
const maxFrame = 8 << 20

// maxSide bounds its width and height: IVF takes no more.
const maxSide = 1<<16 - 1

// New returns a Depacketizer for a video codec, and nil for one that cannot be
// recorded. fmtp is its format's in the description. emit takes each whole frame, drop each that will
// not be whole, once.
func New(c container.Codec, fmtp string, emit, drop func(Frame)) *Depacketizer {
	f := newPayloadFormat(c, fmtp)
	if f == nil {
		return nil
	}
	return newAssembler(f, emit, drop)
}

func newAssembler(f payloadFormat, emit, drop func(Frame)) *Depacketizer {
	return &Depacketizer{format: f, emit: emit, drop: drop, broken: true}
}

// Push takes the next packet. lost is how many before it were given up.
func (a *Depacketizer) Push(p *Packet, lost int) {
	if lost > 0 {
		a.abandon()
		a.ended = false
		a.lost += lost
	}
	if len(p.Payload) == 0 {
		return
	}
	if p.Timestamp != a.rtp {
		if a.open {
			a.close() // no marker, but nothing is missing either
		}
		a.ended = a.ended || a.passed && lost == 0
		a.passed = false
	}
	f, ok := a.format.parse(p.Payload)
	if !ok {
		a.pass(p)
		return
	}
	if f.empty {
		if p.Marker {
			a.close()
		}
		return
	}
	if a.open && f.begins == surely {
		a.close()
	}
	if !a.open && !a.begin(p, f) {
		a.pass(p)
		return
	}
	if a.buf, ok = a.format.appendTo(a.buf); !ok || len(a.buf) > maxFrame {
		a.pass(p)
		return
	}
	if p.Marker {
		a.close()
	}
}

// NeedsKeyFrame reports whether frames were lost, so that only a key frame can be decoded.
func (a *Depacketizer) NeedsKeyFrame() bool { return a.broken }

// begin opens a frame at p if it can be its first packet.
func (a *Depacketizer) begin(p *Packet, f fragment) bool {
	if a.passed && p.Timestamp == a.rtp && f.begins != surely {
		return false
	}
	if f.begins == never || f.begins == perhaps && !a.ended {
		return false
	}
	if f.follows(a.last, a.lost) {
		a.lost = 0
	}
	if a.lost > 0 || f.skips(a.last) {
		a.broken = true
	}
	a.open, a.rtp, a.pos, a.arrival, a.first = true, p.Timestamp, p.Position, p.Arrival, f
	a.before, a.lost = a.lost, 0
	a.passed, a.ended = false, false
	return true
}

// pass gives up the frame p belongs to.
func (a *Depacketizer) pass(p *Packet) {
	a.abandon()
	if !a.passed || a.rtp != p.Timestamp {
		a.passed, a.rtp = true, p.Timestamp
		a.drop(Frame{Position: p.Position, Arrival: p.Arrival, Broken: true, Lost: a.lost})
		a.lost = 0
	}
	a.broken = true
	a.ended = p.Marker
	if p.Marker {
		a.passed = false
	}
}

// abandon drops the current frame: it will never be whole.
func (a *Depacketizer) abandon() {
	if a.open {
		a.open, a.passed = false, true
		a.gone()
	}
	a.buf = a.buf[:0]
	a.format.reset()
}

// close gives out the current frame.
func (a *Depacketizer) close() {
	a.ended, a.passed = true, false
	if !a.open {
		return
	}
	a.open = false
	p, ok := a.format.finish(a.buf)
	if ok && max(p.Width, p.Height) <= maxSide {
		p.Position, p.Arrival, p.Broken, p.Lost = a.pos, a.arrival, a.broken, a.before
		a.broken, a.last = a.broken && !p.Key, a.first
		a.emit(p)
	} else {
		a.gone()
	}
	a.buf = a.buf[:0]
	a.format.reset()
}

// gone says that the current frame will not be given out.
func (a *Depacketizer) gone() {
	a.broken = true
	a.drop(Frame{Position: a.pos, Arrival: a.arrival, Broken: true, Lost: a.before})
}

// newPayloadFormat returns the reader for a video codec, nil for one that cannot be recorded.
func newPayloadFormat(c container.Codec, fmtp string) payloadFormat {
	switch c {
	case container.VP8:
		return new(vp8)
	case container.VP9:
		return new(vp9)
	case container.AV1:
		return new(av1)
	case container.H264:
		return newH264(fmtp)
	}
	return nil
}
