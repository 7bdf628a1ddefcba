package depacket

// vp8 reads VP8 payloads (RFC 7741).
type vp8 struct{ body []byte }

func (v *vp8) reset() {}

// parse reads the payload descriptor (RFC 7741 §4.2).
func (v *vp8) parse(b []byte) (f fragment, ok bool) {
	first := b[0]
	b = b[1:]
	if first&0x80 != 0 { // X
		if len(b) == 0 {
			return f, false
		}
		extension := b[0]
		b = b[1:]
		if extension&0x80 != 0 { // I
			if b, ok = f.pictureID(b); !ok {
				return f, false
			}
		}
		skip := 0
		if extension&0x40 != 0 { // L: TL0PICIDX
			skip++
		}
		if extension&0x30 != 0 { // T, K: TID, Y, KEYIDX
			skip++
		}
		if len(b) < skip {
			return f, false
		}
		b = b[skip:]
	}
	f.empty = len(b) == 0
	if first&0x17 == 0x10 && !f.empty { // S, and partition 0
		f.begins = surely
	}
	v.body = b
	return f, true
}

// pictureID reads a picture ID as VP8 and VP9 have it.
func (f *fragment) pictureID(b []byte) (rest []byte, ok bool) {
	switch {
	case len(b) == 0:
		return b, false
	case b[0]&0x80 == 0:
		f.id, f.idBits = int32(b[0]), 7
		return b[1:], true
	case len(b) < 2:
		return b, false
	}
	f.id, f.idBits = int32(b[0]&0x7f)<<8|int32(b[1]), 15
	return b[2:], true
}

func (v *vp8) appendTo(dst []byte) ([]byte, bool) { return append(dst, v.body...), true }

// finish checks the frame header (RFC 6386 §9.1).
func (v *vp8) finish(b []byte) (p Frame, ok bool) {
	if len(b) < 3 {
		return p, false
	}
	tag := int(b[0]) | int(b[1])<<8 | int(b[2])<<16
	header := 3
	p.Data, p.Key = b, tag&1 == 0
	if p.Key {
		header = 10
		if len(b) < header || b[3] != 0x9d || b[4] != 0x01 || b[5] != 0x2a {
			return p, false
		}
		p.Width = int(b[6]) | int(b[7]&0x3f)<<8
		p.Height = int(b[8]) | int(b[9]&0x3f)<<8
		if p.Width == 0 || p.Height == 0 {
			return p, false
		}
	}
	return p, tag>>1&7 <= 3 && tag>>5 <= len(b)-header // version, size of the first partition
}
