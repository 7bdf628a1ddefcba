package depacket

import (
	"bytes"
	"encoding/binary"
	"os"
	"slices"
	"testing"
	"time"

	"recorder/internal/container"
)

const ms = time.Millisecond

// load reads a file of media.
func load(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("../lab/clip/testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// frames reads the frames of a file of media.
func frames(t testing.TB, codec container.Codec, name string) (all [][]byte) {
	t.Helper()
	for f, err := range container.Frames(codec, bytes.NewReader(load(t, name))) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, f.Data)
	}
	return all
}

// rtpPacket lays out an RTP packet.
func rtpPacket(pt uint8, marker bool, seq uint16, rtp, ssrc uint32, payload []byte) []byte {
	b := make([]byte, 12, 12+len(payload))
	b[0], b[1] = 0x80, pt
	if marker {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], seq)
	binary.BigEndian.PutUint32(b[4:], rtp)
	binary.BigEndian.PutUint32(b[8:], ssrc)
	return append(b, payload...)
}

// accessUnits splits an H.264 byte stream at its delimiters, which pion does not send.
func accessUnits(file []byte) (sent, want [][]byte) {
	for unit := range bytes.SplitSeq(file, []byte{0, 0, 0, 1, 9}) {
		if len(unit) == 0 {
			continue
		}
		unit = unit[1:] // what kinds of slices there are
		sent = append(sent, unit)
		var avc []byte
		for nal := range bytes.SplitSeq(bytes.ReplaceAll(unit, []byte{0, 0, 0, 1}, []byte{0, 0, 1}), []byte{0, 0, 1}) {
			if len(nal) > 0 {
				avc = append(binary.BigEndian.AppendUint32(avc, uint32(len(nal))), nal...)
			}
		}
		want = append(want, avc)
	}
	return sent, want
}

// A key frame of 16×16 and a frame that follows it, as short as a decoder's header parser takes.
var (
	vp8Key   = []byte{0x10, 0x00, 0x00, 0x9d, 0x01, 0x2a, 0x10, 0x00, 0x10, 0x00}
	vp8Delta = []byte{0x11, 0x00, 0x00}
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
