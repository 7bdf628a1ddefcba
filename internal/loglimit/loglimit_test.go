package loglimit

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// output is what was written; lines that waited come from other goroutines.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// limited returns a log of the given level, and what is written to it.
func limited(level slog.Level) (*Limiter, *slog.Logger, *output) {
	out := new(output)
	l, log := New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level}))
	return l, log, out
}

// count is how many lines hold text.
func count(out *output, text string) (n int) {
	for line := range strings.Lines(out.String()) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func TestABurstIsWrittenAndThenOneLineInAPeriodThatSaysHowManyWereLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, log, out := limited(slog.LevelInfo)
		log = log.With("channel", "a")
		for i := range burst + 100 {
			log.Warn("negotiation failed", "n", i)
		}
		if n := count(out, "negotiation failed"); n != burst {
			t.Errorf("%d lines of the burst", n)
		}
		time.Sleep(period)
		synctest.Wait()
		if n := count(out, fmt.Sprintf("n=%d suppressed=99", burst+99)); n != 1 || count(out, "negotiation") != burst+1 {
			t.Errorf("the last of the burst is not there:\n%s", out)
		}
		if n := testutil.ToFloat64(l.suppressed.WithLabelValues("warn")); n != 99 {
			t.Errorf("%v counted", n)
		}
		time.Sleep(time.Hour)
		log.Warn("negotiation failed", "n", "later")
		if count(out, "n=later\n") != 1 {
			t.Errorf("after an hour:\n%s", out)
		}
	})
}

func TestNoLineIsLostWithoutBeingCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, log, out := limited(slog.LevelInfo)
		const rounds = 5000
		for i := range rounds { // 500 s of two kinds, at changing speed
			log.Info("peer joined", "channel", "a", "i", i)
			log.Error("disk", "dir", i%3)
			time.Sleep(time.Duration(i%200) * time.Millisecond)
		}
		l.Close()
		for _, kind := range []string{"msg=\"peer joined\"", "msg=disk"} {
			written, left := 0, 0
			for line := range strings.Lines(out.String()) {
				if !strings.Contains(line, kind) {
					continue
				}
				written++
				if _, n, ok := strings.Cut(line, "suppressed="); ok {
					var k int
					if _, err := fmt.Sscan(n, &k); err != nil {
						t.Fatal(err)
					}
					left += k
				}
			}
			if written+left != rounds {
				t.Errorf("%s: %d written and %d left out of %d", kind, written, left, rounds)
			}
		}
		if count(out, fmt.Sprintf("i=%d", rounds-1)) != 1 {
			t.Error("the log does not end with the last line")
		}
	})
}

// TestAChannelFillsNoMoreThanItsShareOfTheLog repeats all messages of a channel as fast as a member can.
func TestAChannelFillsNoMoreThanItsShareOfTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, log, out := limited(slog.LevelInfo)
		log = log.With("channel", strings.Repeat("c", 200))
		before, long := 0, errors.New(strings.Repeat("e", 16<<10))
		for minute := range 3 {
			for range 120 {
				for kind := range 30 {
					log.Info(fmt.Sprint("message ", kind), "peer", strings.Repeat("p", 128), "err", long)
				}
				time.Sleep(500 * time.Millisecond)
			}
			bytes := len(out.String()) - before
			before += bytes
			if minute > 0 && bytes > 30*7*1700 {
				t.Errorf("%d bytes in minute %d", bytes, minute)
			}
		}
	})
}

func TestOthersLinesAreNotHeldForAChannelsFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, log, out := limited(slog.LevelInfo)
		for range 1000 {
			log.Info("peer joined", "channel", "attacked")
		}
		log.Info("peer joined", "channel", "quiet")
		log.With("channel", "quiet").With("peer", "p").Info("peer joined")
		log.With("channel", "attacked").Info("peer left")
		log.Warn("peer joined", "channel", "attacked")
		for i := range 3 * burst {
			log.Error("could not repair recording", "dir", fmt.Sprint("r", i))
		}
		if n := count(out, ""); n != burst+4+3*burst {
			t.Errorf("%d lines:\n%s", n, out)
		}
		time.Sleep(time.Minute)
	})
}

func TestAMemberSharesTheLimitOfItsChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, log, out := limited(slog.LevelInfo)
		log = log.With("channel", "a")
		for i := range 10 * burst {
			log.With("peer", i).Info("peer state changed")
		}
		if n := count(out, "peer state"); n != burst {
			t.Errorf("%d lines", n)
		}
		time.Sleep(time.Minute)
	})
}

func TestWhoAsksForDebugGetsEveryLine(t *testing.T) {
	_, log, out := limited(slog.LevelDebug)
	for range 10 * burst {
		log.Info("peer joined")
		log.Debug("detail")
	}
	if n := count(out, ""); n != 20*burst {
		t.Errorf("%d lines", n)
	}
}

func TestKindsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, log, out := limited(slog.LevelInfo)
		for i := range 2 * maxKinds {
			log.Info("peer joined", "channel", i)
		}
		if n := len(l.kinds); n > maxKinds+1 {
			t.Errorf("%d kinds", n)
		}
		if n := count(out, ""); n != maxKinds+burst {
			t.Errorf("%d lines", n)
		}
		time.Sleep(2 * burst * period)
		synctest.Wait()
		log.Info("peer joined", "channel", "another")
		if n := len(l.kinds); n > 1 {
			t.Errorf("%d kinds are remembered of which nothing came", n)
		}
	})
}

func TestLongValuesAreCutAndAStackIsNot(t *testing.T) {
	_, log, out := limited(slog.LevelInfo)
	log.Error("event handler panicked", "err", errors.New(strings.Repeat("é", 5000)), "stack", strings.Repeat("s", 10000), "n", 1)
	if text := out.String(); strings.Count(text, "é") != maxValue/2 || !strings.Contains(text, "(10000 bytes)") ||
		strings.Count(text, "s") < 10000 || !strings.Contains(text, "n=1") {
		t.Errorf("got %s", text)
	}
}

func TestCloseWritesWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, log, out := limited(slog.LevelInfo)
		for i := range burst + 2 {
			log.With("i", i).WithGroup("g").Info("line", "a", 1)
		}
		l.Close()
		for range 3 {
			log.Info("line")
		}
		if n := count(out, ""); n != burst+4 || count(out, fmt.Sprint("i=", burst+1)) != 1 {
			t.Errorf("%d lines:\n%s", n, out)
		}
		time.Sleep(time.Hour) // no timer writes anything
		if n := count(out, ""); n != burst+4 {
			t.Errorf("%d lines:\n%s", n, out)
		}
	})
}
