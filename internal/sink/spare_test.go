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
	l.put(container.VP8, make([]byte, 0, maxSpare+1)) // a stall made it that large
	for i := range 2 * maxSpares {
		l.put(container.VP8, make([]byte, 0, i)) // the first holds nothing
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
