package depacket

import "recorder/internal/container"

// av1 reads AV1 payloads (RTP Payload Format For AV1, §4). A frame is a temporal unit in the
// low-overhead format: a temporal delimiter, then OBUs that state their size, which on the wire
// they need not.
type av1 struct {
	payload   []byte // behind the aggregation header
	count     int    // OBU elements, 0 when each states its length
	continued bool   // the first element goes on with the last OBU of the packet before
	unended   bool   // the last element is not the end of its OBU

	obu      []byte // of which not all has arrived
	partial  bool
	sequence av1Sequence
	header   bool // the unit holds a sequence header
	frames   int  // and so many frame headers
	width    int  // of the unit's frame, if it is a key frame
	height   int
}

// OBU types (AV1 specification §6.2.2).
const (
	obuSequenceHeader    = 1
	obuTemporalDelimiter = 2
	obuFrameHeader       = 3
	obuFrame             = 6
	obuTileList          = 8
	obuPadding           = 15
)

func (v *av1) reset() {
	v.obu, v.partial = v.obu[:0], false
	v.header, v.frames = false, 0
}

// parse reads the aggregation header.
func (v *av1) parse(b []byte) (f fragment, ok bool) {
	v.continued, v.unended = b[0]&0x80 != 0, b[0]&0x40 != 0
	v.count = int(b[0] >> 4 & 3)
	first := b[0]&0x08 != 0 // N: of a coded video sequence
	v.payload = b[1:]
	if len(v.payload) == 0 {
		f.empty = true
		return f, true
	}
	switch {
	case v.continued:
		return f, !first
	case first:
		f.begins = surely
	default:
		f.begins = perhaps
		if element, _, ok := v.element(v.payload, 0); ok && len(element) > 0 && !v.header && v.frames == 0 &&
			element[0]>>3&15 == obuSequenceHeader {
			f.begins = surely
		}
	}
	return f, true
}

// element splits the i-th OBU element off b.
func (v *av1) element(b []byte, i int) (element, rest []byte, ok bool) {
	if v.count > 0 && i == v.count-1 {
		return b, nil, true
	}
	size, n := leb128(b)
	if n == 0 || uint64(size) > uint64(len(b)-n) {
		return nil, nil, false
	}
	return b[n : n+int(size)], b[n+int(size):], true
}

func (v *av1) appendTo(dst []byte) ([]byte, bool) {
	if v.continued != v.partial {
		return dst, false
	}
	if len(dst) == 0 {
		dst = append(dst, obuTemporalDelimiter<<3|2, 0)
	}
	for b, i := v.payload, 0; len(b) > 0 || v.count > 0 && i < v.count; i++ {
		element, rest, ok := v.element(b, i)
		if !ok {
			return dst, false
		}
		v.obu = append(v.obu, element...)
		if len(v.obu) > maxFrame {
			return dst, false
		}
		b = rest
		last := len(b) == 0 && (v.count == 0 || i == v.count-1)
		if v.partial = last && v.unended; v.partial {
			break
		}
		if dst, ok = v.unit(dst, v.obu); !ok {
			return dst, false
		}
		v.obu = v.obu[:0]
	}
	return dst, true
}

// unit appends a whole OBU, which states its size or does not, as one that does.
func (v *av1) unit(dst, obu []byte) ([]byte, bool) {
	if len(obu) == 0 {
		return dst, true
	}
	head := obu[0]
	kind := head >> 3 & 15
	if head&0x80 != 0 { // obu_forbidden_bit
		return dst, false
	}
	headSize := 1
	if head&4 != 0 { // obu_extension_flag
		headSize = 2
	}
	if len(obu) < headSize {
		return dst, false
	}
	body := obu[headSize:]
	if head&2 != 0 { // obu_has_size_field
		size, n := leb128(body)
		if n == 0 || uint64(size) > uint64(len(body)-n) {
			return dst, false
		}
		body = body[n : n+int(size)]
	}
	switch kind {
	case obuTemporalDelimiter, obuTileList, obuPadding:
		return dst, true // not for receivers (§5)
	case obuSequenceHeader:
		s, ok := parseAV1Sequence(body)
		if !ok {
			return dst, false
		}
		v.sequence, v.header = s, true
	case obuFrameHeader, obuFrame:
		if v.frames == 0 {
			v.width, v.height = v.sequence.size(body)
		} else if headSize == 2 && obu[1]>>3&3 > 0 { // spatial_id: players show the highest layer
			v.width, v.height = v.sequence.width, v.sequence.height
		}
		v.frames++
	}
	dst = append(dst, head|2)
	dst = append(dst, obu[1:headSize]...)
	dst = appendLEB128(dst, uint32(len(body)))
	return append(dst, body...), true
}

func (v *av1) finish(b []byte) (p Frame, ok bool) {
	if v.partial || v.frames == 0 {
		return p, false
	}
	p.Data = b
	if p.Key = container.KeyFrame(container.AV1, b); p.Key {
		p.Width, p.Height = v.width, v.height
	}
	return p, !p.Key || p.Width > 0
}
