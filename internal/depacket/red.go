package depacket

import "encoding/binary"

// REDBlock is one block of a RED payload (RFC 2198 §3).
type REDBlock struct {
	PayloadType uint8
	Offset      uint32 // how much older than the packet, in RTP ticks; 0 for the primary block
	Payload     []byte
}

// maxRED bounds the blocks of a payload. Browsers send two or three.
const maxRED = 8

// ParseRED appends the blocks of a RED payload to dst, oldest first and the primary last. It is
// false for a payload that is not exactly what its headers say.
func ParseRED(dst []REDBlock, b []byte) ([]REDBlock, bool) {
	first := len(dst)
	lengths := [maxRED]int{}
	for i := 0; ; i++ {
		if i == maxRED || len(b) == 0 {
			return dst[:first], false
		}
		if b[0]&0x80 == 0 {
			dst = append(dst, REDBlock{PayloadType: b[0] & 0x7f})
			b = b[1:]
			break
		}
		if len(b) < 4 {
			return dst[:first], false
		}
		h := binary.BigEndian.Uint32(b)
		dst = append(dst, REDBlock{PayloadType: uint8(h >> 24 & 0x7f), Offset: h >> 10 & 0x3fff})
		lengths[i] = int(h & 0x3ff)
		b = b[4:]
	}
	for i := range dst[first:] {
		n := lengths[i]
		if first+i == len(dst)-1 {
			n = len(b) // the primary block is what is left
		}
		if n > len(b) {
			return dst[:first], false
		}
		dst[first+i].Payload = b[:n]
		b = b[n:]
	}
	return dst, true
}
