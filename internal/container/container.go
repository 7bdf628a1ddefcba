// Package container lays out media files and reads them back: Opus in Ogg (RFC 3533, RFC 7845),
// VP8, VP9 and AV1 in IVF, H.264 in Matroska.
//
// The writers are pure encoders. They append the bytes of a file, in order, to a slice of the
// caller's, and hold back a few bytes that are only known later (a count, a duration) as a [Patch]
// for an offset already written. When bytes reach a disk is the caller's affair. No writer
// allocates in steady state, and none is safe for use by several goroutines.
//
// Whatever prefix of a file survives a crash, Repair makes a correct file of its whole units
// (pages, frames, blocks), and Resume goes on behind them.
//
// Scanners trust nothing they read: memory stays below 512 KiB whatever a file claims.
package container

import (
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// ErrFormat is wrapped by errors for input whose header is not that of the expected format, or
// not whole. Such a file holds no media that Repair could save.
var ErrFormat = errors.New("unusable header")

// VideoClockRate is the clock of video PTS: 90 kHz, as in RTP.
const VideoClockRate = 90000

// Codec names what a file holds, as the manifest does. It decides the container.
type Codec string

// The codecs a file can hold.
const (
	Opus Codec = "opus" // Ogg
	VP8  Codec = "vp8"  // IVF
	VP9  Codec = "vp9"  // IVF
	AV1  Codec = "av1"  // IVF, a frame being a temporal unit in low-overhead format
	H264 Codec = "h264" // Matroska
)

// Extension is the file name extension of c's container, with its dot; empty for an unknown codec.
func (c Codec) Extension() string {
	switch c {
	case Opus:
		return ".ogg"
	case VP8, VP9, AV1:
		return ".ivf"
	case H264:
		return ".mkv"
	}
	return ""
}

// Video is what the writers of video files have in common. Frames are whole, their PTS in units
// of 1/[VideoClockRate], strictly rising and not negative.
type Video interface {
	// AppendHeader appends what a new file begins with. It is called once, first, and not at all
	// on a resumed file.
	AppendHeader(dst []byte) []byte
	// AppendFrame appends one frame.
	AppendFrame(dst []byte, pts int64, key bool, frame []byte) []byte
	// Patch is the change that makes the header true of all frames appended so far. It is applied
	// after them, before the file is closed.
	Patch() Patch
}

// Patch is a few bytes to be written over ones already in the file. It shares no memory with the
// writer it came from.
type Patch struct {
	Offset int64
	data   [8]byte
	n      int
}

// Apply writes p to w.
func (p *Patch) Apply(w io.WriterAt) error {
	_, err := w.WriteAt(p.data[:p.n], p.Offset)
	return err
}

// Info is what a scan found. Positions are in units of 1/ClockRate.
type Info struct {
	Codec      Codec
	ClockRate  uint32
	Width      int // video, from the header
	Height     int
	Channels   uint8 // Opus
	PreSkip    uint16
	Serial     uint32 // Ogg
	Tags       []Tag
	Frames     int64 // whole frames; packets for Opus
	KeyFrames  int64 // video
	FirstPTS   int64 // of the first frame, 0 when there is none
	LastPTS    int64
	Duration   time.Duration // Opus: what plays, without pre-skip; video: up to the last frame's PTS
	EOS        bool          // Ogg: the last page says so
	End        int64         // offset behind the last whole unit
	TornBytes  int64         // bytes from End to the end of the input
	OutOfOrder int64         // frames or pages whose PTS does not rise, pages out of sequence
	CountFault bool          // the header's duration is not that of the frames
}

// Clean reports whether the file was closed properly and nothing about it is wrong.
func (i Info) Clean() bool { return i.Faults() == nil }

// Faults says in a few words each what is wrong with the file, nothing when it is clean.
func (i Info) Faults() []string {
	var f []string
	if i.TornBytes > 0 {
		f = append(f, fmt.Sprintf("%d torn bytes at offset %d", i.TornBytes, i.End))
	}
	if i.OutOfOrder > 0 {
		f = append(f, fmt.Sprintf("%d out of order", i.OutOfOrder))
	}
	if i.CountFault {
		f = append(f, "header does not match the frames")
	}
	if i.Codec == Opus && !i.EOS {
		f = append(f, "no end of stream")
	}
	return f
}

// Scan reads r to its end as a file of codec c.
func Scan(c Codec, r io.Reader) (Info, error) {
	switch c.Extension() {
	case ".ogg":
		return ScanOgg(r)
	case ".ivf":
		return ScanIVF(r)
	case ".mkv":
		return ScanMatroska(r)
	}
	return Info{}, fmt.Errorf("%w: unknown codec %q", ErrFormat, string(c))
}

// File is a file being repaired or resumed; [os.File] is one.
type File interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
}

// Repaired is what a repair did and what the file is now.
type Repaired struct {
	Info
	Cut     int64 // bytes of a torn tail, removed
	Changed bool  // anything was written
}

// Repair makes f a closed file of codec c: the tail behind the last whole unit is cut, header
// counts and end of stream are set. A second repair changes nothing. The caller syncs.
func Repair(c Codec, f File) (Repaired, error) {
	switch c.Extension() {
	case ".ogg":
		return RepairOgg(f)
	case ".ivf":
		return RepairIVF(f)
	case ".mkv":
		return RepairMatroska(f)
	}
	return Repaired{}, fmt.Errorf("%w: unknown codec %q", ErrFormat, string(c))
}

// cutTorn removes what a scan found behind the last whole unit.
func cutTorn(f File, info *Info) (Repaired, error) {
	r := Repaired{Cut: info.TornBytes}
	if info.TornBytes > 0 {
		if err := f.Truncate(info.End); err != nil {
			return r, fmt.Errorf("cut torn tail: %w", err)
		}
		info.TornBytes, r.Changed = 0, true
	}
	r.Info = *info
	return r, nil
}

// wholeFile reads f from its beginning to its end.
func wholeFile(f io.ReaderAt) io.Reader { return io.NewSectionReader(f, 0, math.MaxInt64) }

// ticks is n/rate seconds, exact to the nanosecond and saturating.
func ticks(n int64, rate uint32) time.Duration {
	r := int64(rate)
	if n/r > math.MaxInt64/int64(time.Second)-1 {
		return math.MaxInt64
	}
	return time.Duration(n/r)*time.Second + time.Duration(n%r)*time.Second/time.Duration(r)
}
