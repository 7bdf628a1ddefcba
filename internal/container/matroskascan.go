package container

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// matroskaScan is what reading a Matroska file leaves behind.
type matroskaScan struct {
	Info
	emit       emitter
	scale      uint64 // ns
	duration   float64
	durationAt int64  // offset of Duration's body, 0 when there is none of eight bytes
	private    []byte // CodecPrivate
	cluster    int64
	last       int64 // timestamp of the last block, in scaled units
}

// matroskaCodecs maps CodecIDs.
var matroskaCodecs = map[string]Codec{
	"V_MPEG4/ISO/AVC": H264, "V_VP8": VP8, "V_VP9": VP9, "V_AV1": AV1,
}

// ScanMatroska reads a Matroska file with one video track to its end.
func ScanMatroska(r io.Reader) (Info, error) {
	s, err := scanMatroska(r, nil)
	return s.Info, err
}

func scanMatroska(r io.Reader, emit emitter) (matroskaScan, error) {
	in := newInput(r)
	s := matroskaScan{emit: emit, scale: 1_000_000, Info: Info{ClockRate: VideoClockRate}}
	id, size, known, err := in.element()
	if err != nil {
		return s, headerError(err)
	}
	if id != idEBML || !known {
		return s, fmt.Errorf("%w: no EBML header", ErrFormat)
	}
	if err := in.skip(size); err != nil {
		return s, headerError(err)
	}
	if id, _, _, err = in.element(); err != nil {
		return s, headerError(err)
	} else if id != idSegment {
		return s, fmt.Errorf("%w: no Segment", ErrFormat)
	}
	for {
		whole, err := s.next(in)
		if whole {
			s.End = in.pos
		}
		if ended(err) {
			break
		}
		if err != nil {
			return s, err
		}
	}
	if s.Codec == "" || s.End == 0 {
		return s, fmt.Errorf("%w: header is not whole", ErrFormat)
	}
	if err := in.drain(); err != nil {
		return s, err
	}
	s.TornBytes = in.pos - s.End
	s.CountFault = s.durationAt > 0 && s.duration != float64(s.last+1)
	s.Duration = ticks(s.LastPTS, s.ClockRate)
	return s, nil
}

// next reads one element. Those that hold others are entered, so the tree is read as a list.
// whole reports that the file could end here: behind the header or a block.
func (s *matroskaScan) next(in *input) (whole bool, err error) {
	id, size, known, err := in.element()
	if err != nil {
		return false, err
	}
	switch id {
	case idCluster:
		return false, nil
	case idInfo, idTracks, idTrackEntry, idVideo, idBlockGroup:
		if !known {
			return false, io.ErrUnexpectedEOF
		}
		return false, nil
	}
	if !known {
		return false, io.ErrUnexpectedEOF
	}
	switch id {
	case idSimpleBlock, idBlock:
		return s.block(in, size, id == idSimpleBlock)
	case idCodecPrivate:
		if size > 8*maxParameterSet {
			break
		}
		s.private = make([]byte, size)
		return false, bodyError(in.full(s.private))
	case idCodecID:
		if size > 64 {
			break
		}
		b := make([]byte, size)
		if err := in.full(b); err != nil {
			return false, bodyError(err)
		}
		if s.Codec != "" || matroskaCodecs[string(b)] == "" {
			return false, fmt.Errorf("%w: matroska track of codec %.64q", ErrFormat, b)
		}
		s.Codec = matroskaCodecs[string(b)]
		return false, nil
	case idTimestampScale, idDuration, idPixelWidth, idPixelHeight, idTimestamp:
		if size > 8 {
			break
		}
		return s.number(in, id, int(size))
	}
	// Anything else at the top level (tags, cues) is part of the file when it is whole.
	return s.Frames > 0, in.skip(size)
}

func (s *matroskaScan) number(in *input, id uint32, size int) (whole bool, err error) {
	at := in.pos
	var b [8]byte
	if err := in.full(b[8-size:]); err != nil {
		return false, bodyError(err)
	}
	v := binary.BigEndian.Uint64(b[:])
	switch id {
	case idTimestampScale:
		if v == 0 || v > 1e9 {
			return false, fmt.Errorf("%w: timestamp scale %d", ErrFormat, v)
		}
		s.scale = v
	case idDuration:
		if size == 8 {
			s.durationAt, s.duration = at, math.Float64frombits(v)
		}
	case idPixelWidth:
		s.Width = int(min(v, math.MaxInt32))
	case idPixelHeight:
		s.Height = int(min(v, math.MaxInt32))
		return s.Codec != "", nil // the last element of our header
	case idTimestamp:
		s.cluster = int64(min(v, maxScaled))
	}
	return false, nil
}

// maxScaled bounds timestamps so that arithmetic with them cannot overflow.
const maxScaled = 1 << 56

// block reads a SimpleBlock or Block of track 1.
func (s *matroskaScan) block(in *input, size int64, simple bool) (whole bool, err error) {
	var h [4]byte
	if size < int64(len(h)) {
		return false, io.ErrUnexpectedEOF
	}
	if err := in.full(h[:]); err != nil {
		return false, bodyError(err)
	}
	ours := h[0] == 0x80|trackNumber
	emit := s.emit
	if !ours {
		emit = nil
	}
	body, err := in.body(size-int64(len(h)), emit)
	if err != nil || !ours {
		return err == nil, err
	}
	s.last = s.cluster + int64(int16(binary.BigEndian.Uint16(h[1:])))
	pts, key := s.pts(s.last), simple && h[3]&blockKey != 0
	s.frame(pts, key)
	if !emit.frame(Frame{pts, key, body}) {
		return true, errStopped
	}
	return true, nil
}

// pts converts a timestamp of the file to 90 kHz.
func (s *matroskaScan) pts(t int64) int64 {
	if s.scale == timestampScale {
		return unscaledTime(t)
	}
	return int64(math.Round(float64(t) * float64(s.scale) * VideoClockRate / 1e9))
}

// bodyError makes the end of the input within an element a torn one.
func bodyError(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
