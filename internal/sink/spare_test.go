package sink

import (
	"testing"

	"recorder/internal/container"
)

func TestSpareBuffersAreBounded(t *testing.T) {
	var l spareList
	if l.get(container.VP8) != nil {
		t.Error("a buffer from nowhere")
	}
	l.put(container.VP8, make([]byte, maxSpare+1)) // a stall made it that large
	for i := range 2 * maxSpares {
		l.put(container.VP8, make([]byte, i)) // the first holds nothing
	}
	if b := l.get(container.Opus); b != nil {
		t.Errorf("sound got a buffer of %d bytes of pictures", cap(b))
	}
	n := 0
	for b := l.get(container.VP8); b != nil; b = l.get(container.VP8) {
		if len(b) != 0 || cap(b) == 0 || cap(b) > maxSpare {
			t.Errorf("a buffer of %d of %d bytes", len(b), cap(b))
		}
		n++
	}
	if n != maxSpares {
		t.Errorf("%d were kept", n)
	}
}

// When the process was not run for a moment every file has more to write at once. The buffers that
// grew then are given back, whatever else goes round.
func TestBuffersThatABurstMadeLargeAreGivenBack(t *testing.T) {
	for name, usual := range map[string][]int{
		"alike":        {125_000},
		"different":    {125_000, 12_000},
		"mostly small": {125_000, 6_000, 6_000, 6_000},
		"tiny":         {900},
	} {
		t.Run(name, func(t *testing.T) {
			var l spareList
			bufs := make([][]byte, 20)
			allocated := 0 // buffers
			second := func(part float64) {
				for i := range bufs {
					for range 30 {
						bufs[i] = append(bufs[i], make([]byte, int(float64(usual[i%len(usual)])*part/30))...)
					}
				}
				for i, b := range bufs {
					if bufs[i] = l.get(container.VP8); bufs[i] == nil {
						allocated++
					}
					l.put(container.VP8, b)
				}
			}
			held := func() (sum int) {
				for _, b := range append(bufs, l.free[container.VP8]...) {
					sum += cap(b)
				}
				return sum
			}
			for range 30 {
				second(1)
			}
			before := held()
			allocated = 0
			for range 10 {
				second(1)
			}
			if allocated > 0 {
				t.Errorf("%d buffers are allocated in 10 s of which each is like the last", allocated)
			}
			for range 5 {
				second(2.5)
				second(0.4)
				second(1)
			}
			for range 5 {
				second(1)
			}
			if after := held(); after > max(before*5/4, (len(bufs)+maxSpares)*smallSpare) {
				t.Errorf("%d bytes are held after bursts, %d before", after, before)
			}
		})
	}
}
