package depacket

import "encoding/binary"

// vp9 reads VP9 payloads (RFC 9628). All spatial layers of a frame go into one superframe.
type vp9 struct {
	body         []byte
	starts, ends bool  // the payload begins, ends a layer frame
	frames       []int // offsets of the frame's layer frames
	open         bool  // the last of them has not ended
	sizes        vp9Sizes
	super        []byte
	index        []byte
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
		if b, ok = skipStructure(b); !ok {
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

// skipStructure passes over the scalability structure (RFC 9628 §4.2.1).
func skipStructure(b []byte) (rest []byte, ok bool) {
	if len(b) == 0 {
		return b, false
	}
	layers, sizes, group := int(b[0]>>5)+1, b[0]&0x10 != 0, b[0]&0x08 != 0
	b = b[1:]
	if sizes {
		if len(b) < 4*layers {
			return b, false
		}
		b = b[4*layers:]
	}
	if !group {
		return b, true
	}
	if len(b) == 0 {
		return b, false
	}
	frames := int(b[0])
	b = b[1:]
	for range frames {
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

// finish checks the frames' headers and, for several layers, adds the superframe index (VP9
// bitstream specification, annex B). Senders mark every layer as one to be shown, and their
// receivers show the highest. Players show all that is marked, so in the file only that one is.
func (v *vp9) finish(b []byte) (p Frame, ok bool) {
	if len(v.frames) == 0 || v.open {
		return p, false
	}
	if len(v.frames) == 1 {
		h, ok := v.sizes.read(b)
		return Frame{Data: b, Key: h.key, Width: h.width, Height: h.height}, ok
	}
	const sizeBytes = 4
	n := len(v.frames)
	marker := byte(0xc0 | (sizeBytes-1)<<3 | (n - 1))
	index := append(v.index[:0], marker)
	v.super = v.super[:0]
	for i, start := range v.frames {
		frame, before := b[start:], len(v.super)
		if i+1 < n {
			frame = b[start:v.frames[i+1]]
		}
		h, ok := v.sizes.read(frame)
		if !ok || h.end == 0 {
			return p, false
		}
		if i == 0 {
			p.Key = h.key
		}
		if i+1 < n {
			v.super = h.hide(v.super, frame)
		} else {
			v.super = append(v.super, frame...)
			p.Width, p.Height = h.width, h.height
		}
		index = binary.LittleEndian.AppendUint32(index, uint32(len(v.super)-before))
	}
	v.index = append(index, marker)
	v.super = append(v.super, v.index...)
	p.Data = v.super
	return p, true
}
