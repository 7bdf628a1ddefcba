package member

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"

	"recorder/internal/lab/clip"
)

// Source is encoded media: frames, each with its duration. It is ranged over
// once for every connection, from the start, in real time.
type Source = iter.Seq2[[]byte, time.Duration]

// Picture is the clip's VP8 picture, looped.
func Picture() Source { return loop(clip.VP8()) }

// Sound is the clip's Opus sound, looped.
func Sound() Source { return loop(clip.Opus()) }

func loop(samples []clip.Sample) Source {
	return func(yield func([]byte, time.Duration) bool) {
		for _, s := range clip.Loop(samples) {
			if !yield(s.Data, s.Duration) {
				return
			}
		}
	}
}

// player plays one track to one peer.
type player struct {
	track  Track
	local  *webrtc.TrackLocalStaticSample
	sender *webrtc.RTPSender
	stop   chan struct{}

	mu     sync.Mutex
	ended  bool
	frames int
	length time.Duration
}

// newPlayer adds a track to pc, on an m-line of its own.
func newPlayer(pc *webrtc.PeerConnection, t Track) (*player, error) {
	codec := webrtc.RTPCodecCapability{MimeType: t.MimeType, ClockRate: 90000}
	if t.MimeType == webrtc.MimeTypeOpus {
		codec.ClockRate, codec.Channels = 48000, 2
	}
	local, err := webrtc.NewTrackLocalStaticSample(codec, t.TrackID, t.StreamID)
	if err != nil {
		return nil, fmt.Errorf("create track: %w", err)
	}
	tr, err := pc.AddTransceiverFromTrack(local,
		webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendrecv})
	if err != nil {
		return nil, fmt.Errorf("add track: %w", err)
	}
	return &player{track: t, local: local, sender: tr.Sender(), stop: make(chan struct{})}, nil
}

// play plays from when the transport is up until the track or the connection
// ends, or the source does.
func (p *player) play(up, gone <-chan struct{}) {
	select {
	case <-up:
	case <-gone:
		return
	case <-p.stop:
		return
	}
	due := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	now := make(chan time.Time)
	close(now)
	for frame, d := range p.track.Source {
		// Timers that are due when they are received from, at once on several goroutines of a
		// synctest bubble, crash Go 1.26's race detector.
		at := (<-chan time.Time)(now)
		if wait := time.Until(due); wait > 0 {
			timer.Reset(wait)
			at = timer.C
		}
		select {
		case <-at:
		case <-gone:
			return
		case <-p.stop:
			return
		}
		if err := p.local.WriteSample(media.Sample{Data: frame, Duration: d}); errors.Is(err, io.ErrClosedPipe) {
			return
		}
		p.mu.Lock()
		p.frames++
		p.length += d
		p.mu.Unlock()
		due = due.Add(d)
	}
}

// feedback reads RTCP, without which lost packets are not sent again.
func (p *player) feedback() {
	buf := make([]byte, 1500)
	for {
		if _, _, err := p.sender.Read(buf); err != nil {
			return
		}
	}
}

// end stops playing, and reports false if that was done before.
func (p *player) end() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return false
	}
	p.ended = true
	close(p.stop)
	return true
}

func (p *player) counts() (frames int, length time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.frames, p.length
}
