package depacket

import "recorder/internal/container"

// Opus positions count samples at 48 kHz, whatever rate the sender encodes at.
const (
	OpusUnit    = container.OpusRate / 400        // 2.5 ms, the shortest frame
	OpusLongest = container.OpusRate * 120 / 1000 // 120 ms, the longest packet
	opusFrame   = container.OpusRate / 50         // 20 ms
)

// OpusValid reports whether a packet keeps the rules of RFC 6716 §3.4, so that a decoder will
// take it.
func OpusValid(b []byte) bool {
	if container.OpusSamples(b) == 0 { // [R1], [R5], unknown length
		return false
	}
	const maxFrame = 1275 // [R2]
	rest := b[1:]
	switch b[0] & 3 {
	case 0:
		return len(rest) <= maxFrame
	case 1: // [R3]
		return len(rest)%2 == 0 && len(rest)/2 <= maxFrame
	case 2: // [R4]
		n, rest, ok := opusLength(rest)
		return ok && n <= len(rest) && len(rest)-n <= maxFrame
	}
	flags := rest[0]
	rest = rest[1:]
	frames := int(flags & 0x3f)
	padding := 0
	if flags&0x40 != 0 {
		for {
			if len(rest) == 0 {
				return false
			}
			n := int(rest[0])
			rest = rest[1:]
			if n < 255 {
				padding += n
				break
			}
			padding += 254
		}
	}
	if padding > len(rest) {
		return false
	}
	rest = rest[:len(rest)-padding]
	if flags&0x80 == 0 { // [R6]
		return len(rest)%frames == 0 && len(rest)/frames <= maxFrame
	}
	total := 0 // [R7]
	for range frames - 1 {
		n, after, ok := opusLength(rest)
		if !ok {
			return false
		}
		total, rest = total+n, after
	}
	return total <= len(rest) && len(rest)-total <= maxFrame
}

// opusLength reads a frame length (RFC 6716 §3.2.1).
func opusLength(b []byte) (n int, rest []byte, ok bool) {
	switch {
	case len(b) == 0:
		return 0, b, false
	case b[0] < 252:
		return int(b[0]), b[1:], true
	case len(b) < 2:
		return 0, b, false
	}
	return int(b[1])*4 + int(b[0]), b[2:], true
}

// OpusStereo is the channel flag of a packet's TOC.
func OpusStereo(toc byte) bool { return toc&4 != 0 }

// OpusHasFEC reports whether a packet carries its predecessor a second time at a lower rate (LBRR,
// RFC 6716 §4.2.4): the flag follows one voice activity bit per 20 ms, uncompressed.
func OpusHasFEC(b []byte) bool {
	if len(b) < 2 || b[0]&0x80 != 0 || b[0]&3 != 0 { // CELT only has none
		return false
	}
	frames := 1
	if b[0]&0x60 != 0x60 && b[0]>>3&3 > 1 {
		frames = int(b[0] >> 3 & 3) // SILK of 40 or 60 ms
	}
	return b[1]&(0x80>>frames) != 0
}

// OpusFill is one packet that stands in for media that is not there.
type OpusFill struct {
	data    [2 + 6*2]byte
	n       int
	Samples int
}

// Bytes is the packet. It is valid as long as f.
func (f *OpusFill) Bytes() []byte { return f.data[:f.n] }

// OpusConcealment makes a packet of empty frames, for which a decoder conceals or goes on with comfort
// noise, of at most samples and of the mode, bandwidth and channels of toc (RFC 7845 §4.1). It is
// false when samples is less than the shortest frame; the caller carries the rest over.
func OpusConcealment(toc byte, samples int) (f OpusFill, ok bool) {
	if samples < OpusUnit {
		return f, false
	}
	config, frame := toc>>3, 0
	switch {
	case config >= 16: // CELT keeps its bandwidth and takes any size
		config &^= 3
		size := 3
		for frame = opusFrame; frame > samples; frame /= 2 {
			size--
		}
		config |= byte(size)
	case samples < container.OpusRate/100: // less than 10 ms: only CELT has it, at the nearest bandwidth
		bandwidth := [...]byte{16, 16, 20, 24}[min(int(config>>2), 3)] // narrow, medium, wide, above
		if config >= 14 {
			bandwidth = 28
		}
		frame, config = OpusUnit, bandwidth
		if samples >= 2*OpusUnit {
			frame, config = 2*OpusUnit, bandwidth+1
		}
	case config >= 12: // hybrid: 10 or 20 ms
		frame = container.OpusRate / 100
		config &^= 1
		if samples >= opusFrame {
			frame, config = opusFrame, config|1
		}
	default: // SILK: 10 or 20 ms, as 40 and 60 are several of 20
		frame = container.OpusRate / 100
		config &^= 3
		if samples >= opusFrame {
			frame, config = opusFrame, config|1
		}
	}
	return pack(config<<3|toc&4, frame, samples, nil), true
}

// silentFrame is a CELT frame of digital silence: its first symbol is the silence flag (RFC 6716
// §4.3), whatever the bandwidth and frame size.
var silentFrame = []byte{0xff, 0xfe}

// OpusSilence makes a packet of digital silence of at most samples, like OpusConcealment.
func OpusSilence(stereo bool, samples int) (f OpusFill, ok bool) {
	if samples < OpusUnit {
		return f, false
	}
	config, frame := byte(31), opusFrame // CELT, full band, 20 ms
	for ; frame > samples; frame /= 2 {
		config--
	}
	toc := config << 3
	if stereo {
		toc |= 4
	}
	return pack(toc, frame, samples, silentFrame), true
}

// pack lays out as many equal frames as fit into samples and 120 ms, six at most.
func pack(toc byte, frame, samples int, data []byte) (f OpusFill) {
	count := min(samples, OpusLongest) / frame
	count = min(count, 6)
	b := f.data[:0]
	if count == 1 {
		b = append(b, toc)
	} else {
		b = append(b, toc|3, byte(count))
	}
	for range count {
		b = append(b, data...)
	}
	f.n, f.Samples = len(b), count*frame
	return f
}
