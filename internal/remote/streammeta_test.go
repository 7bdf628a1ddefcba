package remote

import (
	"testing"

	"github.com/pion/webrtc/v4"
)

func TestReplaceTrackKeepsTheTrackAndFollowsItsMetadata(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		track := w.peer.Streams()[0].VideoTracks()[0]
		m.meta("video-1", "")
		m.meta("video-new", `{"role":"camera","facing":"back"}`)
		settle()
		w.seen.expect(t)
		if got := string(track.Metadata()); got != `{"role":"camera","facing":"back"}` {
			t.Errorf("metadata: %s", got)
		}
		if !flows(sinks("video-1")[0]) {
			t.Error("the track stopped")
		}
	})
}

func TestATrackWithoutMetadataDoesNotTakeThatOfItsNeighbour(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		m := w.join()
		m.meta("labelled", `{"role":"screen"}`)
		m.add("a", "bare", webrtc.MimeTypeOpus)
		m.add("b", "labelled", webrtc.MimeTypeVP8)
		m.offer(false)
		settle()
		w.seen.expect(t, "track bare[a]", "stream+ a", `track labelled[b]{"role":"screen"}`, `stream+ b{"role":"screen"}`)
	})
}

func TestMetadataAfterItsTrackIsReadFresh(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		m := w.join()
		m.add("s", "t", webrtc.MimeTypeVP8)
		m.offer(false)
		settle()
		w.seen.expect(t, "track t[s]", "stream+ s")
		m.meta("t", `{"role":"screen"}`)
		settle()
		s := w.peer.Streams()[0]
		if string(s.Metadata()) != `{"role":"screen"}` || string(s.Tracks()[0].Metadata()) != `{"role":"screen"}` {
			t.Errorf("metadata: %s", s.Metadata())
		}
		m.meta("t", "")
		settle()
		if s.Metadata() != nil {
			t.Errorf("metadata after it was cleared: %s", s.Metadata())
		}
		w.seen.expect(t)
	})
}
