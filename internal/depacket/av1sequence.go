package depacket

// av1Sequence is what a sequence header (AV1 specification §5.5) says that a frame header needs to
// be read.
type av1Sequence struct {
	still         bool // reduced_still_picture_header
	decoderModel  bool
	widthBits     int
	heightBits    int
	width, height int // the largest
	frameID       int // bits of a frame's id, 0 for none
	screenContent int // seq_force_screen_content_tools, 2 when each frame chooses
	integerMV     int // seq_force_integer_mv, 2 when each frame chooses
	orderHint     int // bits
}

const av1Select = 2

func parseAV1Sequence(b []byte) (s av1Sequence, ok bool) {
	r := bitReader{data: b}
	r.bits(3 + 1) // seq_profile, still_picture
	s.still = r.flag()
	if s.still {
		r.bits(5)
	} else {
		delay := s.timing(&r)
		displayDelay := r.flag()
		for range r.bits(5) + 1 {
			r.bits(12)         // operating_point_idc
			if r.bits(5) > 7 { // seq_level_idx
				r.bits(1)
			}
			if s.decoderModel && r.flag() {
				r.bits(delay)
				r.bits(delay)
				r.bits(1)
			}
			if displayDelay && r.flag() {
				r.bits(4)
			}
		}
	}
	s.widthBits, s.heightBits = int(r.bits(4))+1, int(r.bits(4))+1
	s.width, s.height = int(r.bits(s.widthBits))+1, int(r.bits(s.heightBits))+1
	if !s.still && r.flag() { // frame_id_numbers_present_flag
		delta := int(r.bits(4)) + 2
		s.frameID = int(r.bits(3)) + delta + 1
	}
	r.bits(3) // superblock size, filter intra, intra edge filter
	s.screenContent, s.integerMV = av1Select, av1Select
	if !s.still {
		s.tools(&r)
	}
	return s, !r.short
}

// timing reads timing_info and decoder_model_info, and returns the bits of a buffer delay.
func (s *av1Sequence) timing(r *bitReader) (delay int) {
	if !r.flag() {
		return 0
	}
	r.bits(32)
	r.bits(32)
	if r.flag() { // equal_picture_interval: uvlc()
		zeros := 0
		for !r.flag() && !r.short && zeros < 32 {
			zeros++
		}
		r.bits(zeros)
	}
	if s.decoderModel = r.flag(); s.decoderModel {
		delay = int(r.bits(5)) + 1
		r.bits(32)
		r.bits(10)
	}
	return delay
}

// tools reads the flags of coding tools up to the bits of an order hint.
func (s *av1Sequence) tools(r *bitReader) {
	r.bits(4) // interintra, masked compound, warped motion, dual filter
	order := r.flag()
	if order {
		r.bits(2) // joint compound, reference motion vectors
	}
	if !r.flag() { // seq_choose_screen_content_tools
		s.screenContent = int(r.bits(1))
	}
	if s.screenContent > 0 && !r.flag() { // seq_choose_integer_mv
		s.integerMV = int(r.bits(1))
	}
	if order {
		s.orderHint = int(r.bits(3)) + 1
	}
}

// size reads the header of a key frame (§5.9.2) for the frame's size, 0 when it is cut short.
func (s *av1Sequence) size(b []byte) (width, height int) {
	width, height = s.width, s.height
	if s.still || s.decoderModel { // no encoder for calls has one
		return width, height
	}
	r := bitReader{data: b}
	r.bits(4 + 1) // show_existing_frame, frame_type, show_frame, disable_cdf_update
	screen := s.screenContent
	if screen == av1Select {
		screen = int(r.bits(1))
	}
	if screen == 1 && s.integerMV == av1Select {
		r.bits(1)
	}
	r.bits(s.frameID)
	override := r.flag()
	r.bits(s.orderHint)
	if override {
		width, height = int(r.bits(s.widthBits))+1, int(r.bits(s.heightBits))+1
	}
	if r.short {
		return 0, 0
	}
	return width, height
}
