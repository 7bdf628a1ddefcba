package session

import (
	"testing"
	"time"

	"recorder/internal/e2e"
)

// Whether media flows is told by a clock that no one sets.
func TestAStepOfTheWallClockEndsNoOutage(t *testing.T) {
	began := time.Now()
	for _, step := range []time.Duration{0, time.Hour, -time.Hour} {
		f := &feed{began: began}
		if f.flowed(began, time.Second) {
			t.Error("flows before the first packet")
		}
		f.heard(began.Add(time.Minute))
		for after, want := range map[time.Duration]bool{900 * time.Millisecond: true, 1100 * time.Millisecond: false} {
			if now := e2e.SetClock(began.Add(time.Minute+after), step); f.flowed(now, time.Second) != want {
				t.Errorf("after a step of %v, %v after the last packet: flows is %v", step, after, !want)
			}
		}
	}
}
