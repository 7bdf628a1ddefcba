package signaling

import (
	"testing"
	"time"
)

func TestBackoffPerEnding(t *testing.T) {
	const s, now = time.Second, firstJitter / 2
	brief := ending{reason: ReasonNetwork, welcomed: true, lived: lived - 1}
	barely := ending{reason: ReasonNetwork, welcomed: true, lived: lived}
	up := ending{reason: ReasonNetwork, welcomed: true, lived: time.Minute}
	fail := ending{reason: ReasonDial}
	expired := ending{reason: ReasonTokenExpired}
	expiredLate := ending{reason: ReasonTokenExpired, welcomed: true, lived: time.Minute}
	expiredEarly := ending{reason: ReasonTokenExpired, welcomed: true, lived: time.Second / 10}
	limit := ending{reason: ReasonOverLimit}
	away := ending{reason: ReasonGoingAway, retryAfter: 5 * s, welcomed: true, lived: time.Minute}
	type step struct {
		end  ending
		want time.Duration // with jitter in the middle
	}
	for name, steps := range map[string][]step{
		"doubles up to the cap":         {{fail, s / 2}, {fail, s}, {fail, 2 * s}, {fail, 4 * s}, {fail, 8 * s}, {fail, 16 * s}, {fail, 30 * s}, {fail, 30 * s}},
		"starts over after a life":      {{fail, s / 2}, {fail, s}, {up, now}, {fail, s / 2}, {fail, s}},
		"welcomed and dropped at once":  {{brief, s / 2}, {brief, s}, {brief, 2 * s}, {fail, 4 * s}, {up, now}},
		"barely lived":                  {{brief, s / 2}, {barely, now}, {barely, now}, {brief, s / 2}},
		"expired token: at once":        {{expiredLate, 0}, {expiredLate, 0}, {expiredLate, 0}},
		"expired token: once in a row":  {{expired, 0}, {expired, s / 2}, {expired, s}, {expired, 2 * s}},
		"token that dies young":         {{expiredEarly, 0}, {expiredEarly, s / 2}, {expiredEarly, s}},
		"expired, drop, expired":        {{expiredLate, 0}, {fail, s / 2}, {up, now}, {expiredLate, 0}},
		"over the limit":                {{limit, 33 * s}, {fail, s}, {limit, 33 * s}},
		"going away":                    {{away, 5*s + s/2}, {fail, s / 2}},
		"going away, less than backoff": {{fail, s / 2}, {fail, s}, {fail, 2 * s}, {fail, 4 * s}, {ending{reason: ReasonGoingAway, retryAfter: s}, 8 * s}},
	} {
		b := newBackoff(defaultMinBackoff, defaultMaxBackoff)
		b.rand = func() float64 { return 0.5 }
		for i, st := range steps {
			if got, terminal := b.next(st.end, true); got != st.want || terminal {
				t.Errorf("%s, step %d: %v, terminal %v; want %v", name, i, got, terminal, st.want)
			}
		}
	}
}

func TestBackoffJitterIsTwentyPercentAndNeverBelowAFloor(t *testing.T) {
	for _, r := range []float64{0, 0.25, 0.75, 0.999999} {
		b := newBackoff(defaultMinBackoff, defaultMaxBackoff)
		b.rand = func() float64 { return r }
		first, _ := b.next(ending{reason: ReasonDial}, true)
		between(t, "first", first, 400*time.Millisecond, 600*time.Millisecond)
		limited, _ := b.next(ending{reason: ReasonOverLimit}, true)
		between(t, "over the limit", limited, 30*time.Second, 36*time.Second)
		up, _ := b.next(ending{reason: ReasonNetwork, welcomed: true, lived: lived}, true)
		between(t, "after a life", up, 0, 100*time.Millisecond)
		away, _ := b.next(ending{reason: ReasonGoingAway, retryAfter: 7 * time.Second}, true)
		between(t, "going away", away, 7*time.Second, 8400*time.Millisecond)
	}
}

func TestBackoffNeverOverflows(t *testing.T) {
	b := newBackoff(defaultMinBackoff, defaultMaxBackoff)
	for i := range 10000 {
		if d, _ := b.next(ending{reason: ReasonDial}, true); d <= 0 || d > 36*time.Second {
			t.Fatalf("attempt %d: %v", i, d)
		}
	}
}

func TestEveryCloseCodeHasItsVerdict(t *testing.T) {
	for code, want := range map[CloseCode]struct {
		reason             Reason
		terminal, ifStatic bool
	}{
		1000: {ReasonClosed, false, false}, 1001: {ReasonGoingAway, false, false}, 1005: {ReasonClosed, false, false},
		1008: {ReasonPolicy, false, false}, 1009: {ReasonTooBig, false, false}, 4000: {ReasonClosed, false, false},
		4001: {ReasonRefused, true, true}, 4002: {ReasonTokenExpired, false, true}, 4003: {ReasonRefused, true, true},
		4010: {ReasonOverLimit, false, false}, 4011: {ReasonOverRate, false, false}, 4012: {ReasonRefused, true, true},
		4020: {ReasonRefused, true, true}, 4999: {ReasonClosed, false, false},
	} {
		if got := closeReason(code); got != want.reason {
			t.Errorf("%v: %v", code, got)
		}
		for renewable, terminal := range map[bool]bool{true: want.terminal, false: want.ifStatic} {
			b := newBackoff(1, 1)
			if _, got := b.next(ending{reason: closeReason(code)}, renewable); got != terminal {
				t.Errorf("%v, renewable %v: terminal %v", code, renewable, got)
			}
		}
	}
}

func TestWatchdog(t *testing.T) {
	const s = time.Second
	w := newWatchdog(60 * s)
	start := time.Now()
	last := start
	for _, step := range []struct {
		at, heard  time.Duration
		ping, dead bool
		next       time.Duration
	}{
		{0, 0, false, false, 20 * s},
		{20 * s, 0, true, false, 20 * s},
		{20 * s, 0, false, false, 20 * s}, // not twice for one silence
		{40 * s, 0, true, false, 20 * s},
		{41 * s, 41 * s, false, false, 20 * s}, // heard: everything starts over
		{60 * s, 41 * s, false, false, 1 * s},
		{61 * s, 41 * s, true, false, 20 * s},
		{81 * s, 41 * s, true, false, 20 * s},
		{100 * s, 41 * s, false, false, 1 * s},
		{101 * s, 41 * s, false, true, 0},
	} {
		last = start.Add(step.heard)
		ping, dead, next := w.check(last, start.Add(step.at))
		if ping != step.ping || dead != step.dead || next != step.next {
			t.Errorf("at %v: ping %v, dead %v, next %v", step.at, ping, dead, next)
		}
	}
	if got := newWatchdog(1500 * time.Millisecond).interval; got != s {
		t.Errorf("pings are %v apart, want at least 1 s", got)
	}
}
