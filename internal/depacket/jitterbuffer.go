package depacket

import (
	"slices"
	"time"
)

// JitterBuffer puts the packets of one SSRC back in sequence. A packet that is missing holds back what
// follows it until it arrives, or until it has been missed for the length of the window: a recorder
// can wait, and waiting is what gives a retransmission its chance.
type JitterBuffer struct {
	window   time.Duration
	maxBytes int

	ring    []*Packet // by seq modulo its length, a power of two
	next    int64     // first not released
	end     int64     // one past the highest seen
	bytes   int
	missing []Hole // of [next, end), ascending
	lost    int    // given up since the last release
	started bool
	popped  bool                      // something was released
	given   [reorderSlots / 64]uint64 // which of the last reorderSlots were given up
}

// Hole is a packet known to exist that has not arrived.
type Hole struct {
	seq   int64
	since time.Duration // when a later one arrived
	first time.Duration // when it was first asked for
	asked time.Duration // when it was last asked for
	tries int
}

const (
	// reorderSlots bounds the window in packets: 2 s of 45 Mbit/s.
	reorderSlots = 8192
	// maxDropout is the largest step in sequence numbers taken for loss (RFC 3550 appendix A.1).
	maxDropout = 3000
	// maxEarly is how far before the first packet seen one may belong that arrives after it.
	maxEarly = 64
)

// Outcome says what became of a packet given to Push.
type Outcome int

const (
	InOrder   Outcome = iota // accepted
	Filled                   // accepted, it was missing; the hole is returned
	Duplicate                // refused: already here or already released
	TooLate                  // refused: already given up
	Astray                   // refused: its sequence number has nothing to do with the others
)

// Unwrap is the 64-bit sequence number closest to the highest seen.
func (r *JitterBuffer) Unwrap(seq uint16) int64 {
	if !r.started {
		return 1<<16 + int64(seq)
	}
	return r.end - 1 + int64(int16(seq-uint16(r.end-1)))
}

// Push accepts p, which it then owns, or refuses it.
func (r *JitterBuffer) Push(p *Packet) (Outcome, Hole) {
	seq := r.Unwrap(p.SequenceNumber)
	if !r.started {
		r.started, r.next, r.end = true, seq, seq
	}
	switch {
	case seq < r.next && !r.popped && r.next-seq <= maxEarly:
		// Nothing was released yet: the first packets arrived out of order.
		r.grow(r.end - seq)
		for s := r.next - 1; s > seq; s-- {
			r.missing = slices.Insert(r.missing, 0, Hole{seq: s, since: p.Arrival})
		}
		r.next = seq
		p.Late = true
		r.store(p, seq)
		return InOrder, Hole{}
	case seq < r.next-reorderSlots || seq-r.end >= maxDropout || seq-r.next >= reorderSlots:
		return Astray, Hole{}
	case seq < r.next:
		if r.given[r.word(seq)]&(1<<(seq&63)) != 0 {
			return TooLate, Hole{}
		}
		return Duplicate, Hole{}
	case seq < r.end:
		i := r.find(seq)
		if i < 0 {
			return Duplicate, Hole{}
		}
		h := r.missing[i]
		r.missing = append(r.missing[:i], r.missing[i+1:]...)
		p.Late = true
		r.store(p, seq)
		return Filled, h
	}
	r.grow(seq + 1 - r.next)
	for s := r.end; s < seq; s++ {
		r.missing = append(r.missing, Hole{seq: s, since: p.Arrival})
	}
	r.end = seq + 1
	r.store(p, seq)
	return InOrder, Hole{}
}

// NewJitterBuffer returns an empty one that waits for a packet as long as window says and holds
// maxBytes at most, or what came last.
func NewJitterBuffer(window time.Duration, maxBytes int) JitterBuffer {
	return JitterBuffer{window: window, maxBytes: maxBytes}
}

// Holes is how many packets are missing now.
func (r *JitterBuffer) Holes() int { return len(r.missing) }

