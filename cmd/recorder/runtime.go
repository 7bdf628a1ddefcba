package main

import (
	"context"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// gcPercent is Go's GOGC unless the environment sets it. So little is allocated for a packet that the collector, which
	// by Go's own setting runs once in half a minute with 40 members, may run four times as often for a third less memory.
	gcPercent = 25
	// processorPeriod is how often the number of processors in use follows the load.
	processorPeriod = 2 * time.Second
	// processorLoad is how much of a processor is used before there is another.
	processorLoad = 0.6
)

// tuneRuntime sets up Go's runtime for receiving media, until ctx ends or what it returns is called, which waits until the
// processors have been given back.
//
// A packet passes through several goroutines. Where they run on several processors the system is asked, time and again,
// to wake another thread for what the first would have come to right away. So no more processors are used than the load
// needs, which for up to 100 streams is one. GOMAXPROCS and GOGC, where set, have the last word.
func tuneRuntime(ctx context.Context) (restore func()) {
	ctx, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
		following.Go(func() { giveBack(ctx) })
	}
	if os.Getenv("GOMAXPROCS") == "" {
		most := runtime.GOMAXPROCS(0)
		following.Go(func() { followLoad(ctx, most) })
	}
	return func() {
		cancel()
		following.Wait()
	}
}

// followLoad keeps GOMAXPROCS at what the load needs, up to most.
func followLoad(ctx context.Context, most int) {
	defer runtime.GOMAXPROCS(most)
	tick := time.NewTicker(processorPeriod)
	defer tick.Stop()
	for used, before, set := cpuTime(), time.Now(), most; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		total, now := cpuTime(), time.Now()
		if n := processors((total-used).Seconds()/now.Sub(before).Seconds(), most); n != set {
			runtime.GOMAXPROCS(n) // stops the world, if not for long
			set = n
		}
		used, before = total, now
	}
}

// processors is how many there are to be for a load of so many processors' time.
func processors(load float64, most int) int {
	return max(1, min(most, int(math.Ceil(load/processorLoad))))
}
