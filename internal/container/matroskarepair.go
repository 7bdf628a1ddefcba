package container

import (
	"encoding/binary"
	"fmt"
	"io"
)

// RepairMatroska cuts the tail behind the last whole block and sets the duration.
func RepairMatroska(f File) (Repaired, error) {
	s, err := scanMatroska(wholeFile(f), nil)
	if err != nil {
		return Repaired{}, err
	}
	r, err := cutTorn(f, &s.Info)
	if err != nil || !s.CountFault {
		return r, err
	}
	duration := matroskaDuration(s.durationAt, s.last)
	if err := duration.Apply(f); err != nil {
		return r, fmt.Errorf("set duration: %w", err)
	}
	r.CountFault, r.Changed = false, true
	return r, nil
}

// ResumeMatroska prepares f for more frames and returns a writer that goes on behind its last
// whole block, and the parameter sets the file was made for. A torn tail is cut; the returned Info
// says where to append (End) and which PTS to exceed (LastPTS).
func ResumeMatroska(f File) (*Matroska, AVC, Info, error) {
	s, err := scanMatroska(wholeFile(f), nil)
	if err != nil {
		return nil, AVC{}, Info{}, err
	}
	r, err := cutTorn(f, &s.Info)
	if err != nil {
		return nil, AVC{}, Info{}, err
	}
	m, a, err := s.writer(s.last)
	return m, a, r.Info, err
}

// ContinueMatroska is ResumeMatroska for a file of which it is known where it ends. No more than its
// beginning is read.
func ContinueMatroska(f io.ReaderAt, known Info) (*Matroska, AVC, error) {
	s, err := scanMatroska(io.NewSectionReader(f, 0, matroskaHeaderMost), nil)
	if err != nil {
		return nil, AVC{}, err
	}
	return s.writer(scaledTime(known.LastPTS))
}

// matroskaHeaderMost is more than a header of ours has.
const matroskaHeaderMost = 1 << 20

// writer goes on behind a block of that time.
func (s *matroskaScan) writer(last int64) (*Matroska, AVC, error) {
	a, ok := parseRecord(s.private)
	if !ok || s.scale != timestampScale || s.durationAt == 0 {
		return nil, AVC{}, fmt.Errorf("%w: not a Matroska file of ours", ErrFormat)
	}
	return &Matroska{durationAt: s.durationAt, last: last}, a, nil
}

// parseRecord reads the first parameter sets of an AVCDecoderConfigurationRecord.
func parseRecord(b []byte) (a AVC, ok bool) {
	set := func(mask byte) (nal []byte) {
		if len(b) < 3 || b[0]&mask != 1 {
			return nil
		}
		n := int(binary.BigEndian.Uint16(b[1:]))
		if n > len(b)-3 {
			return nil
		}
		nal, b = b[3:3+n], b[3+n:]
		return nal
	}
	if len(b) < 5 || b[0] != 1 {
		return a, false
	}
	b = b[5:]
	a.SPS = set(0x1f)
	a.PPS = set(0xff)
	_, _, err := a.record()
	return a, err == nil
}
