package session

import (
	"bytes"
	"encoding/binary"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"

	"recorder/internal/container"
	"recorder/internal/member"
	"recorder/internal/sink"
)

// tape knows when each frame that a member sent was captured. Every frame
// carries its number where no decoder looks, so that it is known again in a file.
type tape struct {
	mu     sync.Mutex
	frames []frame
}

// frame is what was captured at one instant. It lasts until the next.
type frame struct {
	track  string    // its id
	at     time.Time // zero: it was not sent
	length time.Duration
}

// numberMark follows the number. Its last byte is no VP9 superframe's.
const numberMark = "tape"

// record numbers what a source of that type gives.
func (tp *tape) record(t member.Track) member.Track {
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
			tp.sent(n, frame{t.TrackID, time.Now(), length}) // just now: the next frame is not waited for yet
		}
	}
	return t
}

// padOpus gives a packet of one frame a padding (RFC 6716, section 3.2.5).
func padOpus(packet, padding []byte) []byte {
	return slices.Concat([]byte{packet[0] | 3, 1<<6 | 1, byte(len(padding))}, packet[1:], padding)
}

func (tp *tape) next() uint32 {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	tp.frames = append(tp.frames, frame{})
	return uint32(len(tp.frames) - 1)
}

func (tp *tape) sent(n uint32, f frame) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	tp.frames[n] = f
}

// played is how much of a track was sent.
func (tp *tape) played(track string) (sum time.Duration) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	for _, f := range tp.frames {
		if f.track == track {
			sum += f.length
		}
	}
	return sum
}

// take is a frame found in a file.
type take struct {
	frame
	position time.Duration // on the stream's clock
}

// takes returns what a track's files hold of what was captured, in order. What
// the recorder put in is left out, and so is a first picture held from 0.
func (r *rig) takes(track *sink.ManifestTrack) (all []take) {
	r.tape.mu.Lock()
	defer r.tape.mu.Unlock()
	last := uint32(1<<32 - 1)
	for _, part := range track.Parts {
		data, err := os.ReadFile(filepath.Join(r.recording, filepath.FromSlash(part.File)))
		r.must(err)
		packets := ivfPackets(data)
		if track.Kind == "audio" {
			packets = oggPackets(data)
		}
		for position, packet := range packets {
			number, ok := bytes.CutSuffix(packet, []byte(numberMark))
			if !ok {
				continue
			}
			n := binary.BigEndian.Uint32(number[len(number)-4:])
			if n == last {
				all = all[:len(all)-1]
			}
			all, last = append(all, take{r.tape.frames[n], position}), n
		}
	}
	return all
}

// oggPackets are the packets of an Ogg file of Opus, and where they are heard.
func oggPackets(file []byte) iter.Seq2[time.Duration, []byte] {
	return func(yield func(time.Duration, []byte) bool) {
		var packet []byte
		samples, headers := 0, 2
		for len(file) > 0 {
			segments := file[27 : 27+file[26]]
			file = file[27+len(segments):]
			for _, n := range segments {
				packet = append(packet, file[:n]...)
				file = file[n:]
				if n == 255 {
					continue
				}
				if headers > 0 {
					headers--
				} else {
					if !yield(time.Duration(samples)*time.Second/48000, packet) {
						return
					}
					samples += container.OpusSamples(packet)
				}
				packet = nil
			}
		}
	}
}

// ivfPackets are the pictures of an IVF file, and when they are shown.
func ivfPackets(file []byte) iter.Seq2[time.Duration, []byte] {
	return func(yield func(time.Duration, []byte) bool) {
		for file = file[32:]; len(file) > 0; {
			size, pts := binary.LittleEndian.Uint32(file), binary.LittleEndian.Uint64(file[4:])
			if !yield(time.Duration(pts)*time.Second/container.VideoClockRate, file[12:12+size]) {
				return
			}
			file = file[12+size:]
		}
	}
}
