package remote

import (
	"testing"
	"time"

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

// The metadata of a track comes a moment before its offer.
func TestATrackWithoutMetadataDoesNotTakeThatOfOneToCome(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		m := w.join()
		m.add("cam", "cam-video", webrtc.MimeTypeVP8)
		m.offer(false)
		settle()
		camera := w.peer.Streams()[0]
		unlabelled := func() {
			t.Helper()
			if got := camera.Metadata(); got != nil {
				t.Fatalf("the camera is labelled %s", got)
			}
		}
		m.meta("screen-video", `{"role":"screen"}`)
		settle()
		unlabelled()
		m.add("screen", "screen-video", webrtc.MimeTypeVP8)
		m.offer(false)
		settle()
		unlabelled()
		w.seen.expect(t, "track cam-video[cam]", "stream+ cam", `track screen-video[screen]{"role":"screen"}`, `stream+ screen{"role":"screen"}`)
	})
}

// A camera is turned off by sending no track in its place; what is shared next is no successor.
func TestATrackThatLostItsMetadataDoesNotTakeThatOfOneToCome(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		m := w.join()
		m.meta("cam-video", `{"role":"camera"}`)
		m.add("cam", "cam-video", webrtc.MimeTypeVP8)
		m.offer(false)
		settle()
		camera := w.peer.Streams()[0]
		m.meta("cam-video", "")
		m.meta("screen-video", `{"role":"screen"}`)
		for range 20 {
			time.Sleep(10 * time.Millisecond)
			if got := camera.Metadata(); got != nil {
				t.Fatalf("the camera is labelled %s", got)
			}
		}
		m.add("screen", "screen-video", webrtc.MimeTypeVP8)
		m.offer(false)
		settle()
		if got := camera.Metadata(); got != nil {
			t.Errorf("the camera is labelled %s", got)
		}
		m.meta("cam-again", `{"role":"camera","again":true}`)
		settle()
		if got := string(camera.Metadata()); got != `{"role":"camera","again":true}` {
			t.Errorf("the camera that is on again is labelled %s", got)
		}
	})
}

func TestMetadataAfterItsTrackIsMatchedByStream(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, _ func(string) []*sinkhole) {
		m.meta("audio-1", "")
		m.meta("video-1", "")
		m.remove("audio-1")
		m.remove("video-1")
		m.offer(false)
		settle()
		m.add("stream-1", "random-v", webrtc.MimeTypeVP8)
		m.offer(false)
		settle()
		w.seen.expect(t, "stream- stream-1", "track random-v[stream-1]", "stream+ stream-1")
		m.meta("video-1", `{"role":"camera"}`)
		settle()
		if got := string(w.peer.Streams()[0].Metadata()); got != `{"role":"camera"}` {
			t.Errorf("metadata: %s", got)
		}
	})
}
