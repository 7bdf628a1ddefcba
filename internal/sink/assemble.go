package sink

import (
	"time"

	"recorder/internal/container"
)

// picture is everything sent for one instant of a video track: a frame, or the frames of all
// spatial layers. It is whole: no packet of it is missing.
type picture struct {
	data          []byte        // in the form its file wants; valid until the next packet is pushed
	pos           int64         // on the recording's clock, in RTP ticks
	arrival       time.Duration // of its first packet, on the recording's clock
	key           bool          // decodable without any before it
	broken        bool          // something before it is missing, so only a key picture may be written
	lost          int           // packets that may have been pictures, since the picture before
	width, height int           // of a key picture, and of others where they may be of another size
	sets          container.AVC // of a key picture in H.264; valid as long as data
}

// payloadFormat reads the RTP payloads of one codec. A picture is checked as far as that takes no
// decoder: what is let through must not trip one.
type payloadFormat interface {
	// parse looks at a payload. On false it is malformed.
	parse(payload []byte) (fragment, bool)
	// appendTo appends what the payload parsed last contributes to its picture.
	appendTo(dst []byte) ([]byte, bool)
	// finish makes a picture of what was appended since reset. On false it is not one.
	finish(data []byte) (picture, bool)
	// reset forgets the current picture.
	reset()
}

// fragment is what a payload says of its place.
type fragment struct {
	begins begins
	empty  bool  // it contributes nothing
	id     int32 // picture ID, of idBits: 7, 15, or 0 when there is none
	idBits uint8
}

// begins says whether a payload is the first of a picture.
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

// follows reports whether picture IDs prove that no picture lies between two, though packets were lost:
// too few for a picture of each ID.
func (f fragment) follows(last fragment, lost int) bool {
	return f.next(last) && lost < 1<<f.idBits
}

// skips reports whether they prove that one does.
func (f fragment) skips(last fragment) bool {
	return f.idBits != 0 && f.idBits == last.idBits && f.id != last.id && !f.next(last)
}

// assembler makes pictures of packets in sequence. Only proof counts: a picture is given out when
// it is known where it begins, when no packet is missing from there on, and when the marker or the
// next picture's beginning ends it. A lost marker never joins two.
type assembler struct {
	format payloadFormat
	emit   func(picture)
	drop   func(picture) // one that will not be given out, once for each

	buf     []byte
	open    bool          // a picture is being gathered in buf,
	rtp     uint32        // of this time
	pos     int64         // and position,
	arrival time.Duration // and since then,
	first   fragment      // which began so
	before  int           // packets lost since the one before
	last    fragment      // the first fragment of the picture given out last
	ended   bool          // the packet before was not lost and ended a picture
	broken  bool          // pictures were lost, so what comes may not be decodable
	lost    int           // packets since the last picture, perhaps only padding
	passed  bool          // the packets of time rtp are being passed over
}

// maxPicture bounds a picture: a key frame of 8K at the best quality has less.
const maxPicture = 8 << 20

// maxSide bounds its width and height: IVF takes no more.
const maxSide = 1<<16 - 1

func newAssembler(f payloadFormat, emit, drop func(picture)) *assembler {
	return &assembler{format: f, emit: emit, drop: drop, broken: true}
}

// push takes the next packet. lost is how many before it were given up.
func (a *assembler) push(p *packet, lost int) {
	if lost > 0 {
		a.abandon()
		a.ended = false
		a.lost += lost
	}
	if len(p.payload) == 0 {
		return
	}
	if p.rtp != a.rtp {
		if a.open {
			a.close() // no marker, but nothing is missing either
		}
		a.ended = a.ended || a.passed && lost == 0
		a.passed = false
	}
	f, ok := a.format.parse(p.payload)
	if !ok {
		a.pass(p)
		return
	}
	if f.empty {
		if p.marker {
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
	if a.buf, ok = a.format.appendTo(a.buf); !ok || len(a.buf) > maxPicture {
		a.pass(p)
		return
	}
	if p.marker {
		a.close()
	}
}

// begin opens a picture at p if it can be its first packet.
func (a *assembler) begin(p *packet, f fragment) bool {
	if a.passed && p.rtp == a.rtp && f.begins != surely {
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
	a.open, a.rtp, a.pos, a.arrival, a.first = true, p.rtp, p.pos, p.arrival, f
	a.before, a.lost = a.lost, 0
	a.passed, a.ended = false, false
	return true
}

// pass gives up the picture p belongs to.
func (a *assembler) pass(p *packet) {
	a.abandon()
	if !a.passed || a.rtp != p.rtp {
		a.passed, a.rtp = true, p.rtp
		a.drop(picture{pos: p.pos, arrival: p.arrival, broken: true, lost: a.lost})
		a.lost = 0
	}
	a.broken = true
	a.ended = p.marker
	if p.marker {
		a.passed = false
	}
}

// abandon drops the picture at hand: it will never be whole.
func (a *assembler) abandon() {
	if a.open {
		a.open, a.passed = false, true
		a.gone()
	}
	a.buf = a.buf[:0]
	a.format.reset()
}

// close gives out the picture at hand.
func (a *assembler) close() {
	a.ended, a.passed = true, false
	if !a.open {
		return
	}
	a.open = false
	p, ok := a.format.finish(a.buf)
	if ok && max(p.width, p.height) <= maxSide {
		p.pos, p.arrival, p.broken, p.lost = a.pos, a.arrival, a.broken, a.before
		a.broken, a.last = a.broken && !p.key, a.first
		a.emit(p)
	} else {
		a.gone()
	}
	a.buf = a.buf[:0]
	a.format.reset()
}

// gone says that the picture at hand will not be given out.
func (a *assembler) gone() {
	a.broken = true
	a.drop(picture{pos: a.pos, arrival: a.arrival, broken: true, lost: a.before})
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
