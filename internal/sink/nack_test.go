package sink

import (
	"slices"
	"testing"
	"time"
)

// asked runs the scheduler every 20 ms over one hole and returns when it asks.
func asked(n *nacker, h hole, window time.Duration) (times []time.Duration) {
	missing := []hole{h}
	for now := h.since; now < h.since+window; now += 20 * ms {
		if len(n.due(now, window, missing, nil)) > 0 {
			times = append(times, now-h.since)
		}
	}
	return times
}

func TestMissingPacketsAreAskedForInRoundTrips(t *testing.T) {
	unknown := new(nacker)
	if got, want := asked(unknown, hole{seq: 7}, 2*time.Second), []time.Duration{40 * ms, 240 * ms, 440 * ms, 840 * ms, 1640 * ms}; !slices.Equal(got, want) {
		t.Errorf("round trip unknown: asked at %v, want %v", got, want)
	}
	fast := &nacker{rtt: 30 * ms, deviation: 5 * ms}
	got := asked(fast, hole{seq: 7}, 2*time.Second)
	if got[0] != 40*ms || got[1] != 100*ms || got[2] != 160*ms {
		t.Errorf("round trip of 30 ms: asked at %v", got)
	}
	if last := got[len(got)-1]; last < 1500*ms || len(got) > nackTries {
		t.Errorf("asked %d times, up to %v of a window of 2 s", len(got), last)
	}
	slow := &nacker{rtt: 900 * ms, deviation: 50 * ms}
	if got := asked(slow, hole{seq: 7}, 2*time.Second); len(got) != 1 {
		t.Errorf("round trip of 900 ms: asked at %v; an answer to the second would be too late", got)
	}
}

func TestRoundTripIsLearnedFromAnswers(t *testing.T) {
	n := new(nacker)
	if n.answered(hole{since: 0}, 20*ms) {
		t.Error("a packet that was not asked for counts as recovered")
	}
	for range 50 {
		n.answered(hole{first: 100 * ms, asked: 100 * ms, tries: 1}, 180*ms)
	}
	if n.rtt < 75*ms || n.rtt > 85*ms || n.interval(1) > 120*ms {
		t.Errorf("round trip %v, interval %v", n.rtt, n.interval(1))
	}
	// A path slower than the first guess is learned, though each packet is asked for twice.
	n = new(nacker)
	for range 50 {
		n.answered(hole{first: 100 * ms, asked: 300 * ms, tries: 2}, 600*ms)
	}
	if n.interval(1) < 450*ms {
		t.Errorf("round trip of 500 ms taken for %v", n.rtt)
	}
}

// Over a path that takes 50 ms there and back and loses one packet in twenty, requests are as many as the losses, those of
// packets that are sent again included: the twentieth of a twentieth, and so on, are 1.053.
func TestALostPacketIsAskedForOnce(t *testing.T) {
	for _, w := range []weather{
		{name: "loss", loss: 0.05, answered: true, back: linkDelay},
		{name: "bursts", loss: 0.05, burst: 4, answered: true, back: linkDelay},
		{name: "loss, reorder, duplicates", loss: 0.05, reorder: 30 * ms, duplicate: 0.05, answered: true, back: linkDelay},
	} {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			m := videoMedia(t)[0]
			var l *link
			r := record(t, m, Options{}, func(_ *Stream, track *Track) {
				l = newLink(w, 3)
				l.to = newSource(track, SourceInfo{Feedback: l}, map[uint8]Format{96: m.format})
				go l.run()
				m.play(l, 60)
				time.Sleep(3 * time.Second)
				l.to.Close()
				close(l.stop)
			})
			ratio := float64(l.asked) / float64(l.lost)
			t.Logf("%d packets asked for, %d lost: %.3f", l.asked, l.lost, ratio)
			if r.track.Ledger.Lost > 0 {
				t.Errorf("%d packets lost for good", r.track.Ledger.Lost)
			}
			if ratio > 1.1 {
				t.Errorf("%.3f requests for each lost packet", ratio)
			}
		})
	}
}

func TestRequestsAreBounded(t *testing.T) {
	n := new(nacker)
	missing := make([]hole, 3000)
	for i := range missing {
		missing[i].seq = int64(i)
	}
	buf := make([]uint16, 0, nackBatch)
	total := 0
	for now := time.Duration(0); now < 2*time.Second; now += 20 * ms {
		got := n.due(now, 2*time.Second, missing, buf[:0])
		if len(got) > nackBatch {
			t.Fatalf("%d packets asked for at once", len(got))
		}
		total += len(got)
	}
	if total > len(missing)*6 {
		t.Errorf("%d requests for %d packets", total, len(missing))
	}
	for i := range missing {
		missing[i] = hole{seq: int64(i)}
	}
	if n := testing.AllocsPerRun(10, func() { n.due(100*ms, 2*time.Second, missing, buf[:0]) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// At once, every 500 ms, then by FIR; a camera that is off is asked more rarely.
func TestKeyFramesAreAskedForUntilOneComes(t *testing.T) {
	var k keyFrames
	if k.due(0) != noRequest {
		t.Fatal("asked for without need")
	}
	k.need()
	var plis, firs []time.Duration
	for now := time.Second; now < 20*time.Second; now += 20 * ms {
		k.need() // the need lasts
		switch k.due(now) {
		case pli:
			plis = append(plis, now)
		case fir:
			firs = append(firs, now)
		}
	}
	if want := []time.Duration{1000 * ms, 1500 * ms, 2000 * ms, 2500 * ms}; !slices.Equal(plis, want) {
		t.Errorf("PLI at %v, want %v", plis, want)
	}
	if firs[0] != 3000*ms || firs[1] != 3500*ms || len(firs) < 18 || len(firs) > 22 {
		t.Errorf("FIR at %v", firs)
	}
	k.came()
	if k.due(30*time.Second) != noRequest {
		t.Error("asked for after it came")
	}
	k.need()
	if k.due(31*time.Second) != pli {
		t.Error("a new need does not begin with a PLI at once")
	}
	k.came()
	k.need()
	k.expect(31 * time.Second)
	if k.due(31*time.Second+480*ms) != noRequest || k.due(31*time.Second+500*ms) != pli {
		t.Error("one that is on its way is not waited for")
	}
	k.came()
	k.asked = 31 * time.Second
	k.needAnother()
	if k.due(31*time.Second+480*ms) != noRequest || k.due(31*time.Second+500*ms) != pli {
		t.Error("another does not wait for 500 ms")
	}
	k.came()
	k.need()
	if k.due(31*time.Second+520*ms) != pli {
		t.Error("a new need waits, as another came a moment ago")
	}
}
