package e2e

import (
	"time"
	"unsafe"
)

// SetClock is t as read after someone has set the wall clock: its monotonic
// reading is what it would have been. Package time has no way to make one; it
// keeps the seconds of wall time above bit 30 of its first word. t carries both
// readings, and by is whole seconds.
func SetClock(t time.Time, by time.Duration) time.Time {
	set := t
	*(*uint64)(unsafe.Pointer(&set)) += uint64(int64(by/time.Second)) << 30
	if set.Round(0).Sub(t.Round(0)) != by || set.Sub(t) != 0 {
		panic("package time keeps its readings otherwise than SetClock knows")
	}
	return set
}
