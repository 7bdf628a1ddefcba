package container

// OpusRate is the clock of Opus PTS and Ogg granule positions, whatever rate the sender encoded at.
const OpusRate = 48000

// LibopusPreSkip is the algorithmic delay of libopus at 48 kHz in its voip and audio modes, in
// samples: 2.5 ms of look-ahead and 4 ms of delay compensation. A decoder's first 312 samples come
// before the first sample that was captured; skipping exactly these puts sample n of the file at
// n/48000 s of the sender's clock, which is what keeps picture and sound together. Every browser
// encodes with libopus. (RFC 7845 §4.2 advises 3840 for a stream joined in its middle, to let the
// decoder converge unheard; that would move the whole file 73 ms ahead of its picture, and a first
// packet is nearly always the encoder's first as well.)
const LibopusPreSkip = 312

// maxOpusSamples is the longest packet RFC 6716 §3.2.5 [R5] allows: 120 ms.
const maxOpusSamples = OpusRate * 120 / 1000

// OpusSamples is the duration of an Opus packet in samples of 48 kHz by its TOC (RFC 6716 §3.1),
// 120 to 5760; 0 when the packet is not a valid one.
func OpusSamples(packet []byte) int {
	if len(packet) == 0 {
		return 0
	}
	toc, frames := packet[0], 1
	switch toc & 3 {
	case 1, 2:
		frames = 2
	case 3:
		if len(packet) < 2 {
			return 0
		}
		frames = int(packet[1] & 0x3f)
	}
	var frame int
	switch size := int(toc >> 3 & 3); {
	case toc&0x80 != 0: // CELT: 2.5, 5, 10, 20 ms
		frame = OpusRate / 400 << size
	case toc&0x60 == 0x60: // hybrid: 10, 20 ms
		frame = OpusRate / 100 << (size & 1)
	case size == 3: // SILK: 60 ms
		frame = OpusRate * 60 / 1000
	default: // SILK: 10, 20, 40 ms
		frame = OpusRate / 100 << size
	}
	if n := frame * frames; n <= maxOpusSamples {
		return n
	}
	return 0
}
