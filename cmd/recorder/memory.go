package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// memoryPeriod is how often it is looked at what the process holds.
	memoryPeriod = 30 * time.Second
	// memorySlack is how much more than before it may hold, in bytes, before what is free is given back to the system.
	memorySlack = 1 << 20
)

// giveBack returns memory to the system that a burst has left free, until ctx ends. A busy machine makes packets come in
// bursts, and Go keeps what one has taken for minutes: so little is allocated otherwise that the collector hardly runs.
func giveBack(ctx context.Context) {
	tick := time.NewTicker(memoryPeriod)
	defer tick.Stop()
	for low := memoryHeld(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if memoryHeld() > low+memorySlack {
			runtime.GC() // pools let go of what they hold at the second collection
			debug.FreeOSMemory()
		}
		low = memoryHeld()
	}
}

// memoryHeld is how much memory Go has of the system, in bytes.
func memoryHeld() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}
