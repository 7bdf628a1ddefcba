package sink

import "encoding/binary"

// redBlock is one block of a RED payload (RFC 2198 §3).
type redBlock struct {
	pt      uint8
	offset  uint32 // how much older than the packet, in RTP ticks; 0 for the primary block
	payload []byte
}

// maxRED bounds the blocks of a payload. Browsers send two or three.
const maxRED = 8

// parseRED appends the blocks of a RED payload to dst, oldest first and the primary last. It is
// false for a payload that is not exactly what its headers say.
func parseRED(dst []redBlock, b []byte) ([]redBlock, bool) {
	first := len(dst)
	lengths := [maxRED]int{}
	for i := 0; ; i++ {
		if i == maxRED || len(b) == 0 {
			return dst[:first], false
		}
		if b[0]&0x80 == 0 {
			dst = append(dst, redBlock{pt: b[0] & 0x7f})
			b = b[1:]
			break
		}
		if len(b) < 4 {
			return dst[:first], false
		}
		h := binary.BigEndian.Uint32(b)
		dst = append(dst, redBlock{pt: uint8(h >> 24 & 0x7f), offset: h >> 10 & 0x3fff})
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
		dst[first+i].payload = b[:n]
		b = b[n:]
	}
	return dst, true
}
