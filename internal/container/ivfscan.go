package container

import (
	"encoding/binary"
	"fmt"
	"io"
)

// ScanIVF reads an IVF file to its end.
func ScanIVF(r io.Reader) (Info, error) {
	info, _, err := scanIVF(r, nil)
	return info, err
}

func scanIVF(r io.Reader, emit emitter) (info Info, length ivfLength, err error) {
	in := newInput(r)
	var h [ivfHeaderSize]byte
	if err := in.full(h[:]); err != nil {
		return info, length, headerError(err)
	}
	for c, names := range ivfCodecs {
		if names.fourCC == string(h[8:12]) {
			info.Codec = c
		}
	}
	rate, scale := binary.LittleEndian.Uint32(h[16:]), binary.LittleEndian.Uint32(h[20:])
	switch {
	case string(h[:4]) != "DKIF" || binary.LittleEndian.Uint16(h[4:]) != 0 || h[6] != ivfHeaderSize || h[7] != 0:
		return info, length, fmt.Errorf("%w: no IVF header", ErrFormat)
	case info.Codec == "":
		return info, length, fmt.Errorf("%w: IVF of codec %q", ErrFormat, h[8:12])
	case rate == 0 || scale != 1:
		return info, length, fmt.Errorf("%w: IVF time base %d/%d", ErrFormat, scale, rate)
	}
	info.ClockRate = rate
	info.Width = int(binary.LittleEndian.Uint16(h[12:]))
	info.Height = int(binary.LittleEndian.Uint16(h[14:]))
	says := binary.LittleEndian.Uint32(h[ivfLengthOffset:])
	info.End = in.pos

	for {
		var h [ivfFrameHeaderSize]byte
		if err := in.full(h[:]); ended(err) {
			break
		} else if err != nil {
			return info, length, err
		}
		size, pts := int64(binary.LittleEndian.Uint32(h[:])), int64(binary.LittleEndian.Uint64(h[4:]))
		if size == 0 || pts < 0 {
			break // no frame of ours: blocks that a crash left as zeros, or worse
		}
		key := KeyFrame(info.Codec, in.peek(size))
		body, err := in.body(size, emit)
		if ended(err) {
			break
		} else if err != nil {
			return info, length, err
		}
		info.frame(pts, key)
		length.frame(pts)
		info.End = in.pos
		if !emit.frame(Frame{pts, key, body}) {
			return info, length, errStopped
		}
	}
	if err := in.drain(); err != nil {
		return info, length, err
	}
	info.TornBytes = in.pos - info.End
	// Earlier releases counted the frames there, as libvpx does.
	info.CountFault = says != length.ticks() && says != uint32(info.Frames)
	info.Duration = ticks(info.LastPTS, info.ClockRate)
	return info, length, nil
}

// frame accounts for one whole video frame.
func (i *Info) frame(pts int64, key bool) {
	if i.Frames == 0 {
		i.FirstPTS = pts
	} else if pts <= i.LastPTS {
		i.OutOfOrder++
	}
	i.LastPTS = pts
	i.Frames++
	if key {
		i.KeyFrames++
	}
}

// RepairIVF cuts the tail behind the last whole frame and sets the duration.
func RepairIVF(f File) (Repaired, error) {
	info, length, err := scanIVF(wholeFile(f), nil)
	if err != nil {
		return Repaired{}, err
	}
	r, err := cutTorn(f, &info)
	if err != nil || !info.CountFault {
		return r, err
	}
	patch := length.patch()
	if err := patch.Apply(f); err != nil {
		return r, fmt.Errorf("set duration: %w", err)
	}
	r.CountFault, r.Changed = false, true
	return r, nil
}

// ResumeIVF prepares f for more frames and returns a writer that goes on behind its last whole
// one. A torn tail is cut; the returned Info says where to append (End) and which PTS to exceed
// (LastPTS).
func ResumeIVF(f File) (*IVF, Info, error) {
	info, err := ScanIVF(wholeFile(f))
	if err != nil {
		return nil, Info{}, err
	}
	r, err := cutTorn(f, &info)
	if err != nil {
		return nil, Info{}, err
	}
	v, err := ContinueIVF(f, r.Info)
	return v, r.Info, err
}

// ContinueIVF is ResumeIVF for a file of which it is known where it ends. No more than its
// header is read.
func ContinueIVF(f io.ReaderAt, known Info) (*IVF, error) {
	info, err := ScanIVF(io.NewSectionReader(f, 0, ivfHeaderSize))
	if err != nil {
		return nil, err
	}
	v, err := NewIVF(info.Codec, info.Width, info.Height)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	v.length.last = known.LastPTS
	return v, nil
}
