package container

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
)

// Frame is one frame of a file: a picture of all its layers, or a packet of Opus.
type Frame struct {
	PTS  int64  // in units of 1/ClockRate of the file; for Opus before the pre-skip is taken off
	Key  bool   // can be decoded without the frames before it; true for Opus
	Data []byte // the caller's to keep
}

// maxFrame bounds a frame that is read. The writers' frames have 8 MiB at most.
const maxFrame = 16 << 20

// Frames returns the whole frames of a file of codec c, in the order of the file. A torn tail is
// left out and is no error, as it is not one for Scan. An error ends the sequence.
func Frames(c Codec, r io.Reader) iter.Seq2[Frame, error] {
	return func(yield func(Frame, error) bool) {
		emit := func(f Frame) bool { return yield(f, nil) }
		var err error
		switch c.Extension() {
		case ".ogg":
			_, err = scanOgg(r, emit)
		case ".ivf":
			_, _, err = scanIVF(r, emit)
		case ".mkv":
			_, err = scanMatroska(r, emit)
		default:
			err = fmt.Errorf("%w: unknown codec %q", ErrFormat, string(c))
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(Frame{}, err)
		}
	}
}

// errStopped ends a scan whose frames nobody wants any more.
var errStopped = errors.New("no more frames are wanted")

// emitter takes the frames of a scan and reports whether it wants more. nil: a scan that passes
// over the frames' bytes.
type emitter func(Frame) bool

func (e emitter) frame(f Frame) bool { return e == nil || e(f) }

// body reads the n bytes of a frame, or passes over them when nobody takes them. Memory grows with
// what the input holds, not with what it claims.
func (in *input) body(n int64, emit emitter) ([]byte, error) {
	switch {
	case emit == nil:
		return nil, in.skip(n)
	case n > maxFrame:
		return nil, fmt.Errorf("frame of %d bytes at offset %d", n, in.pos)
	}
	var b bytes.Buffer
	m, err := io.CopyN(&b, in.Reader, n)
	in.pos += m
	return b.Bytes(), bodyError(err)
}
