package container

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/pion/webrtc/v4/pkg/media/ivfwriter"
)

// IVF writes VP8, VP9 or AV1 frames with 64-bit PTS on a time base of 1/90000. The size in the
// header is that of the first frame; the codecs themselves tell of later changes.
//
// Bytes 24 to 27 of the header count the frames, as libvpx and pion have it. (FFmpeg reads them as
// the duration in units of the time base, so its guess at the length before it has read the
// packets is too small. The packets it reads carry the right times.)
type IVF struct {
	header []byte
	frames uint32
}

const (
	ivfHeaderSize      = 32
	ivfFrameHeaderSize = 12
	ivfCountOffset     = 24
)

// ivfCodecs maps codecs to the names pion's writer and the header have for them.
var ivfCodecs = map[Codec]struct{ mime, fourCC string }{
	VP8: {"video/VP8", "VP80"},
	VP9: {"video/VP9", "VP90"},
	AV1: {"video/AV1", "AV01"},
}

// NewIVF returns a writer for a new file of pictures of the given size in pixels.
func NewIVF(c Codec, width, height int) (*IVF, error) {
	names, ok := ivfCodecs[c]
	if !ok {
		return nil, fmt.Errorf("ivf cannot hold codec %q", string(c))
	}
	if width <= 0 || height <= 0 || width > 0xffff || height > 0xffff {
		return nil, fmt.Errorf("ivf cannot hold pictures of %d×%d", width, height)
	}
	// pion lays out the header. Frames it would take only as RTP packets, with PTS of 32 bits.
	var header bytes.Buffer
	_, err := ivfwriter.NewWith(&header, ivfwriter.WithCodec(names.mime),
		ivfwriter.WithWidthAndHeight(uint16(width), uint16(height)),
		ivfwriter.WithFrameRate(1, VideoClockRate), ivfwriter.WithDirectPTS())
	if err != nil {
		return nil, fmt.Errorf("ivf header: %w", err)
	}
	v := &IVF{header: header.Bytes()}
	binary.LittleEndian.PutUint32(v.header[ivfCountOffset:], 0) // pion says 900 until it is closed
	return v, nil
}

// AppendHeader implements [Video].
func (v *IVF) AppendHeader(dst []byte) []byte { return append(dst, v.header...) }

// AppendFrame implements [Video]. Whether a frame is a key frame stands in the frame itself.
func (v *IVF) AppendFrame(dst []byte, pts int64, _ bool, frame []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(frame)))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(pts))
	v.frames++
	return append(dst, frame...)
}

// Patch implements [Video].
func (v *IVF) Patch() Patch { return ivfCount(v.frames) }

func ivfCount(frames uint32) Patch {
	p := Patch{Offset: ivfCountOffset, n: 4}
	binary.LittleEndian.PutUint32(p.data[:], frames)
	return p
}
