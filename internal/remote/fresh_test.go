package remote

import (
	"slices"
	"testing"

	"recorder/internal/event"
)

func TestAccessorsAreFreshBeforeEventsFire(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		fired := 0
		event.Subscribe(w.peer, func(e Event) {
			fired++
			switch e := e.(type) {
			case StateChange:
				if got := w.peer.State(); got != e.To {
					t.Errorf("%v: the peer is %v", e, got)
				}
			case TrackAdded:
				for _, s := range e.Streams {
					if !slices.Contains(s.Tracks(), e.Track) {
						t.Errorf("track %s is not in stream %s", e.Track.ID(), s.ID())
					}
				}
			case StreamAdded:
				if !slices.Contains(w.peer.Streams(), e.Stream) {
					t.Errorf("stream %s is not the peer's", e.Stream.ID())
				}
			case StreamRemoved:
				if slices.Contains(w.peer.Streams(), e.Stream) || len(e.Stream.Tracks()) > 0 {
					t.Errorf("stream %s is still there", e.Stream.ID())
				}
			}
		})
		m := w.join()
		m.camera()
		settle()
		w.peer.SignalingLost()
		settle()
		w.peer.SignalingRestored("bot", nil)
		settle()
		m.remove("audio-1")
		m.remove("video-1")
		m.offer(false)
		settle()
		// connecting, connected, reconnecting, connected; two tracks of a stream, which comes and goes
		if fired < 8 {
			t.Errorf("only %d events fired", fired)
		}
	})
}

func TestAStreamIsRemovedOnce(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, _ func(string) []*sinkhole) {
		m.remove("audio-1")
		m.remove("video-1")
		m.offer(false) // the description says so
		settle()
		m.close() // and so does the end of the connection
		settle()
		w.peer.Close(CauseLeft)
		<-w.peer.Done()
		settle()
		w.seen.expect(t, "stream- stream-1")
	})
}
