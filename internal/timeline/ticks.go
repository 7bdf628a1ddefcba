package timeline

import (
	"math"
	"time"
)

// ToTicks is d in ticks of a clock of rate Hz, rounded down.
func ToTicks(d time.Duration, rate int64) int64 {
	s, rest := int64(d/time.Second), int64(d%time.Second)
	return s*rate + rest*rate/int64(time.Second)
}

// ToDuration is the inverse of toTicks, to the nanosecond.
func ToDuration(ticks, rate int64) time.Duration {
	return time.Duration(ticks/rate)*time.Second + time.Duration(ticks%rate)*time.Second/time.Duration(rate)
}

// ntpTicks is an NTP timestamp (RFC 5905 §6) in ticks.
func ntpTicks(ntp uint64, rate int64) int64 {
	return int64(ntp>>32)*rate + int64((ntp&math.MaxUint32)*uint64(rate)>>32)
}

// rescale converts ticks between rates, without overflow for any NTP time.
func rescale(ticks, from, to int64) int64 {
	return ticks/from*to + ticks%from*to/from
}
