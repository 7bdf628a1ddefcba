package remote

import (
	"slices"
	"testing"
	"time"
)

func TestStreamIsAddedAndDelivered(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		sinks := forwardAll(w.peer)
		m := w.join()
		m.camera()
		wait(t, 5*time.Second, "media", func() bool {
			a, v := sinks("audio-1"), sinks("video-1")
			if len(a) != 1 || len(v) != 1 {
				return false
			}
			na, _, _ := a[0].counts()
			nv, _, _ := v[0].counts()
			return na > 50 && nv > 50
		})
		if got := w.seen.statesSeen(); !slices.Equal(got, []State{StateConnecting, StateConnected}) {
			t.Errorf("states: %v", got)
		}
		added := seen[StreamAdded](w.seen)
		if len(added) != 1 || added[0].Stream.ID() != "stream-1" || string(added[0].Metadata) != `{"role":"camera"}` {
			t.Errorf("stream added: %+v", added)
		}
		if errs := m.failures(); len(errs) > 0 {
			t.Errorf("publisher: %v", errs)
		}
	})
}
