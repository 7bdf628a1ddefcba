package sink

import (
	"encoding/binary"
	"errors"
	"sync"
	"time"
)

// packet is one RTP packet (RFC 3550 §5.1) in a pooled buffer, or one restored from redundancy.
type packet struct {
	seq     int64         // unwrapped by reorder
	arrival time.Duration // on the recording's clock
	rtp     uint32        // timestamp
	ssrc    uint32
	seq16   uint16
	pt      uint8
	marker  bool
	late    bool   // arrived behind a packet that follows it, so its arrival says nothing of the clock
	placed  bool   // pos is known
	pos     int64  // position on the recording's clock in RTP ticks
	payload []byte // part of buf; empty for padding and for formats that are not recorded
	buf     []byte
}

// maxPooled bounds the buffers that are kept: an Ethernet frame with room to spare.
const maxPooled = 2048

var packets = sync.Pool{New: func() any { return &packet{buf: make([]byte, 0, 1536)} }}

func newPacket() *packet { return packets.Get().(*packet) }

// free returns p to the pool. Nothing may refer to p or its payload afterwards.
func (p *packet) free() {
	if cap(p.buf) > maxPooled {
		p.buf = make([]byte, 0, 1536)
	}
	*p = packet{buf: p.buf[:0]}
	packets.Put(p)
}

var errRTP = errors.New("not an RTP packet")

// parse reads the header of the packet in buf. CSRCs and header extensions are stepped over.
func (p *packet) parse() error {
	b := p.buf
	if len(b) < 12 || b[0]>>6 != 2 {
		return errRTP
	}
	start := 12 + 4*int(b[0]&0x0f)
	if b[0]&0x10 != 0 {
		if len(b) < start+4 {
			return errRTP
		}
		start += 4 + 4*int(binary.BigEndian.Uint16(b[start+2:]))
	}
	end := len(b)
	if start > end {
		return errRTP
	}
	if b[0]&0x20 != 0 {
		padding := 0
		if end > start {
			padding = int(b[end-1])
		}
		if padding == 0 || padding > end-start {
			return errRTP
		}
		end -= padding
	}
	p.marker = b[1]&0x80 != 0
	p.pt = b[1] & 0x7f
	p.seq16 = binary.BigEndian.Uint16(b[2:])
	p.rtp = binary.BigEndian.Uint32(b[4:])
	p.ssrc = binary.BigEndian.Uint32(b[8:])
	p.payload = b[start:end]
	return nil
}
