package container

// KeyFrame reports whether a frame in a file of codec c can be decoded without the ones before it,
// as far as the frame's first bytes tell. It answers for VP8, VP9 and AV1; for H.264 the container
// says so.
func KeyFrame(c Codec, frame []byte) bool {
	if len(frame) == 0 {
		return false
	}
	switch c {
	case VP8: // RFC 6386 §9.1
		return frame[0]&1 == 0
	case VP9:
		return vp9Key(frame[0])
	case AV1:
		return av1Key(frame)
	}
	return false
}

// vp9Key reads the first byte of an uncompressed header (VP9 bitstream specification §6.2):
// frame_marker, profile_low_bit, profile_high_bit, reserved_zero in profile 3,
// show_existing_frame, frame_type.
func vp9Key(b byte) bool {
	const profile3 = 0x30
	if b>>6 != 2 {
		return false
	}
	if b&profile3 == profile3 {
		return b&0x06 == 0
	}
	return b&0x0c == 0
}

// av1Key walks the OBUs of a temporal unit (AV1 specification §5.3): a decoder can begin with one
// whose first frame is a key frame that is shown, behind a sequence header.
func av1Key(unit []byte) bool {
	const (
		sequenceHeader = 1
		frameHeader    = 3
		frame          = 6

		reducedStill = 0x08 // reduced_still_picture_header, behind seq_profile and still_picture
		shownKey     = 0x10 // show_existing_frame, frame_type, show_frame
	)
	sequence, still := false, false
	for len(unit) > 0 {
		header, rest := unit[0], unit[1:]
		if header&4 != 0 { // obu_extension_flag
			if len(rest) == 0 {
				return false
			}
			rest = rest[1:]
		}
		size := uint64(len(rest))
		if header&2 != 0 { // obu_has_size_field
			var n int
			if size, n = leb128(rest); n == 0 {
				return false
			}
			rest = rest[n:]
		}
		switch kind := header >> 3 & 15; kind {
		case sequenceHeader:
			sequence, still = true, len(rest) > 0 && rest[0]&reducedStill != 0
		case frameHeader, frame:
			return sequence && (still || len(rest) > 0 && rest[0]&0xf0 == shownKey)
		}
		if size > uint64(len(rest)) {
			return false
		}
		unit = rest[size:]
	}
	return false
}

// leb128 reads the AV1 specification's leb128() (§4.10.5); n is 0 when b does not hold one.
func leb128(b []byte) (v uint64, n int) {
	for i := range min(len(b), 8) {
		v |= uint64(b[i]&0x7f) << (7 * i)
		if b[i]&0x80 == 0 {
			return v, i + 1
		}
	}
	return 0, 0
}
