// Package tape tells tests when each frame they find in a file was captured:
// members' sources are numbered frame by frame, where no decoder looks.
package tape

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"

	"recorder/internal/container"
	"recorder/internal/lab/member"
)

// Tape knows when each frame that members sent was captured. The zero value is
// an empty one. Its methods may be called from any goroutine.
type Tape struct {
	mu     sync.Mutex
	frames []Frame // by number
}

// Frame is what was captured at one instant. It lasts until the next.
type Frame struct {
	TrackID string
	At      time.Time // zero: it was not sent
	Length  time.Duration
}

// numberMark follows the number. Its last byte is no VP9 superframe's.
const numberMark = "tape"

// Record numbers what the track's source gives: Opus packets of one frame, VP8
// or VP9.
func (tp *Tape) Record(t member.Track) member.Track {
	source, audio := t.Source, t.MimeType == webrtc.MimeTypeOpus
	t.Source = func(yield func([]byte, time.Duration) bool) {
		for data, length := range source {
			n := tp.next()
			number := append(binary.BigEndian.AppendUint32(nil, n), numberMark...)
			if audio {
				data = padOpus(data, number)
			} else {
				data = slices.Concat(data, number) // behind the last partition, or tile
			}
			if !yield(data, length) {
				return
			}
			tp.sent(n, Frame{t.TrackID, time.Now(), length}) // just now: the next frame is not waited for yet
		}
	}
	return t
}

// padOpus gives a packet of one frame a padding (RFC 6716, section 3.2.5).
func padOpus(packet, padding []byte) []byte {
	return slices.Concat([]byte{packet[0] | 3, 1<<6 | 1, byte(len(padding))}, packet[1:], padding)
}

func (tp *Tape) next() uint32 {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	tp.frames = append(tp.frames, Frame{})
	return uint32(len(tp.frames) - 1)
}

func (tp *Tape) sent(n uint32, f Frame) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	tp.frames[n] = f
}

// Played is how much of a track was sent.
func (tp *Tape) Played(track string) (sum time.Duration) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	for _, f := range tp.frames {
		if f.TrackID == track {
			sum += f.Length
		}
	}
	return sum
}

// Sent returns what was captured of a track, in order.
func (tp *Tape) Sent(track string) (all []Frame) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	for _, f := range tp.frames {
		if f.TrackID == track && !f.At.IsZero() {
			all = append(all, f)
		}
	}
	return all
}

// Take is a frame found in a file.
type Take struct {
	Frame
	Position time.Duration // on the file's clock
}

// Takes returns what Ogg and IVF files, the parts of one track, hold of what was
// captured, in order. What the recorder put in is left out, and so is a first
// picture held from 0.
func (tp *Tape) Takes(files ...string) (all []Take, err error) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	last := -1
	for _, file := range files {
		for found, err := range numbered(file) {
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", file, err)
			}
			if found.number == last {
				all = all[:len(all)-1]
			}
			all, last = append(all, Take{tp.frames[found.number], found.position}), found.number
		}
	}
	return all, nil
}

// numberedFrame is a frame of a file that was captured.
type numberedFrame struct {
	number   int
	position time.Duration
}

// numbered are the frames of a file that have a number.
func numbered(file string) iter.Seq2[numberedFrame, error] {
	return func(yield func(numberedFrame, error) bool) {
		f, err := os.Open(file)
		if err != nil {
			yield(numberedFrame{}, err)
			return
		}
		defer f.Close()
		codec, rate := container.VP8, int64(container.VideoClockRate) // VP9 is laid out like VP8
		if filepath.Ext(file) == container.Opus.Extension() {
			codec, rate = container.Opus, container.OpusRate
		}
		for frame, err := range container.Frames(codec, f) {
			if err != nil {
				yield(numberedFrame{}, err)
				return
			}
			number, ok := bytes.CutSuffix(frame.Data, []byte(numberMark))
			if !ok {
				continue
			}
			n := int(binary.BigEndian.Uint32(number[len(number)-4:]))
			if !yield(numberedFrame{n, time.Duration(frame.PTS) * time.Second / time.Duration(rate)}, nil) {
				return
			}
		}
	}
}

// Apart returns, for each picture, by how much it is later than the sound that
// was captured at the same instant, least first. Pictures without are left out.
func Apart(audio, video []Take) (apart []time.Duration) {
	i := 0
	for _, v := range video {
		for i+1 < len(audio) && audio[i+1].At.Sub(v.At).Abs() <= audio[i].At.Sub(v.At).Abs() {
			i++
		}
		if i < len(audio) && audio[i].At.Sub(v.At).Abs() <= audio[i].Length {
			apart = append(apart, v.Position-audio[i].Position-v.At.Sub(audio[i].At))
		}
	}
	slices.Sort(apart)
	return apart
}

// Moved returns, for each stretch of takes, by how much later it stands in the
// files than it was captured, beside the first stretch: how much too long the
// holes before it are in the files, all together. A hole is longer than 100 ms.
// Stretches that last less than a second are left out.
func Moved(takes []Take) (by []time.Duration) {
	const hole, least = 100 * time.Millisecond, time.Second
	var later []time.Duration // of the stretch, each take
	var length time.Duration
	for i, t := range takes {
		later = append(later, t.Position-t.At.Sub(takes[0].At))
		length += t.Length
		if i+1 < len(takes) && takes[i+1].At.Sub(t.At) <= hole {
			continue
		}
		if length >= least {
			slices.Sort(later)
			by = append(by, later[len(later)/2])
		}
		later, length = nil, 0
	}
	for i := len(by) - 1; i >= 0; i-- {
		by[i] -= by[0]
	}
	return by
}
