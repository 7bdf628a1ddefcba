package depacket

import "time"

// NACKGenerator decides when a missing packet is asked for (RFC 4585 §6.2.1). It knows what came back, by
// whatever way: a packet recovered through RTX is not asked for again, a packet that is merely out
// of order is not asked for at all, and one that stays away is asked for until the window ends, at
// intervals that follow the round-trip time.
type NACKGenerator struct {
	rtt, deviation time.Duration // smoothed, from a request to the packet's arrival
}

const (
	nackPatience = 40 * time.Millisecond // what a path may reorder before it counts as loss
	nackMinimum  = 60 * time.Millisecond // between requests for the same packet
	nackUnknown  = 200 * time.Millisecond
	nackTries    = 15
	nackBatch    = 256 // sequence numbers in one request
)

// RTT is the time from a request to its answer, 0 while it is not known.
func (n *NACKGenerator) RTT() time.Duration { return n.rtt }

// interval is how long after the given number of requests the next is due.
func (n *NACKGenerator) interval(tries int) time.Duration {
	d := nackUnknown
	if n.rtt > 0 {
		d = max(n.rtt+4*n.deviation, nackMinimum)
	}
	return d << min(max(tries-2, 0), 2) // what was refused twice is not to be had faster
}

// Due marks and appends to dst the packets of a jitter buffer to ask for now.
func (n *NACKGenerator) Due(now time.Duration, from *JitterBuffer, dst []uint16) []uint16 {
	for i := range from.missing {
		h := &from.missing[i]
		switch {
		case now-h.since < nackPatience:
			continue
		case h.tries >= nackTries || now+n.rtt > h.since+from.window:
			continue // the answer would come too late
		case h.tries > 0 && now-h.asked < n.interval(h.tries):
			continue
		}
		if len(dst) >= nackBatch {
			break
		}
		if h.tries == 0 {
			h.first = now
		}
		h.asked, h.tries = now, h.tries+1
		dst = append(dst, uint16(h.seq))
	}
	return dst
}

// Answered learns from the arrival of a packet that was missing. It reports whether the packet
// owes its arrival to a request.
func (n *NACKGenerator) Answered(h Hole, arrival time.Duration) bool {
	if h.tries == 0 {
		return false
	}
	// Which of several requests was answered is not known (Karn's rule). Counting from the first
	// errs on the slow side, and a path slower than assumed would never be learned otherwise.
	sample := max(arrival-h.first, time.Millisecond)
	if n.rtt == 0 {
		n.rtt, n.deviation = sample, sample/2
		return true
	}
	// RFC 6298 §2.3
	n.deviation += (max(n.rtt-sample, sample-n.rtt) - n.deviation) / 4
	n.rtt += (sample - n.rtt) / 8
	return true
}
