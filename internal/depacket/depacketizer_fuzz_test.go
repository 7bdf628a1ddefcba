package depacket

import (
	"testing"

	"recorder/internal/container"
)

// No payload makes a parser panic, and what comes out is bounded by what went in.
func FuzzPayloads(f *testing.F) {
	sps, pps := h264Sets(f)
	for codec, payload := range [][]byte{
		append([]byte{0x10}, vp8Key...), append([]byte{0x0c}, vp9Key16...),
		append(append([]byte{0x18}, av1SequenceOBU(f)...), 0x30, 0x10), append(append(append([]byte{0x78, 0, byte(len(sps))}, sps...), 0, byte(len(pps))), pps...),
	} {
		f.Add(byte(codec), payload, []byte{1, 200})
	}
	f.Fuzz(func(t *testing.T, codec byte, b, cuts []byte) {
		formats := []container.Codec{container.VP8, container.VP9, container.AV1, container.H264}
		format := newPayloadFormat(formats[int(codec)%len(formats)], "")
		out, in := 0, len(b)
		a := newAssembler(format, func(p Frame) {
			out += len(p.Data)
			if p.Key && (p.Width <= 0 || p.Height <= 0) {
				t.Fatalf("key picture of %d×%d", p.Width, p.Height)
			}
		}, func(Frame) {})
		rtp := uint32(0)
		for i, c := range cuts {
			n := min(int(c&0x3f), len(b))
			lost := 0
			if c&0xc0 == 0xc0 {
				lost = 1
			}
			a.Push(wire(rtp, c&0x40 != 0, b[:n]...), lost)
			if c&0x40 != 0 {
				rtp++
			}
			b = b[n:]
			if i > 1000 {
				break
			}
		}
		if out > 8*in+100 {
			t.Fatalf("%d bytes made of %d", out, in)
		}
	})
}
