package remote

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestWhatIsDoneEverySoOftenIsDoneTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const interval = 20 * time.Millisecond
		for _, late := range []time.Duration{0, 1, interval / 3, interval - 1} {
			time.Sleep(late)
			wait := untilBeat(interval)
			time.Sleep(wait)
			if off := time.Duration(time.Now().UnixNano()) % interval; wait <= 0 || wait > interval || off != 0 {
				t.Errorf("%v after a beat it waits %v, until %v after one", late, wait, off)
			}
		}
	})
}
