package sink

import "time"

const ms = time.Millisecond

// ntp is an NTP timestamp of a sender whose clock shows the given time.
func ntp(d time.Duration) uint64 {
	s := uint64(3_900_000_000) + uint64(d/time.Second)
	return s<<32 | uint64(d%time.Second)<<32/uint64(time.Second)
}
