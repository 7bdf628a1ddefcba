package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"
)

func TestProcessorsFollowTheLoad(t *testing.T) {
	for _, c := range []struct {
		load float64
		most int
		want int
	}{{0, 4, 1}, {0.5, 4, 1}, {0.7, 4, 2}, {1.3, 4, 3}, {9, 4, 4}, {0.9, 1, 1}} {
		if got := processors(c.load, c.most); got != c.want {
			t.Errorf("load %v of %d: %d", c.load, c.most, got)
		}
	}
}

// What a burst has taken goes back to the system, and not only when the collector happens to run.
func TestMemoryOfABurstIsGivenBack(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(gcPercent))
	debug.FreeOSMemory()
	before := memoryHeld()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { giveBack(ctx); close(done) }()
		synctest.Wait()
		burst := make([][]byte, 8<<10)
		for i := range burst {
			burst[i] = make([]byte, 2<<10)
		}
		runtime.KeepAlive(burst)
		held := memoryHeld()
		if held < before+8<<20 {
			t.Fatalf("the burst took %d bytes", held-before)
		}
		time.Sleep(memoryPeriod)
		synctest.Wait()
		stop()
		<-done
	})
	if held := memoryHeld(); held > before+4<<20 {
		t.Errorf("%d bytes are held after a burst", held-before)
	}
}

func TestProcessorsAreGivenBack(t *testing.T) {
	t.Setenv("GOMAXPROCS", "")
	t.Setenv("GOGC", "100") // stays as it is
	before := runtime.GOMAXPROCS(2)
	defer runtime.GOMAXPROCS(before)
	for range 100 { // more than once is too late if nobody waits
		restore := tuneRuntime(t.Context())
		runtime.GOMAXPROCS(1)
		restore()
		if n := runtime.GOMAXPROCS(0); n != 2 {
			t.Fatalf("%d of 2", n)
		}
	}
	if usage := cpuTime(); usage <= 0 || usage > time.Hour {
		t.Errorf("used %v", usage)
	}
}
