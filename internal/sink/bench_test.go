package sink

import (
	"context"
	"io"
	"io/fs"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/pion/rtp"
)

// traffic is a clip as RTP packets with their arrivals, for ever.
type traffic struct {
	packets []timed
	length  time.Duration // of one round
	seqs    uint16        // packets in a round
	ticks   uint32        // RTP time of a round
}

type timed struct {
	data []byte
	at   time.Duration
}

// newTraffic packetises a clip. Of the packets, some are lost or late as told.
func newTraffic(m media, loss float64, reorder time.Duration) traffic {
	random := rand.New(rand.NewPCG(1, 2))
	rate := time.Duration(m.format.ClockRate)
	packetizer := rtp.NewPacketizer(1200, 96, 7, m.payloads(), rtp.NewFixedSequencer(0), m.format.ClockRate)
	t := traffic{length: m.every * time.Duration(len(m.frames))}
	t.ticks = uint32(t.length * rate / time.Second)
	first := -1
	for i, frame := range m.frames {
		for _, p := range packetizer.Packetize(frame, 1) {
			t.seqs++
			if first < 0 {
				first = int(p.Timestamp)
			}
			p.Timestamp = uint32(m.every * time.Duration(i) * rate / time.Second)
			b, err := p.Marshal()
			if err != nil {
				panic(err)
			}
			at := m.every * time.Duration(i)
			if reorder > 0 {
				at += time.Duration(random.Int64N(int64(reorder)))
			}
			if random.Float64() >= loss {
				t.packets = append(t.packets, timed{b, at})
			}
		}
	}
	for i := range t.packets { // insertion sort by arrival
		for j := i; j > 0 && t.packets[j].at < t.packets[j-1].at; j-- {
			t.packets[j], t.packets[j-1] = t.packets[j-1], t.packets[j]
		}
	}
	return t
}

// player feeds traffic to a source and turns the pump, in time of its own.
type player struct {
	traffic
	rec   *Recording
	src   *Source
	next  int
	round int
	tick  time.Duration
	buf   []byte
}

// step delivers one packet, and ticks as often as is due.
func (p *player) step() {
	n := p.packets[p.next]
	at := n.at + p.length*time.Duration(p.round)
	for p.tick+pumpInterval <= at {
		p.tick += pumpInterval
		p.rec.tick(p.tick)
		p.settle()
	}
	p.buf = append(p.buf[:0], n.data...)
	seq := uint16(p.buf[2])<<8 | uint16(p.buf[3])
	seq += p.seqs * uint16(p.round)
	p.buf[2], p.buf[3] = byte(seq>>8), byte(seq)
	rtp := uint32(p.buf[4])<<24 | uint32(p.buf[5])<<16 | uint32(p.buf[6])<<8 | uint32(p.buf[7])
	rtp += p.ticks * uint32(p.round)
	p.buf[4], p.buf[5], p.buf[6], p.buf[7] = byte(rtp>>24), byte(rtp>>16), byte(rtp>>8), byte(rtp)
	p.src.WriteRTP(p.buf, p.rec.start.Add(at))
	if p.next++; p.next == len(p.packets) {
		p.next, p.round = 0, p.round+1
	}
}

// settle lets the flusher keep up, which in real time it does.
func (p *player) settle() {
	var file *part
	switch w := p.src.track.writer.(type) {
	case *audioWriter:
		file = w.part
	case *videoWriter:
		file = w.part
	}
	for file != nil && file.behind() {
		runtime.Gosched()
	}
}

// behind reports whether the flusher has work that it was told of.
func (p *part) behind() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sync || p.flying > 0 || len(p.buf) >= partWrite
}

func newPlayer(tb testing.TB, m media, loss float64, reorder time.Duration) *player {
	tb.Helper()
	root, err := Open(Options{Dir: tb.TempDir()})
	if err != nil {
		tb.Fatal(err)
	}
	rec, err := root.newRecording(RecordingInfo{Channel: "room", Start: time.Now()})
	if err != nil {
		tb.Fatal(err)
	}
	// What the disk costs is not asked here.
	rec.create = func(name string) (File, error) { return devNull{}, nil }
	rec.reopen = func(string, fs.FileInfo) (File, error) { return devNull{}, nil }
	s, err := rec.NewStream(StreamInfo{PeerID: "peer", StreamID: "stream"})
	if err != nil {
		tb.Fatal(err)
	}
	p := &player{traffic: newTraffic(m, loss, reorder), rec: rec}
	p.src = newSource(trackOf(s, TrackInfo{ID: "track", Kind: m.kind}), SourceInfo{Feedback: nobody{}}, map[uint8]Format{96: m.format})
	tb.Cleanup(func() {
		if err := rec.finish(context.Background(), context.Background(), p.tick); err != nil {
			tb.Error(err)
		}
		root.Close()
	})
	return p
}

type nobody struct{}

func (nobody) RequestKeyFrame(bool) {}
func (nobody) NACK([]uint16)        {}

// devNull is a file that keeps nothing.
type devNull struct{}

func (devNull) ReadAt(p []byte, off int64) (int, error)  { return 0, io.EOF }
func (devNull) WriteAt(p []byte, off int64) (int, error) { return len(p), nil }
func (devNull) Sync() error                              { return nil }
func (devNull) Truncate(int64) error                     { return nil }
func (devNull) Stat() (fs.FileInfo, error)               { return nil, nil }
func (devNull) Close() error                             { return nil }

var conditions = []struct {
	name         string
	loss         float64
	JitterBuffer time.Duration
}{
	{name: "in order"},
	{name: "lossy", loss: 0.05},
	{name: "reordered", JitterBuffer: 30 * time.Millisecond},
}

func BenchmarkPacket(b *testing.B) {
	for _, m := range append(videoMedia(b), opusMedia()) {
		for _, w := range conditions {
			b.Run(m.name+"/"+w.name, func(b *testing.B) {
				p := newPlayer(b, m, w.loss, w.JitterBuffer)
				for range 2000 {
					p.step()
				}
				b.ReportAllocs()
				for b.Loop() {
					p.step()
				}
			})
		}
	}
}
