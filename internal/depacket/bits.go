package depacket

// bitReader reads big-endian bit fields. Behind the end there are zeros, and short is set.
type bitReader struct {
	data  []byte
	at    int
	short bool
}

// bits reads n bits, 32 at most.
func (r *bitReader) bits(n int) (v uint32) {
	for range n {
		v <<= 1
		if i := r.at >> 3; i < len(r.data) {
			v |= uint32(r.data[i]>>(7-r.at&7)) & 1
		} else {
			r.short = true
		}
		r.at++
	}
	return v
}

// flag reads one bit.
func (r *bitReader) flag() bool { return r.bits(1) == 1 }

// leb128 reads the AV1 specification's leb128() (§4.10.5), up to 32 bits; n is 0 when b does not
// hold one.
func leb128(b []byte) (v uint32, n int) {
	for i := range min(len(b), 5) {
		v |= uint32(b[i]&0x7f) << (7 * i)
		if b[i]&0x80 == 0 {
			return v, i + 1
		}
	}
	return 0, 0
}

func appendLEB128(dst []byte, v uint32) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}
