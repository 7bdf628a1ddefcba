package depacket

import (
	"encoding/base64"
	"encoding/binary"
	"strings"

	"recorder/internal/container"
)

// h264 reads H.264 payloads (RFC 6184), packetization modes 0 and 1. A frame is an access unit
// of NAL units, each after its length in four bytes.
type h264 struct {
	payload []byte
	sets    container.AVC // the parameter sets in force
	unit    int           // where the length of the fragmented NAL unit at hand stands, -1 for none
	any     bool          // the frame has a NAL unit
	slices  bool          // and one with a frame in it
	idr     bool
}

// NAL unit types (H.264 table 7-1, RFC 6184 table 1).
const (
	nalSlice  = 1
	nalIDR    = 5
	nalSEI    = 6
	nalSPS    = 7
	nalPPS    = 8
	nalAUD    = 9
	nalSingle = 23 // the last that stands for itself
	nalSTAPA  = 24
	nalFUA    = 28
)

const maxParameterSet = 1024

// newH264 takes the parameter sets of the SDP, if it has them (RFC 6184 §8.1).
func newH264(fmtp string) *h264 {
	h := &h264{unit: -1}
	for parameter := range strings.SplitSeq(fmtp, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
		if !strings.EqualFold(name, "sprop-parameter-sets") {
			continue
		}
		for set := range strings.SplitSeq(value, ",") {
			if nal, err := base64.StdEncoding.DecodeString(set); err == nil {
				h.parameters(nal)
			}
		}
	}
	return h
}

func (h *h264) reset() { h.unit, h.any, h.slices, h.idr = -1, false, false, false }

func (h *h264) parse(b []byte) (f fragment, ok bool) {
	h.payload = b
	switch kind := b[0] & 0x1f; {
	case kind >= nalSlice && kind <= nalSingle:
		f.begins = h.begins(kind, b[1:])
	case kind == nalSTAPA:
		if len(b) < 4 {
			return f, false
		}
		f.begins = h.begins(b[3]&0x1f, b[4:])
	case kind == nalFUA:
		if len(b) < 2 {
			return f, false
		}
		if b[1]&0x80 != 0 {
			f.begins = h.begins(b[1]&0x1f, b[2:])
		}
	default:
		return f, false
	}
	return f, true
}

// begins says whether a NAL unit can be the first of an access unit (H.264 §7.4.1.2.3). After
// loss only those that nothing precedes are trusted: the parameter sets of a frame may be what
// is missing.
func (h *h264) begins(kind byte, body []byte) begins {
	switch kind {
	case nalAUD, nalSPS:
		if h.any && !h.slices {
			return never
		}
		return surely
	case nalPPS, nalSEI:
		return perhaps
	}
	if kind <= nalIDR && len(body) > 0 && body[0]&0x80 == 0 { // first_mb_in_slice is not 0
		return never
	}
	return perhaps
}

func (h *h264) appendTo(dst []byte) ([]byte, bool) {
	b := h.payload
	if kind := b[0] & 0x1f; kind == nalFUA {
		return h.fragment(dst, b)
	} else if h.unit >= 0 {
		return dst, false // the end of a fragmented one is missing
	} else if kind != nalSTAPA {
		return h.append(dst, b), true
	}
	for b = b[1:]; len(b) > 0; {
		if len(b) < 2 {
			return dst, false
		}
		n := int(binary.BigEndian.Uint16(b))
		if n == 0 || n > len(b)-2 {
			return dst, false
		}
		dst = h.append(dst, b[2:2+n])
		b = b[2+n:]
	}
	return dst, true
}

// fragment appends a part of a NAL unit (RFC 6184 §5.8).
func (h *h264) fragment(dst, b []byte) ([]byte, bool) {
	first, last := b[1]&0x80 != 0, b[1]&0x40 != 0
	if first == (h.unit >= 0) || first && last {
		return dst, false
	}
	if first {
		h.unit = len(dst)
		dst = append(dst, 0, 0, 0, 0, b[0]&0xe0|b[1]&0x1f)
	}
	dst = append(dst, b[2:]...)
	if last {
		nal := dst[h.unit+4:]
		binary.BigEndian.PutUint32(dst[h.unit:], uint32(len(nal)))
		h.unit = -1
		h.note(nal)
	}
	return dst, true
}

func (h *h264) append(dst, nal []byte) []byte {
	h.note(nal)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(nal)))
	return append(dst, nal...)
}

// note remembers what a NAL unit means for the frame.
func (h *h264) note(nal []byte) {
	h.any = true
	switch kind := nal[0] & 0x1f; {
	case kind == nalIDR:
		h.idr, h.slices = true, true
	case kind >= nalSlice && kind < nalIDR:
		h.slices = true
	default:
		h.parameters(nal)
	}
}

// parameters keeps a parameter set.
func (h *h264) parameters(nal []byte) {
	if len(nal) < 2 || len(nal) > maxParameterSet {
		return
	}
	switch nal[0] & 0x1f {
	case nalSPS:
		h.sets.SPS = append(h.sets.SPS[:0], nal...)
	case nalPPS:
		h.sets.PPS = append(h.sets.PPS[:0], nal...)
	}
}

func (h *h264) finish(b []byte) (p Frame, ok bool) {
	if h.unit >= 0 || !h.slices {
		return p, false
	}
	p.Data = b
	if h.idr && len(h.sets.PPS) > 0 {
		var err error
		if p.Width, p.Height, err = h.sets.Size(); err == nil {
			p.Key, p.ParameterSets = true, h.sets
		}
	}
	return p, true
}
