package main

import (
	"runtime"
	"testing"
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
