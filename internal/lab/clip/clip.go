// Package clip holds three seconds of real media, VP8 and Opus, for the demo and for tests that need something to play.
//
// The picture is a moving test card with a clock (320x240, 15 frames/s, a key frame each second, every frame shown), the sound a
// stereo melody. Once a second a bar flashes and a beep sounds at the same instant. Both are exactly [Length] long and
// begin so that they can be looped: see [Loop].
package clip

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"

	"github.com/pion/webrtc/v4/pkg/media/ivfreader"
	"github.com/pion/webrtc/v4/pkg/media/oggreader"
)

//go:generate ./make.sh

//go:embed picture.ivf
var picture []byte

//go:embed sound.ogg
var sound []byte

const (
	// Length is how long either clip plays.
	Length = 3 * time.Second
	// Width and Height are the picture's size in pixels.
	Width, Height = 320, 240
	// FrameRate is the picture's rate in frames per second.
	FrameRate = 15
	// PacketDuration is how much sound one Opus packet holds.
	PacketDuration = 20 * time.Millisecond
)

// Sample is one encoded video frame or one Opus packet.
type Sample struct {
	Data     []byte        // shared by all callers: not to be modified
	At       time.Duration // when it is due, counted from the start of the clip
	Duration time.Duration // how long it is shown or heard
	Key      bool          // decodable by itself; true for every Opus packet
}

// VP8 returns the picture: [FrameRate] samples a second, of which every FrameRate-th, and the first, is a key frame.
func VP8() []Sample { return vp8() }

// Opus returns the sound: stereo at 48 kHz, one sample each [PacketDuration].
func Opus() []Sample { return opus() }

// Loop plays samples over and over without a pause. The index runs from 0 to len(samples)-1 in each round; At goes on
// growing from round to round.
func Loop(samples []Sample) iter.Seq2[int, Sample] {
	return func(yield func(int, Sample) bool) {
		if len(samples) == 0 {
			return
		}
		last := samples[len(samples)-1]
		length := last.At + last.Duration
		for base := time.Duration(0); ; base += length {
			for i, s := range samples {
				s.At += base
				if !yield(i, s) {
					return
				}
			}
		}
	}
}

var vp8 = sync.OnceValue(func() []Sample { return must(readIVF(picture)) })

var opus = sync.OnceValue(func() []Sample { return must(readOgg(sound)) })

// must turns a damaged clip into a panic: the clips are part of the binary, so it cannot happen to a user.
func must(samples []Sample, err error) []Sample {
	if err != nil {
		panic(fmt.Sprintf("clip: %v", err))
	}
	return samples
}

func readIVF(file []byte) ([]Sample, error) {
	r, _, err := ivfreader.NewWith(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	var samples []Sample
	for {
		frame, _, err := r.ParseNextFrame()
		if errors.Is(err, io.EOF) {
			return samples, nil
		}
		if err != nil {
			return nil, err
		}
		n := time.Duration(len(samples))
		at := n * time.Second / FrameRate
		samples = append(samples, Sample{
			Data:     frame,
			At:       at,
			Duration: (n+1)*time.Second/FrameRate - at, // so that rounding never adds up
			Key:      frame[0]&1 == 0,                  // RFC 6386 section 9.1: the frame tag's first bit is 0 in a key frame
		})
	}
}

// readOgg relies on make.sh, which puts each packet into a page of its own.
func readOgg(file []byte) ([]Sample, error) {
	r, err := oggreader.NewWithOptions(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	var samples []Sample
	for {
		packet, page, err := r.ParseNextPage()
		if errors.Is(err, io.EOF) {
			return samples, nil
		}
		if err != nil {
			return nil, err
		}
		if kind, ok := page.HeaderType(packet); ok && kind != "" {
			continue // OpusHead, OpusTags
		}
		samples = append(samples, Sample{
			Data:     packet,
			At:       time.Duration(len(samples)) * PacketDuration,
			Duration: PacketDuration,
			Key:      true,
		})
	}
}
