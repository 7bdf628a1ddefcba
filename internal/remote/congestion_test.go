package remote

import (
	"slices"
	"testing"
	"time"

	"github.com/pion/rtcp"
)

// told is what a sender reads in feedback: numbers and arrivals, 0 for those that did not arrive.
func told(t testing.TB, packet []byte) (numbers []uint16, at []time.Duration) {
	t.Helper()
	var cc rtcp.TransportLayerCC
	if err := cc.Unmarshal(packet); err != nil {
		t.Fatalf("%v: %x", err, packet)
	}
	now := time.Duration(cc.ReferenceTime) * 64 * time.Millisecond
	next := 0
	for _, chunk := range cc.PacketChunks {
		for _, symbol := range chunk.(*rtcp.StatusVectorChunk).SymbolList {
			if len(numbers) == int(cc.PacketStatusCount) {
				break
			}
			numbers = append(numbers, cc.BaseSequenceNumber+uint16(len(numbers)))
			if symbol == rtcp.TypeTCCPacketNotReceived {
				at = append(at, 0)
				continue
			}
			now += time.Duration(cc.RecvDeltas[next].Delta) * time.Microsecond
			at = append(at, now)
			next++
		}
	}
	if next != len(cc.RecvDeltas) {
		t.Errorf("%d deltas for %d packets", len(cc.RecvDeltas), next)
	}
	return numbers, at
}

func TestCongestionFeedbackTellsWhenPacketsArrived(t *testing.T) {
	const ms = time.Millisecond
	c := congestion{sender: 1}
	for _, a := range []struct {
		number uint16
		at     time.Duration
	}{{65534, 1000 * ms}, {65535, 1001 * ms}, {1, 1003 * ms}, {0, 1004 * ms}, {1, 1005 * ms}, {4, 1200 * ms}} {
		c.arrived(7, a.number, a.at)
	}
	numbers, at := told(t, c.feedback())
	if want := []uint16{65534, 65535, 0, 1, 2, 3, 4}; !slices.Equal(numbers, want) {
		t.Errorf("numbers %v", numbers)
	}
	if want := []time.Duration{1000 * ms, 1001 * ms, 1004 * ms, 1003 * ms, 0, 0, 1200 * ms}; !slices.Equal(at, want) {
		t.Errorf("arrivals %v", at)
	}
	if more := c.feedback(); more != nil {
		t.Errorf("then %x", more)
	}
	c.arrived(7, 3, 1210*ms) // it was told as lost
	c.arrived(7, 6, 1211*ms)
	if numbers, at := told(t, c.feedback()); !slices.Equal(numbers, []uint16{5, 6}) || at[0] != 0 || at[1] != 1211*ms {
		t.Errorf("next %v %v", numbers, at)
	}
}

func TestCongestionFeedbackIsSplitWhereItGrows(t *testing.T) {
	var c congestion
	want := map[uint16]time.Duration{}
	for i := range 3000 {
		number, at := uint16(i), time.Duration(i)*time.Millisecond
		if i > 1500 {
			number += 9000
		}
		c.arrived(7, number, at)
		want[number] = at
	}
	packets := 0
	for p := c.feedback(); p != nil; p = c.feedback() {
		packets++
		if len(p) > 1200 || len(p)%4 != 0 {
			t.Errorf("a packet of %d bytes", len(p))
		}
		numbers, at := told(t, p)
		for i, n := range numbers {
			if want[n] != at[i] {
				t.Fatalf("number %d arrived at %v, not at %v", n, at[i], want[n])
			}
			delete(want, n)
		}
	}
	if len(want) != 0 || packets > 10 {
		t.Errorf("%d numbers left out, %d packets", len(want), packets)
	}
}

func FuzzCongestionFeedback(f *testing.F) {
	f.Add([]byte{0, 1, 0, 0, 2, 5, 255, 255, 1, 0, 0, 200})
	f.Fuzz(func(t *testing.T, script []byte) {
		var c congestion
		var at time.Duration
		for ; len(script) >= 3; script = script[3:] {
			at += time.Duration(int8(script[2])) * 100 * time.Millisecond
			c.arrived(7, uint16(script[0])<<8|uint16(script[1]), max(at, 0))
		}
		for p := c.feedback(); p != nil; p = c.feedback() {
			if len(p) > 1200 {
				t.Errorf("%d bytes", len(p))
			}
			told(t, p)
		}
	})
}

func TestCongestionFeedbackAllocatesNothing(t *testing.T) {
	var c congestion
	number := uint16(0)
	if n := testing.AllocsPerRun(100, func() {
		for range 50 {
			number++
			c.arrived(7, number, time.Duration(number)*time.Millisecond)
		}
		if c.feedback() == nil {
			t.Fatal("no feedback")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
