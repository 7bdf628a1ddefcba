package remote

import (
	"encoding/binary"
	"sync/atomic"
	"time"
)

// arrivals is when RTP packets came to the shared port, as the system saw it.
// By the time a packet was read, decrypted and delivered it has waited for the
// others that are read with it. A sender that was told that time would take
// each batch for a burst that a queue let go: its probes for bandwidth would
// come to nothing, and a browser would take half a minute to reach 2 Mbit/s.
//
// pion has no room for the time on a packet's way, so it is looked up by the
// packet's header, which encryption leaves as it is. Whoever forges headers, of
// his own packets or, if he knows their numbers, of another's, spoils nothing
// but congestion feedback to their sender.
//
// One goroutine notes, any may look up. Times are overwritten by later ones.
type arrivals struct {
	start time.Time
	slots [1 << arrivalBits]struct {
		key atomic.Uint64
		at  atomic.Int64 // since start
	}
}

const (
	// arrivalBits make room for what 40 members of 1 Mbit/s send in a second.
	arrivalBits = 13
	// maxReadDelay is how long a packet may have waited to be read. What the
	// clocks say beyond that comes from a clock that was set.
	maxReadDelay = 10 * time.Second
)

func newArrivals() *arrivals { return &arrivals{start: time.Now()} }

// note remembers that a datagram that is read now has waited for a while.
func (a *arrivals) note(datagram []byte, now time.Time, waited time.Duration) {
	key, ok := packetKey(datagram)
	if !ok {
		return
	}
	if waited < 0 || waited > maxReadDelay {
		waited = 0
	}
	slot := &a.slots[slotOf(key)]
	slot.key.Store(0) // whoever looks now finds neither
	slot.at.Store(int64(now.Add(-waited).Sub(a.start)))
	slot.key.Store(key)
}

// of returns when a packet arrived: now if that is not known.
func (a *arrivals) of(packet []byte, now time.Time) time.Time {
	if a == nil {
		return now
	}
	key, ok := packetKey(packet)
	if !ok {
		return now
	}
	slot := &a.slots[slotOf(key)]
	if slot.key.Load() != key {
		return now
	}
	at := a.start.Add(time.Duration(slot.at.Load()))
	if slot.key.Load() != key {
		return now
	}
	return at
}

// packetKey tells RTP packets apart, and from everything else that comes to a
// port: by SSRC, sequence number, and the end of the time stamp.
func packetKey(p []byte) (key uint64, ok bool) {
	// RFC 7983 §7; RFC 5761 §4
	if len(p) < rtpHeaderSize || p[0]>>6 != 2 || p[1] >= 192 && p[1] <= 223 {
		return 0, false
	}
	key = uint64(binary.BigEndian.Uint32(p[8:]))<<32 | uint64(binary.BigEndian.Uint16(p[2:]))<<16 | uint64(binary.BigEndian.Uint16(p[6:]))
	return key, key != 0
}

// slotOf spreads keys, of which those of one source differ by little.
func slotOf(key uint64) uint64 { return key * 0x9e3779b97f4a7c15 >> (64 - arrivalBits) }
