package depacket

import (
	"slices"
	"testing"
	"time"
)

func testPacket(seq uint16, at time.Duration) *Packet {
	p := NewPacket()
	p.SequenceNumber, p.Arrival, p.Timestamp = seq, at, uint32(seq)*960
	p.Raw = append(p.Raw, byte(seq))
	p.Payload = p.Raw
	return p
}

// feed pushes packets that arrive 10 ms apart, taking what is released after each.
type released struct {
	seqs []uint16
	lost int
}

func (r *released) drain(w *JitterBuffer, now time.Duration, force bool) {
	for w.Front(now, force) != nil {
		p, lost := w.Take()
		r.seqs = append(r.seqs, p.SequenceNumber)
		r.lost += lost
		p.Free()
	}
}

func TestPacketsAreReleasedInSequence(t *testing.T) {
	tests := []struct {
		name string
		in   []uint16
		want []uint16
		lost int
	}{
		{"in order", []uint16{5, 6, 7}, []uint16{5, 6, 7}, 0},
		{"swapped", []uint16{5, 7, 6, 8}, []uint16{5, 6, 7, 8}, 0},
		{"first two swapped", []uint16{6, 5, 7}, []uint16{6, 7}, 0},
		{"across the wrap", []uint16{65534, 65535, 0, 1}, []uint16{65534, 65535, 0, 1}, 0},
		{"swapped across the wrap", []uint16{65534, 0, 65535, 1}, []uint16{65534, 65535, 0, 1}, 0},
		{"duplicates", []uint16{5, 5, 6, 5, 6, 7}, []uint16{5, 6, 7}, 0},
		{"duplicate of one that is held", []uint16{5, 7, 7, 6}, []uint16{5, 6, 7}, 0},
		{"one lost", []uint16{5, 7, 8}, []uint16{5, 7, 8}, 1},
		{"some lost across the wrap", []uint16{65533, 2, 3}, []uint16{65533, 2, 3}, 4},
		{"a hole and another behind it", []uint16{5, 7, 9, 8}, []uint16{5, 7, 8, 9}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := JitterBuffer{window: 2 * time.Second, maxBytes: 1 << 20}
			var got released
			var now time.Duration
			for _, seq := range tt.in {
				if p := testPacket(seq, now); !taken(w.Push(p)) {
					p.Free()
				}
				got.drain(&w, now, false)
				now += 10 * ms
			}
			got.drain(&w, now+3*time.Second, false)
			if !slices.Equal(got.seqs, tt.want) || got.lost != tt.lost {
				t.Errorf("released %v, %d lost; want %v, %d", got.seqs, got.lost, tt.want, tt.lost)
			}
			if w.bytes != 0 || len(w.missing) != 0 {
				t.Errorf("%d bytes and %d holes left", w.bytes, len(w.missing))
			}
		})
	}
}

func taken(a Outcome, _ Hole) bool { return a == InOrder || a == Filled }

// While nothing was released, as the clock is not known yet, the first packets may still be sorted.
func TestFirstPacketsAreSortedBeforeAnyIsReleased(t *testing.T) {
	w := JitterBuffer{window: 2 * time.Second, maxBytes: 1 << 20}
	for _, seq := range []uint16{2, 5, 65534, 3, 65535, 1, 4, 0} {
		if !taken(w.Push(testPacket(seq, 0))) {
			t.Fatalf("packet %d refused", seq)
		}
	}
	var got released
	got.drain(&w, 0, false)
	if want := []uint16{65534, 65535, 0, 1, 2, 3, 4, 5}; !slices.Equal(got.seqs, want) {
		t.Errorf("released %v, want %v", got.seqs, want)
	}
}

