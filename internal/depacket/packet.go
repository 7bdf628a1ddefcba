package depacket

import (
	"encoding/binary"
	"errors"
	"sync"
	"time"
)

// Packet is one RTP packet (RFC 3550 §5.1) in a pooled buffer, or one restored from redundancy.
type Packet struct {
	seq            int64         // unwrapped by the jitter buffer
	Arrival        time.Duration // on the recording's clock
	Timestamp      uint32
	SSRC           uint32
	SequenceNumber uint16
	PayloadType    uint8
	Marker         bool
	Late           bool   // arrived behind a packet that follows it, so its arrival says nothing of the clock
	Placed         bool   // Position is known
	Position       int64  // position on the recording's clock in RTP ticks
	Payload        []byte // part of Raw; empty for padding and for formats that are not recorded
	Raw            []byte // the whole packet as it came
}

// maxPooled bounds the buffers that are kept: an Ethernet frame with room to spare.
const maxPooled = 2048

var packets = sync.Pool{New: func() any { return &Packet{Raw: make([]byte, 0, 1536)} }}

// NewPacket returns an empty packet from a pool. Whoever holds it last calls Free.
func NewPacket() *Packet { return packets.Get().(*Packet) }

// Free returns p to the pool. Nothing may refer to p or its payload afterwards.
func (p *Packet) Free() {
	if cap(p.Raw) > maxPooled {
		p.Raw = make([]byte, 0, 1536)
	}
	*p = Packet{Raw: p.Raw[:0]}
	packets.Put(p)
}

var errRTP = errors.New("not an RTP packet")

// Parse reads the header of the packet in Raw. CSRCs and header extensions are stepped over.
func (p *Packet) Parse() error {
	b := p.Raw
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
	p.Marker = b[1]&0x80 != 0
	p.PayloadType = b[1] & 0x7f
	p.SequenceNumber = binary.BigEndian.Uint16(b[2:])
	p.Timestamp = binary.BigEndian.Uint32(b[4:])
	p.SSRC = binary.BigEndian.Uint32(b[8:])
	p.Payload = b[start:end]
	return nil
}
