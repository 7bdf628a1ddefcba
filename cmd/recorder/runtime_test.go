package main

import (
	"context"
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
	most := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	followLoad(ctx, most)
	if n := runtime.GOMAXPROCS(0); n != most {
		t.Errorf("%d of %d", n, most)
	}
	if usage := cpuTime(); usage <= 0 || usage > time.Hour {
		t.Errorf("used %v", usage)
	}
}