// A hole is waited for as long as the window, and no longer; what comes later is refused, and told
// from a duplicate.
func TestHoleIsGivenUpWhenTheWindowEnds(t *testing.T) {
	w := JitterBuffer{window: 2 * time.Second, maxBytes: 1 << 20}
	var got released
	w.Push(testPacket(10, 0))
	w.Push(testPacket(12, 100*ms))
	got.drain(&w, 2099*ms, false)
	if len(got.seqs) != 1 {
		t.Fatalf("released %v before the window's end", got.seqs)
	}
	got.drain(&w, 2100*ms, false)
	if len(got.seqs) != 2 || got.lost != 1 {
		t.Fatalf("released %v, %d lost", got.seqs, got.lost)
	}
	if a, _ := w.Push(testPacket(11, 2101*ms)); a != TooLate {
		t.Errorf("late packet is %v", a)
	}
	if a, _ := w.Push(testPacket(12, 2101*ms)); a != Duplicate {
		t.Errorf("duplicate is %v", a)
	}
}

// The window is bounded in bytes, too.
func TestWindowIsBoundedInBytes(t *testing.T) {
	w := JitterBuffer{window: time.Hour, maxBytes: 100}
	w.Push(testPacket(0, 0))
	for seq := uint16(2); seq < 200; seq++ {
		w.Push(testPacket(seq, 0))
	}
	var got released
	got.drain(&w, 0, false)
	if got.lost != 1 || len(got.seqs) != 199 {
		t.Errorf("released %d packets, %d lost", len(got.seqs), got.lost)
	}
}

// A sequence number out of all proportion does not make thousands of holes.
func TestFarSequenceNumberIsAstray(t *testing.T) {
	w := JitterBuffer{window: time.Second, maxBytes: 1 << 20}
	w.Push(testPacket(100, 0))
	for _, seq := range []uint16{100 + 20000, 100 + 3100, 65536 - 20000} {
		if a, _ := w.Push(testPacket(seq, 0)); a != Astray {
			t.Errorf("packet %d is %v", seq, a)
		}
	}
	if len(w.missing) != 0 {
		t.Errorf("%d holes", len(w.missing))
	}
}

// Whatever arrives, what is released is ascending, was pushed, and nothing is held for ever.
func FuzzReorder(f *testing.F) {
	f.Add([]byte{0, 1, 2, 5, 4, 3, 250, 1})
	f.Add([]byte{1, 1, 255, 127, 128, 9, 200, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		w := JitterBuffer{window: 50 * ms, maxBytes: 64}
		last, known := int64(0), false
		var now time.Duration
		var seq uint16
		pushed, out, lost := 0, 0, 0
		drain := func(force bool) {
			for w.Front(now, force) != nil {
				p, n := w.Take()
				if known && p.seq != last+1+int64(n) {
					t.Fatalf("packet %d after %d with %d lost", p.seq, last, n)
				}
				last, known = p.seq, true
				out++
				lost += n
				p.Free()
			}
		}
		for _, c := range b {
			seq += uint16(int8(c)) * uint16(1+c%7)
			p := testPacket(seq, now)
			if taken(w.Push(p)) {
				pushed++
			} else {
				p.Free()
			}
			now += time.Duration(c) * time.Millisecond / 8
			if c%3 > 0 {
				drain(false)
			}
		}
		drain(true)
		if out != pushed {
			t.Fatalf("%d packets taken, %d released", pushed, out)
		}
		if w.bytes != 0 || len(w.missing) != 0 {
			t.Fatalf("%d bytes and %d holes left", w.bytes, len(w.missing))
		}
	})
}

// A sender may have thousands of packets missing at once. Giving them up takes as long as there are
// many, not as there are many times as many.
func TestGivingUpIsLinear(t *testing.T) {
	cost := func(holes int) time.Duration {
		best := time.Hour
		for range 200 {
			w := JitterBuffer{window: time.Second, maxBytes: 1 << 20}
			w.Push(testPacket(0, 0))
			w.Take()
			for seq := 0; seq < holes; {
				seq += min(holes-seq, maxDropout-1)
				w.Push(testPacket(uint16(seq), 0))
			}
			from := time.Now()
			for w.Front(0, true) != nil {
				p, _ := w.Take()
				p.Free()
			}
			best = min(best, time.Since(from))
		}
		return best
	}
	// Eight times as many take ten times as long, and took more than a hundred times as long.
	if few, many := cost(1000), cost(8000); many > 50*few {
		t.Errorf("giving up 1000 packets takes %v, 8000 of them %v", few, many)
	}
}