// Waiting is since when the packet that holds back the others is missing; false if none does.
func (r *JitterBuffer) Waiting() (since time.Duration, ok bool) {
	if len(r.missing) == 0 {
		return 0, false
	}
	return r.missing[0].since, true
}

// Len is how many packets are held.
func (r *JitterBuffer) Len() int { return int(r.end-r.next) - len(r.missing) }

// Front is the next packet in sequence, nil when it is still waited for. Holes whose time has come
// are given up on the way; with force, all before the next packet are.
func (r *JitterBuffer) Front(now time.Duration, force bool) (p *Packet) {
	gone := 0 // of the holes, which are cut at once: a hostile sender makes thousands
	for ; r.next < r.end; gone++ {
		if p = r.at(r.next); p != nil {
			break
		}
		crowded := r.bytes > r.maxBytes || r.end-r.next > reorderSlots*3/4
		if !force && !crowded && now-r.missing[gone].since < r.window {
			break
		}
		r.given[r.word(r.next)] |= 1 << (r.next & 63)
		r.next++
	}
	if gone > 0 {
		r.missing = append(r.missing[:0], r.missing[gone:]...)
		r.lost += gone
	}
	return p
}

// Take removes the packet that Front returned, which the caller then owns, and says how many before it
// were given up.
func (r *JitterBuffer) Take() (p *Packet, lost int) {
	p = r.at(r.next)
	r.ring[r.next&int64(len(r.ring)-1)] = nil
	r.given[r.word(r.next)] &^= 1 << (r.next & 63)
	r.bytes -= len(p.Raw)
	r.next++
	r.popped = true
	lost, r.lost = r.lost, 0
	return p, lost
}

// Restart frees what is held and begins anew with the next packet, before which so many were lost.
func (r *JitterBuffer) Restart(lost int) {
	r.Clear()
	r.lost = lost
}

// Clear frees what is held.
func (r *JitterBuffer) Clear() {
	for ; r.next < r.end; r.next++ {
		if p := r.at(r.next); p != nil {
			p.Free()
		}
	}
	*r = JitterBuffer{window: r.window, maxBytes: r.maxBytes, ring: r.ring, missing: r.missing[:0]}
	clear(r.ring)
}

// Wants is the hole a packet of this sequence number would fill, if it would.
func (r *JitterBuffer) Wants(seq uint16) bool { return r.started && r.find(r.Unwrap(seq)) >= 0 }

// Ahead is how many packets would be missing before one of this sequence number.
func (r *JitterBuffer) Ahead(seq uint16) int { return int(max(r.Unwrap(seq)-r.end, 0)) }

// Held is the packet with the given unwrapped number, nil when it is not here.
func (r *JitterBuffer) Held(seq int64) *Packet {
	if seq < r.next || seq >= r.end {
		return nil
	}
	return r.at(seq)
}

func (r *JitterBuffer) at(seq int64) *Packet { return r.ring[seq&int64(len(r.ring)-1)] }

func (r *JitterBuffer) word(seq int64) int { return int(seq>>6) % len(r.given) }

func (r *JitterBuffer) store(p *Packet, seq int64) {
	p.seq = seq
	r.ring[seq&int64(len(r.ring)-1)] = p
	r.bytes += len(p.Raw)
}

// find is the index of seq in missing, or -1.
func (r *JitterBuffer) find(seq int64) int {
	i, ok := slices.BinarySearchFunc(r.missing, seq, func(h Hole, seq int64) int { return int(h.seq - seq) })
	if !ok {
		return -1
	}
	return i
}

// grow makes the ring hold n packets from next on.
func (r *JitterBuffer) grow(n int64) {
	size := max(int64(len(r.ring)), 64)
	for size < n {
		size *= 2
	}
	if size == int64(len(r.ring)) {
		return
	}
	ring := make([]*Packet, size)
	for seq := r.next; seq < r.end; seq++ {
		ring[seq&(size-1)] = r.at(seq)
	}
	r.ring = ring
}
