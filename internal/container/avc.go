package container

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrParameterSets is wrapped by errors for H.264 parameter sets that cannot be used.
var ErrParameterSets = errors.New("unusable h264 parameter sets")

// maxParameterSet bounds one parameter set; real ones have some ten bytes.
const maxParameterSet = 1024

// AVC is an H.264 configuration: the parameter sets as NAL units without start code or length,
// one of each kind.
type AVC struct{ SPS, PPS []byte }

// Size is the size of the picture in pixels, cropping applied.
func (a AVC) Size() (width, height int, err error) {
	s, err := parseSPS(a.SPS)
	return s.width, s.height, err
}

// record is the AVCDecoderConfigurationRecord of ISO/IEC 14496-15 §5.3.3.1, which announces
// lengths of four bytes before each NAL unit.
func (a AVC) record() ([]byte, sps, error) {
	s, err := parseSPS(a.SPS)
	if err != nil {
		return nil, s, err
	}
	if len(a.PPS) < 2 || len(a.PPS) > maxParameterSet || a.PPS[0]&0x1f != 8 {
		return nil, s, fmt.Errorf("%w: no PPS", ErrParameterSets)
	}
	b := []byte{1, a.SPS[1], a.SPS[2], a.SPS[3], 0xfc | 3, 0xe0 | 1}
	b = binary.BigEndian.AppendUint16(b, uint16(len(a.SPS)))
	b = append(b, a.SPS...)
	b = append(b, 1)
	b = binary.BigEndian.AppendUint16(b, uint16(len(a.PPS)))
	b = append(b, a.PPS...)
	if s.high {
		b = append(b, 0xfc|s.chroma, 0xf8|s.lumaDepth, 0xf8|s.chromaDepth, 0)
	}
	return b, s, nil
}

// sps is what a sequence parameter set says of the picture.
type sps struct {
	width, height int
	high          bool // a profile that states the fields below
	chroma        byte // chroma_format_idc
	lumaDepth     byte // bit depth less 8
	chromaDepth   byte
}

// parseSPS reads a sequence parameter set (H.264 §7.3.2.1.1) up to the cropping.
func parseSPS(nal []byte) (s sps, err error) {
	if len(nal) < 5 || len(nal) > maxParameterSet || nal[0]&0x1f != 7 {
		return s, fmt.Errorf("%w: no SPS", ErrParameterSets)
	}
	r := bitReader{data: unescape(nal[1:])}
	profile := r.bits(8)
	r.bits(16) // constraints, level
	r.ue()     // seq_parameter_set_id
	s.chroma = 1
	switch profile {
	case 100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135:
		s.high = true
		chroma := r.ue()
		if chroma == 3 {
			r.bits(1)
		}
		luma, chromaDepth := r.ue(), r.ue()
		if chroma > 3 || luma > 6 || chromaDepth > 6 {
			return s, fmt.Errorf("%w: SPS out of range", ErrParameterSets)
		}
		s.chroma, s.lumaDepth, s.chromaDepth = byte(chroma), byte(luma), byte(chromaDepth)
		r.bits(1) // qpprime_y_zero_transform_bypass_flag
		if r.bits(1) == 1 {
			r.scalingLists(s.chroma)
		}
	}
	r.ue() // log2_max_frame_num_minus4
	switch r.ue() {
	case 0:
		r.ue()
	case 1:
		r.bits(1)
		r.ue() // signed ones have the same length
		r.ue()
		for n := r.ue(); n > 0 && n <= 255 && !r.failed; n-- {
			r.ue()
		}
	}
	r.ue() // max_num_ref_frames
	r.bits(1)
	macroblocks, mapUnits := r.ue()+1, r.ue()+1
	fields := 2 - r.bits(1) // frame_mbs_only_flag
	if fields == 2 {
		r.bits(1)
	}
	r.bits(1) // direct_8x8_inference_flag
	if macroblocks > 4096 || mapUnits > 4096 {
		return s, fmt.Errorf("%w: SPS out of range", ErrParameterSets)
	}
	width, height := 16*int64(macroblocks), 16*int64(mapUnits)*int64(fields)
	if r.bits(1) == 1 { // frame_cropping_flag
		x, y := int64(1), int64(fields)
		if s.chroma == 1 || s.chroma == 2 {
			x = 2
		}
		if s.chroma == 1 {
			y *= 2
		}
		width -= x * (int64(r.ue()) + int64(r.ue()))
		height -= y * (int64(r.ue()) + int64(r.ue()))
	}
	if r.failed || width <= 0 || height <= 0 || width > 0xffff || height > 0xffff {
		return s, fmt.Errorf("%w: SPS out of range", ErrParameterSets)
	}
	s.width, s.height = int(width), int(height)
	return s, nil
}

// unescape removes emulation prevention bytes (H.264 §7.4.1).
func unescape(nal []byte) []byte {
	out := make([]byte, 0, len(nal))
	zeros := 0
	for _, b := range nal {
		if zeros >= 2 && b == 3 {
			zeros = 0
			continue
		}
		if b == 0 {
			zeros++
		} else {
			zeros = 0
		}
		out = append(out, b)
	}
	return out
}

// bitReader reads bits from the most significant on. Behind the end it reads zeros and failed.
type bitReader struct {
	data   []byte
	pos    int
	failed bool
}

func (r *bitReader) bits(n int) (v uint32) {
	for range n {
		v <<= 1
		if r.pos>>3 >= len(r.data) {
			r.failed = true
			continue
		}
		v |= uint32(r.data[r.pos>>3]>>(7-r.pos&7)) & 1
		r.pos++
	}
	return v
}

// ue reads an unsigned Exp-Golomb code (H.264 §9.1).
func (r *bitReader) ue() uint32 {
	zeros := 0
	for r.bits(1) == 0 {
		if zeros++; r.failed || zeros > 31 {
			r.failed = true
			return 0
		}
	}
	return 1<<zeros - 1 + r.bits(zeros)
}

// se reads a signed one (H.264 §9.1.1).
func (r *bitReader) se() int64 {
	v := int64(r.ue())
	if v&1 == 1 {
		return (v + 1) / 2
	}
	return -v / 2
}

// scalingLists passes over the scaling matrix (H.264 §7.3.2.1.1.1).
func (r *bitReader) scalingLists(chroma byte) {
	lists := 8
	if chroma == 3 {
		lists = 12
	}
	for i := range lists {
		if r.bits(1) == 0 {
			continue
		}
		size := 16
		if i >= 6 {
			size = 64
		}
		last, next := int64(8), int64(8)
		for range size {
			if next != 0 {
				next = (last + r.se() + 256) & 255
			}
			if next != 0 {
				last = next
			}
		}
	}
}
