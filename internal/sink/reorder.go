package sink

import (
	"slices"
	"time"
)

// reorder puts the packets of one SSRC back in sequence. A packet that is missing holds back what
// follows it until it arrives, or until it has been missed for the length of the window: a recorder
// can wait, and waiting is what gives a retransmission its chance.
type reorder struct {
	window   time.Duration
	maxBytes int

	ring    []*packet // by seq modulo its length, a power of two
	next    int64     // first not released
	end     int64     // one past the highest seen
	bytes   int
	missing []hole // of [next, end), ascending
	lost    int    // given up since the last release
	started bool
	popped  bool                      // something was released
	given   [reorderSlots / 64]uint64 // which of the last reorderSlots were given up
}

// hole is a packet known to exist that has not arrived.
type hole struct {
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

// arrived says what became of a packet given to push.
type arrived int

const (
	inOrder   arrived = iota // accepted
	filled                   // accepted, it was missing; the hole is returned
	duplicate                // refused: already here or already released
	tooLate                  // refused: already given up
	astray                   // refused: its sequence number has nothing to do with the others
)

// unwrap is the 64-bit sequence number closest to the highest seen.
func (r *reorder) unwrap(seq uint16) int64 {
	if !r.started {
		return 1<<16 + int64(seq)
	}
	return r.end - 1 + int64(int16(seq-uint16(r.end-1)))
}

// push accepts p, which it then owns, or refuses it.
func (r *reorder) push(p *packet) (arrived, hole) {
	seq := r.unwrap(p.seq16)
	if !r.started {
		r.started, r.next, r.end = true, seq, seq
	}
	switch {
	case seq < r.next && !r.popped && r.next-seq <= maxEarly:
		// Nothing was released yet: the first packets arrived out of order.
		r.grow(r.end - seq)
		for s := r.next - 1; s > seq; s-- {
			r.missing = slices.Insert(r.missing, 0, hole{seq: s, since: p.arrival})
		}
		r.next = seq
		p.late = true
		r.store(p, seq)
		return inOrder, hole{}
	case seq < r.next-reorderSlots || seq-r.end >= maxDropout || seq-r.next >= reorderSlots:
		return astray, hole{}
	case seq < r.next:
		if r.given[r.word(seq)]&(1<<(seq&63)) != 0 {
			return tooLate, hole{}
		}
		return duplicate, hole{}
	case seq < r.end:
		i := r.find(seq)
		if i < 0 {
			return duplicate, hole{}
		}
		h := r.missing[i]
		r.missing = append(r.missing[:i], r.missing[i+1:]...)
		p.late = true
		r.store(p, seq)
		return filled, h
	}
	r.grow(seq + 1 - r.next)
	for s := r.end; s < seq; s++ {
		r.missing = append(r.missing, hole{seq: s, since: p.arrival})
	}
	r.end = seq + 1
	r.store(p, seq)
	return inOrder, hole{}
}

// front is the next packet in sequence, nil when it is still waited for. Holes whose time has come
// are given up on the way; with force, all before the next packet are.
func (r *reorder) front(now time.Duration, force bool) (p *packet) {
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

// take removes the packet front returned, which the caller then owns, and says how many before it
// were given up.
func (r *reorder) take() (p *packet, lost int) {
	p = r.at(r.next)
	r.ring[r.next&int64(len(r.ring)-1)] = nil
	r.given[r.word(r.next)] &^= 1 << (r.next & 63)
	r.bytes -= len(p.buf)
	r.next++
	r.popped = true
	lost, r.lost = r.lost, 0
	return p, lost
}

// clear frees what is held.
func (r *reorder) clear() {
	for ; r.next < r.end; r.next++ {
		if p := r.at(r.next); p != nil {
			p.free()
		}
	}
	*r = reorder{window: r.window, maxBytes: r.maxBytes, ring: r.ring, missing: r.missing[:0]}
	clear(r.ring)
}

// wants is the hole a packet of this sequence number would fill, if it would.
func (r *reorder) wants(seq uint16) bool { return r.started && r.find(r.unwrap(seq)) >= 0 }

// ahead is how many packets would be missing before one of this sequence number.
func (r *reorder) ahead(seq uint16) int { return int(max(r.unwrap(seq)-r.end, 0)) }

// held is the packet with the given unwrapped number, nil when it is not here.
func (r *reorder) held(seq int64) *packet {
	if seq < r.next || seq >= r.end {
		return nil
	}
	return r.at(seq)
}

func (r *reorder) at(seq int64) *packet { return r.ring[seq&int64(len(r.ring)-1)] }

func (r *reorder) word(seq int64) int { return int(seq>>6) % len(r.given) }

func (r *reorder) store(p *packet, seq int64) {
	p.seq = seq
	r.ring[seq&int64(len(r.ring)-1)] = p
	r.bytes += len(p.buf)
}

// find is the index of seq in missing, or -1.
func (r *reorder) find(seq int64) int {
	i, ok := slices.BinarySearchFunc(r.missing, seq, func(h hole, seq int64) int { return int(h.seq - seq) })
	if !ok {
		return -1
	}
	return i
}

// grow makes the ring hold n packets from next on.
func (r *reorder) grow(n int64) {
	size := max(int64(len(r.ring)), 64)
	for size < n {
		size *= 2
	}
	if size == int64(len(r.ring)) {
		return
	}
	ring := make([]*packet, size)
	for seq := r.next; seq < r.end; seq++ {
		ring[seq&(size-1)] = r.at(seq)
	}
	r.ring = ring
}
