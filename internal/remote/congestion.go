package remote

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"
)

const (
	// congestionTick is the unit of arrival times.
	congestionTick = 250 * time.Microsecond
	// ticksPerReference is how many make the unit of the reference time.
	ticksPerReference = 256
	// maxNumberGap is how many numbers may be missing within one packet; after
	// more of them another packet begins.
	maxNumberGap = 256
	// maxNumbers, received or not, fit one packet of feedback.
	maxNumbers = 400
	// maxArrivals are kept between two packets of feedback: 100 ms of 500 Mbit/s.
	maxArrivals = 4096
)

// congestion makes transport-wide congestion feedback
// (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1), which tells the
// sender when each of its packets arrived.
type congestion struct {
	sender, media uint32 // SSRCs
	count         uint8  // packets of feedback
	begun         bool
	highest       int64 // number seen, unwrapped
	next          int64 // the first number the next feedback is about
	arrivals      []numberedArrival
	out           []byte
}

type numberedArrival struct {
	number int64
	tick   int64
}

// arrived notes a packet; at is counted from any fixed moment.
func (c *congestion) arrived(media uint32, number uint16, at time.Duration) {
	c.media = media
	if !c.begun {
		c.begun, c.highest, c.next = true, int64(number), int64(number)
	}
	n := c.highest + int64(int16(number-uint16(c.highest)))
	c.highest = max(c.highest, n)
	if n >= c.next && len(c.arrivals) < maxArrivals {
		c.arrivals = append(c.arrivals, numberedArrival{n, int64(at / congestionTick)})
	}
}

// feedback returns the next packet of feedback on what arrived, nil when
// there is no more. It is valid until the next call.
func (c *congestion) feedback() []byte {
	if len(c.arrivals) == 0 {
		return nil
	}
	slices.SortStableFunc(c.arrivals, func(a, b numberedArrival) int { return cmp.Compare(a.number, b.number) })
	base := c.next
	if c.arrivals[0].number-base > maxNumberGap {
		base = c.arrivals[0].number
	}
	taken, last := 0, base-1
	for _, a := range c.arrivals {
		if a.number-last > maxNumberGap+1 || a.number-base >= maxNumbers {
			break
		}
		taken, last = taken+1, a.number
	}
	c.write(base, last, c.arrivals[:taken])
	c.next = last + 1
	c.arrivals = c.arrivals[:copy(c.arrivals, c.arrivals[taken:])]
	return c.out
}

// write lays out feedback on the numbers from base to last.
func (c *congestion) write(base, last int64, arrivals []numberedArrival) {
	numbers := int(last - base + 1)
	reference := arrivals[0].tick / ticksPerReference
	b := append(c.out[:0], 0x80|15, 205, 0, 0) // transport layer feedback, RFC 4585 §6.1
	b = binary.BigEndian.AppendUint32(b, c.sender)
	b = binary.BigEndian.AppendUint32(b, c.media)
	b = binary.BigEndian.AppendUint16(b, uint16(base))
	b = binary.BigEndian.AppendUint16(b, uint16(numbers))
	b = append(b, byte(reference>>16), byte(reference>>8), byte(reference), c.count)
	c.count++

	// Seven numbers a chunk, two bits each: absent, a delta of one byte, or of two.
	chunks := len(b)
	for range (numbers + 6) / 7 {
		b = append(b, 0xc0, 0)
	}
	at, before := reference*ticksPerReference, base-1
	for _, a := range arrivals {
		if a.number == before {
			continue // a duplicate
		}
		symbol, delta := uint16(1), a.tick-at
		if delta < 0 || delta > 0xff {
			symbol, delta = 2, min(max(delta, -1<<15), 1<<15-1)
			b = binary.BigEndian.AppendUint16(b, uint16(delta))
		} else {
			b = append(b, byte(delta))
		}
		i := int(a.number - base)
		chunk := b[chunks+2*(i/7):]
		binary.BigEndian.PutUint16(chunk, binary.BigEndian.Uint16(chunk)|symbol<<(12-2*(i%7)))
		at, before = at+delta, a.number
	}
	if rest := len(b) % 4; rest != 0 {
		b[0] |= 0x20 // RFC 3550 §6.4.1: the last byte of the padding counts it
		for n := rest; n < 3; n++ {
			b = append(b, 0)
		}
		b = append(b, byte(4-rest))
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)/4-1))
	c.out = b
}
