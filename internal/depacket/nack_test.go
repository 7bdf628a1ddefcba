package depacket

import (
	"slices"
	"testing"
	"time"
)

// asked runs the scheduler every 20 ms over one hole and returns when it asks.
func asked(n *NACKGenerator, h Hole, window time.Duration) (times []time.Duration) {
	buffer := &JitterBuffer{window: window, missing: []Hole{h}}
	for now := h.since; now < h.since+window; now += 20 * ms {
		if len(n.Due(now, buffer, nil)) > 0 {
			times = append(times, now-h.since)
		}
	}
	return times
}

func TestMissingPacketsAreAskedForInRoundTrips(t *testing.T) {
	unknown := new(NACKGenerator)
	if got, want := asked(unknown, Hole{seq: 7}, 2*time.Second), []time.Duration{40 * ms, 240 * ms, 440 * ms, 840 * ms, 1640 * ms}; !slices.Equal(got, want) {
		t.Errorf("round trip unknown: asked at %v, want %v", got, want)
	}
	fast := &NACKGenerator{rtt: 30 * ms, deviation: 5 * ms}
	got := asked(fast, Hole{seq: 7}, 2*time.Second)
	if got[0] != 40*ms || got[1] != 100*ms || got[2] != 160*ms {
		t.Errorf("round trip of 30 ms: asked at %v", got)
	}
	if last := got[len(got)-1]; last < 1500*ms || len(got) > nackTries {
		t.Errorf("asked %d times, up to %v of a window of 2 s", len(got), last)
	}
	slow := &NACKGenerator{rtt: 900 * ms, deviation: 50 * ms}
	if got := asked(slow, Hole{seq: 7}, 2*time.Second); len(got) != 1 {
		t.Errorf("round trip of 900 ms: asked at %v; an answer to the second would be too late", got)
	}
}

func TestRoundTripIsLearnedFromAnswers(t *testing.T) {
	n := new(NACKGenerator)
	if n.Answered(Hole{since: 0}, 20*ms) {
		t.Error("a packet that was not asked for counts as recovered")
	}
	for range 50 {
		n.Answered(Hole{first: 100 * ms, asked: 100 * ms, tries: 1}, 180*ms)
	}
	if n.rtt < 75*ms || n.rtt > 85*ms || n.interval(1) > 120*ms {
		t.Errorf("round trip %v, interval %v", n.rtt, n.interval(1))
	}
	// A path slower than the first guess is learned, though each packet is asked for twice.
	n = new(NACKGenerator)
	for range 50 {
		n.Answered(Hole{first: 100 * ms, asked: 300 * ms, tries: 2}, 600*ms)
	}
	if n.interval(1) < 450*ms {
		t.Errorf("round trip of 500 ms taken for %v", n.rtt)
	}
}

func TestRequestsAreBounded(t *testing.T) {
	n := new(NACKGenerator)
	missing := make([]Hole, 3000)
	for i := range missing {
		missing[i].seq = int64(i)
	}
	buffer := &JitterBuffer{window: 2 * time.Second, missing: missing}
	buf := make([]uint16, 0, nackBatch)
	total := 0
	for now := time.Duration(0); now < 2*time.Second; now += 20 * ms {
		got := n.Due(now, buffer, buf[:0])
		if len(got) > nackBatch {
			t.Fatalf("%d packets asked for at once", len(got))
		}
		total += len(got)
	}
	if total > len(missing)*6 {
		t.Errorf("%d requests for %d packets", total, len(missing))
	}
	for i := range missing {
		missing[i] = Hole{seq: int64(i)}
	}
	if n := testing.AllocsPerRun(10, func() { n.Due(100*ms, buffer, buf[:0]) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// At once, every 500 ms, then by FIR; a camera that is off is asked more rarely.
func TestKeyFramesAreAskedForUntilOneComes(t *testing.T) {
	var k KeyFrames
	if k.Due(0) != NoRequest {
		t.Fatal("asked for without need")
	}
	k.Need()
	var plis, firs []time.Duration
	for now := time.Second; now < 20*time.Second; now += 20 * ms {
		k.Need() // the need lasts
		switch k.Due(now) {
		case PLI:
			plis = append(plis, now)
		case FIR:
			firs = append(firs, now)
		}
	}
	if want := []time.Duration{1000 * ms, 1500 * ms, 2000 * ms, 2500 * ms}; !slices.Equal(plis, want) {
		t.Errorf("PLI at %v, want %v", plis, want)
	}
	if firs[0] != 3000*ms || firs[1] != 3500*ms || len(firs) < 18 || len(firs) > 22 {
		t.Errorf("FIR at %v", firs)
	}
	k.Came()
	if k.Due(30*time.Second) != NoRequest {
		t.Error("asked for after it came")
	}
	k.Need()
	if k.Due(31*time.Second) != PLI {
		t.Error("a new need does not begin with a PLI at once")
	}
	k.Came()
	k.Need()
	k.Expect(31 * time.Second)
	if k.Due(31*time.Second+480*ms) != NoRequest || k.Due(31*time.Second+500*ms) != PLI {
		t.Error("one that is on its way is not waited for")
	}
	k.Came()
	k.asked = 31 * time.Second
	k.NeedAnother()
	if k.Due(31*time.Second+480*ms) != NoRequest || k.Due(31*time.Second+500*ms) != PLI {
		t.Error("another does not wait for 500 ms")
	}
	k.Came()
	k.Need()
	if k.Due(31*time.Second+520*ms) != PLI {
		t.Error("a new need waits, as another came a moment ago")
	}
}
