package depacket

// vp9Sizes are the sizes of the frames a VP9 decoder holds for reference. A frame header cannot
// be read to its end without them.
type vp9Sizes [8]struct{ width, height int }

// vp9Header is what is read of a frame's uncompressed header (VP9 bitstream specification §6.2).
type vp9Header struct {
	key           bool
	shown         bool
	shownAt       int // the bit that says so
	width, height int // 0 when unknown
	end           int // bits of the header, 0 when they could not all be read
}

// read reads the header of the next frame. It is false for what cannot be one.
func (s *vp9Sizes) read(b []byte) (h vp9Header, ok bool) {
	const syncCode = 0x498342
	r := bitReader{data: b}
	if r.bits(2) != 2 {
		return h, false
	}
	profile := r.bits(1) | r.bits(1)<<1
	if profile == 3 && r.flag() {
		return h, false
	}
	if r.flag() { // show_existing_frame
		return h, !r.short
	}
	h.key = !r.flag()
	h.shownAt = r.at
	h.shown = r.flag()
	resilient := r.flag()
	if h.key {
		if r.bits(24) != syncCode || !vp9Colour(&r, profile) {
			return h, false
		}
		h.size(&r)
		for i := range s {
			s[i].width, s[i].height = h.width, h.height
		}
		ok = !r.short
		r.renderSize()
		h.rest(&r, true, resilient)
		return h, ok
	}
	ok = !r.short
	intra := !h.shown && r.flag()
	if !resilient {
		r.bits(2) // reset_frame_context
	}
	var refresh uint32
	if intra {
		if r.bits(24) != syncCode || profile > 0 && !vp9Colour(&r, profile) {
			return h, false
		}
		refresh = r.bits(8)
		h.size(&r)
		r.renderSize()
	} else {
		refresh = r.bits(8)
		s.sizeOfReferences(&r, &h)
		r.renderSize()
		r.bits(1)      // allow_high_precision_mv
		if !r.flag() { // is_filter_switchable
			r.bits(2)
		}
	}
	if !r.short {
		for i := range s {
			if refresh>>i&1 == 1 {
				s[i].width, s[i].height = h.width, h.height
			}
		}
	}
	h.rest(&r, intra, resilient)
	return h, ok
}

// vp9Colour reads color_config.
func vp9Colour(r *bitReader, profile uint32) bool {
	const rgb = 7
	if profile >= 2 {
		r.bits(1) // ten_or_twelve_bit
	}
	switch colour := r.bits(3); {
	case colour != rgb:
		r.bits(1) // color_range
		if profile&1 == 1 {
			r.bits(3) // subsampling, reserved
		}
	case profile&1 == 1:
		r.bits(1)
	default:
		return false
	}
	return true
}

func (h *vp9Header) size(r *bitReader) {
	h.width, h.height = int(r.bits(16))+1, int(r.bits(16))+1
}

func (r *bitReader) renderSize() {
	if r.flag() {
		r.bits(32)
	}
}

// sizeOfReferences reads which frames the frame refers to, and its size, which may be theirs.
func (s *vp9Sizes) sizeOfReferences(r *bitReader, h *vp9Header) {
	var references [3]uint32
	for i := range references {
		references[i] = r.bits(3)
		r.bits(1) // ref_frame_sign_bias
	}
	for _, i := range references {
		if r.flag() { // found_ref
			h.width, h.height = s[i].width, s[i].height
			return
		}
	}
	h.size(r)
}

// rest reads what follows the size, to find where the header ends.
func (h *vp9Header) rest(r *bitReader, intra, resilient bool) {
	if h.width == 0 {
		return
	}
	if !resilient {
		r.bits(2) // refresh_frame_context, frame_parallel_decoding_mode
	}
	r.bits(2)     // frame_context_idx
	r.bits(6 + 3) // loop_filter_level, loop_filter_sharpness
	if enabled := r.flag(); enabled {
		if update := r.flag(); update {
			for range 4 + 2 { // loop_filter_ref_deltas, loop_filter_mode_deltas
				r.optional(7)
			}
		}
	}
	r.bits(8) // base_q_idx
	for range 3 {
		r.optional(5)
	}
	if r.flag() { // segmentation_enabled
		r.segmentation()
	}
	// tile_info
	const narrowest, widest = 4, 64 // in superblocks
	blocks := (h.width + 63) / 64
	least, most := 0, 1
	for widest<<least < blocks {
		least++
	}
	for blocks>>most >= narrowest {
		most++
	}
	for most--; least < most && r.flag(); least++ {
	}
	if r.flag() { // tile_rows_log2
		r.bits(1)
	}
	if r.bits(16) > 0 && !r.short { // header_size_in_bytes
		h.end = r.at
	}
}

// optional reads a flag and, where it is set, n bits.
func (r *bitReader) optional(n int) {
	if r.flag() {
		r.bits(n)
	}
}

// segmentation reads segmentation_params.
func (r *bitReader) segmentation() {
	if r.flag() { // segmentation_update_map
		for range 7 {
			r.optional(8)
		}
		if r.flag() { // segmentation_temporal_update
			for range 3 {
				r.optional(8)
			}
		}
	}
	if r.flag() { // segmentation_update_data
		r.bits(1)
		for range 8 {
			for _, n := range [...]int{8 + 1, 6 + 1, 2, 0} { // with the sign, where there is one
				r.optional(n)
			}
		}
	}
}

// hide appends frame as one that is decoded and not shown.
func (h vp9Header) hide(dst, frame []byte) []byte {
	size := (h.end + 7) / 8
	start := len(dst)
	dst = append(dst, frame[:size]...)
	if h.shown {
		dst[start+h.shownAt>>3] &^= 0x80 >> (h.shownAt & 7)
		if !h.key { // one that is not shown says whether it is intra_only, behind error_resilient_mode
			if h.end&7 == 0 {
				dst = append(dst, 0)
			}
			insertZero(dst[start:], h.shownAt+2)
		}
	}
	return append(dst, frame[size:]...)
}

// insertZero puts a zero before bit at. The last bit falls off.
func insertZero(b []byte, at int) {
	b = b[at>>3:]
	keep := ^byte(0xff >> (at & 7))
	carry := b[0] & 1
	b[0] = b[0]&keep | b[0]&^keep>>1
	for i := 1; i < len(b); i++ {
		b[i], carry = b[i]>>1|carry<<7, b[i]&1
	}
}
