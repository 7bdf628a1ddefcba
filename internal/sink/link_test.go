package sink

import (
	"container/heap"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/pion/rtp"
)

// weather is what a link does to packets.
type weather struct {
	name      string
	loss      float64
	burst     int           // packets lost in a row, on average; 0 means 1
	reorder   time.Duration // each packet is late by up to this
	duplicate float64
	answered  bool          // retransmissions are sent, through the same weather
	back      time.Duration // requests take this long
}

// link carries packets to a source in virtual time: the same seed, the same fate for each packet.
type link struct {
	weather
	to     *Source
	random *rand.Rand
	losing bool
	calm   bool // nothing is lost now

	mu    sync.Mutex
	queue deliveries
	count int
	sent  map[uint16][]byte
	wake  chan struct{}
	stop  chan struct{}
	asked int // sequence numbers in NACKs
	lost  int // first transmissions
	keys  int // key frames asked for
}

type delivery struct {
	at     time.Time
	number int
	packet []byte
}

type deliveries []delivery

func (d deliveries) Len() int { return len(d) }
func (d deliveries) Less(i, j int) bool {
	return d[i].at.Before(d[j].at) || d[i].at.Equal(d[j].at) && d[i].number < d[j].number
}
func (d deliveries) Swap(i, j int) { d[i], d[j] = d[j], d[i] }
func (d *deliveries) Push(x any)   { *d = append(*d, x.(delivery)) }
func (d *deliveries) Pop() any {
	last := len(*d) - 1
	x := (*d)[last]
	*d = (*d)[:last]
	return x
}

const linkDelay = 25 * time.Millisecond

func newLink(w weather, seed uint64) *link {
	return &link{weather: w, random: rand.New(rand.NewPCG(seed, 1)), sent: make(map[uint16][]byte), wake: make(chan struct{}, 1), stop: make(chan struct{})}
}

// run delivers until stop is closed.
func (l *link) run() {
	for {
		var timer <-chan time.Time
		l.mu.Lock()
		if len(l.queue) > 0 {
			d := l.queue[0]
			if wait := time.Until(d.at); wait > 0 {
				timer = time.After(wait)
			} else {
				heap.Pop(&l.queue)
				l.mu.Unlock()
				l.to.WriteRTP(d.packet, time.Now())
				continue
			}
		}
		l.mu.Unlock()
		select {
		case <-timer:
		case <-l.wake:
		case <-l.stop:
			return
		}
	}
}

func (l *link) send(p *rtp.Packet) {
	b, err := p.Marshal()
	if err != nil {
		panic(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent[p.SequenceNumber] = b
	if !l.transmit(b) {
		l.lost++
	}
}

// transmit reports whether the packet will arrive.
func (l *link) transmit(b []byte) bool {
	if l.calm {
		l.losing = false
	} else if l.losing && l.burst > 1 {
		l.losing = l.random.Float64() > 1/float64(l.burst)
	} else {
		l.losing = l.random.Float64() < l.loss/float64(max(l.burst, 1))
	}
	if l.losing {
		return false
	}
	copies := 1
	if l.random.Float64() < l.duplicate {
		copies = 2
	}
	for range copies {
		delay := linkDelay
		if l.reorder > 0 {
			delay += time.Duration(l.random.Int64N(int64(l.reorder)))
		}
		l.count++
		heap.Push(&l.queue, delivery{time.Now().Add(delay), l.count, b})
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return true
}

func (l *link) setCalm(calm bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calm = calm
}

func (l *link) RequestKeyFrame(bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys++
}

func (l *link) NACK(seqs []uint16) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, seq := range seqs {
		l.asked++
		b := l.sent[seq]
		switch {
		case b == nil || !l.answered:
		case l.back > 0:
			time.AfterFunc(l.back, func() {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.transmit(b)
			})
		default:
			l.transmit(b)
		}
	}
}

// play sends the clip over the link at its own pace, the given number of times.
func (m media) play(l *link, rounds int) {
	rate := time.Duration(m.format.ClockRate)
	sequencer := rtp.NewFixedSequencer(uint16(65536 - 100)) // wraps soon
	packetizer := rtp.NewPacketizer(400, 96, 7, m.payloads(), sequencer, m.format.ClockRate)
	start, n := time.Now(), 0
	for range rounds {
		for _, frame := range m.frames {
			// Of what is lost before the first packet that arrives, or after the last, no one can know.
			l.setCalm(n == 0 || n == rounds*len(m.frames)-1)
			at := m.every * time.Duration(n)
			n++
			next := m.every * time.Duration(n)
			for _, p := range packetizer.Packetize(frame, uint32(next*rate/time.Second-at*rate/time.Second)) {
				l.send(p)
			}
			time.Sleep(time.Until(start.Add(next)))
		}
	}
}
