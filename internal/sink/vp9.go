package sink

// vp9 reads VP9 payloads (RFC 9628). All spatial layers of a picture go into one superframe, as an
// encoder would have written them: the file holds what was sent.
type vp9 struct {
	body          []byte
	starts, ends  bool  // the payload begins, ends a layer frame
	frames        []int // offsets of the picture's layer frames
	open          bool  // the last of them has not ended
	width, height int   // of the highest layer, by the scalability structure
}

const vp9Layers = 8

func (v *vp9) reset() { v.frames, v.open = v.frames[:0], false }

// parse reads the payload descriptor (RFC 9628 §4.2).
func (v *vp9) parse(b []byte) (f fragment, ok bool) {
	const (
		bitI, bitP, bitL, bitF = 0x80, 0x40, 0x20, 0x10
		bitB, bitE, bitV       = 0x08, 0x04, 0x02
	)
	flags := b[0]
	b = b[1:]
	if flags&bitI != 0 {
		if b, ok = f.pictureID(b); !ok {
			return f, false
		}
	}
	layer := byte(0)
	if flags&bitL != 0 {
		size := 2 // with TL0PICIDX
		if flags&bitF != 0 {
			size = 1
		}
		if len(b) < size {
			return f, false
		}
		layer = b[0] >> 1 & 7
		b = b[size:]
	}
	if flags&(bitF|bitP) == bitF|bitP {
		for i := 0; ; i++ { // P_DIFF, N
			if i == 3 || len(b) == 0 {
				return f, false
			}
			more := b[0]&1 != 0
			b = b[1:]
			if !more {
				break
			}
		}
	}
	if flags&bitV != 0 {
		if b, ok = v.structure(b); !ok {
			return f, false
		}
	}
	v.body, v.starts, v.ends = b, flags&bitB != 0, flags&bitE != 0
	f.empty = len(b) == 0
	if v.starts && layer == 0 && !f.empty {
		f.begins = surely
	}
	return f, true
}

// structure reads the scalability structure (RFC 9628 §4.2.1).
func (v *vp9) structure(b []byte) (rest []byte, ok bool) {
	if len(b) == 0 {
		return b, false
	}
	layers, sizes, group := int(b[0]>>5)+1, b[0]&0x10 != 0, b[0]&0x08 != 0
	b = b[1:]
	if sizes {
		if len(b) < 4*layers {
			return b, false
		}
		top := b[4*(layers-1):]
		v.width, v.height = int(top[0])<<8|int(top[1]), int(top[2])<<8|int(top[3])
		b = b[4*layers:]
	}
	if !group {
		return b, true
	}
	if len(b) == 0 {
		return b, false
	}
	pictures := int(b[0])
	b = b[1:]
	for range pictures {
		if len(b) == 0 {
			return b, false
		}
		references := int(b[0] >> 2 & 3)
		if len(b) < 1+references {
			return b, false
		}
		b = b[1+references:]
	}
	return b, true
}

func (v *vp9) appendTo(dst []byte) ([]byte, bool) {
	if v.starts == v.open || v.starts && len(v.frames) == vp9Layers {
		return dst, false
	}
	if v.starts {
		v.frames = append(v.frames, len(dst))
	}
	v.open = !v.ends
	return append(dst, v.body...), true
}

// finish checks the uncompressed header and, for several layers, adds the superframe index (VP9
// bitstream specification, annex B).
func (v *vp9) finish(b []byte) (p picture, ok bool) {
	if len(v.frames) == 0 || v.open {
		return p, false
	}
	p.key, p.width, p.height, ok = vp9Header(b)
	if !ok {
		return p, false
	}
	if n := len(v.frames); n > 1 {
		if p.key && v.width > 0 && v.height > 0 {
			p.width, p.height = v.width, v.height
		}
		const sizeBytes = 4
		marker := byte(0xc0 | (sizeBytes-1)<<3 | (n - 1))
		end := len(b)
		b = append(b, marker)
		for i, start := range v.frames {
			next := end
			if i+1 < n {
				next = v.frames[i+1]
			}
			size := next - start
			b = append(b, byte(size), byte(size>>8), byte(size>>16), byte(size>>24))
		}
		b = append(b, marker)
	}
	p.data = b
	return p, true
}

// vp9Header reads the uncompressed header (VP9 bitstream specification §6.2) as far as the size of
// a key frame.
func vp9Header(b []byte) (key bool, width, height int, ok bool) {
	const syncCode, rgb = 0x498342, 7
	r := bitReader{data: b}
	if r.bits(2) != 2 {
		return false, 0, 0, false
	}
	profile := r.bits(1) | r.bits(1)<<1
	if profile == 3 && r.flag() {
		return false, 0, 0, false
	}
	if r.flag() { // show_existing_frame
		return false, 0, 0, !r.short
	}
	key = !r.flag()
	r.bits(2) // show_frame, error_resilient_mode
	if !key {
		return false, 0, 0, !r.short
	}
	if r.bits(24) != syncCode {
		return false, 0, 0, false
	}
	if profile >= 2 {
		r.bits(1) // bit depth
	}
	switch colour := r.bits(3); {
	case colour != rgb:
		r.bits(1) // range
		if profile&1 == 1 {
			r.bits(3) // subsampling
		}
	case profile&1 == 1:
		r.bits(1)
	default:
		return false, 0, 0, false
	}
	width, height = int(r.bits(16))+1, int(r.bits(16))+1
	return true, width, height, !r.short
}
