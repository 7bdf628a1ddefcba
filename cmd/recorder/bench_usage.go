package main

import (
	"os"
	"runtime/metrics"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// usage is what this process has used so far. What the system does not tell is 0.
type usage struct {
	at        time.Time
	cpu       time.Duration // user and system
	rss, peak uint64        // bytes
	allocs    uint64        // objects on the heap
	allocated uint64        // bytes
}

func usageNow() (u usage) {
	u.at = time.Now()
	u.cpu = cpuTime()
	// ru_maxrss would be that of the process that started this one, if that was larger.
	u.peak = procField("/proc/self/status", "VmHWM:") << 10
	u.rss = procField("/proc/self/status", "VmRSS:") << 10
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(samples)
	u.allocs, u.allocated = samples[0].Value.Uint64(), samples[1].Value.Uint64()
	return u
}

// cpuTime is what this process has used of processors, user and system.
func cpuTime() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// procField is the number behind a name in a file of proc(5).
func procField(file, name string) uint64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, _ := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
			return n
		}
	}
	return 0
}
