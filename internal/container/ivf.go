package container

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/pion/webrtc/v4/pkg/media/ivfwriter"
)

// IVF writes VP8, VP9 or AV1 frames with 64-bit PTS on a time base of 1/90000. The size in the
// header is that of the first frame; the codecs themselves tell of later changes.
//
// Bytes 24 to 27 of the header are the duration in ticks of the time base once the file is final, as
// FFmpeg writes and reads them, and 0 while it grows. libvpx and pion count the frames there; neither
// they nor mkvmerge need the number to read a file.
type IVF struct {
	header []byte
	length ivfLength
}

// ivfLength follows the frames of a file for its duration: the last one is shown as long as the one
// before it.
type ivfLength struct {
	last, step int64
	any        bool // a frame came
}

func (l *ivfLength) frame(pts int64) { l.step, l.last, l.any = max(pts-l.last, 0), pts, true }

// ticks is the duration as the header says it: 0 for what the field cannot hold.
func (l *ivfLength) ticks() uint32 {
	if d := l.last + l.step; d >= 0 && d <= math.MaxUint32 {
		return uint32(d)
	}
	return 0
}

const (
	ivfHeaderSize      = 32
	ivfFrameHeaderSize = 12
	ivfLengthOffset    = 24
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
	binary.LittleEndian.PutUint32(v.header[ivfLengthOffset:], 0) // pion says 900 until it is closed
	return v, nil
}

// AppendHeader implements [Video].
func (v *IVF) AppendHeader(dst []byte) []byte { return append(dst, v.header...) }

// AppendFrame implements [Video]. Whether a frame is a key frame stands in the frame itself.
func (v *IVF) AppendFrame(dst []byte, pts int64, _ bool, frame []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(frame)))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(pts))
	v.length.frame(pts)
	return append(dst, frame...)
}

// Patch implements [Video].
func (v *IVF) Patch() Patch {
	if !v.length.any {
		return Patch{} // what the header says holds
	}
	return v.length.patch()
}

func (l *ivfLength) patch() Patch {
	p := Patch{Offset: ivfLengthOffset, n: 4}
	binary.LittleEndian.PutUint32(p.data[:], l.ticks())
	return p
}
