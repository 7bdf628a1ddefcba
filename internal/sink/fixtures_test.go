package sink

import (
	"encoding/binary"
	"slices"
	"testing"
)

func vp8Payload(descriptor []byte, frame ...byte) []byte {
	return append(slices.Clone(descriptor), frame...)
}

// vp9Key16 is the uncompressed header of a key frame of 16×16 in profile 0.
var vp9Key16 = []byte{0x82, 0x49, 0x83, 0x42, 0x20, 0x00, 0xf0, 0x00, 0xf0, 0xaa}

// layers splits a superframe at its index.
func layers(super []byte) (frames [][]byte) {
	marker := super[len(super)-1]
	if marker&0xe0 != 0xc0 {
		return [][]byte{super}
	}
	n, size := int(marker&7)+1, int(marker>>3&3)+1
	index := super[len(super)-n*size-1 : len(super)-1]
	for i := range n {
		var length [4]byte
		copy(length[:], index[i*size:(i+1)*size])
		end := binary.LittleEndian.Uint32(length[:])
		frames, super = append(frames, super[:end]), super[end:]
	}
	return frames
}

// farAhead is a step in sequence numbers that is not taken for loss.
const farAhead = 3000

// h264Sets are the parameter sets of a real encoder.
func h264Sets(t testing.TB) (sps, pps []byte) {
	_, units := accessUnits(load(t, "h264.h264"))
	b := units[0]
	sps = b[4 : 4+b[3]]
	b = b[4+len(sps):]
	return sps, b[4 : 4+b[3]]
}
