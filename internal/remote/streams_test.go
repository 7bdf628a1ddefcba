package remote

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/webrtc/v4"

	"recorder/internal/event"
)

// inSection edits the m-line with a mid; an empty result removes it.
func inSection(mid string, edit func(string) string) func(string) string {
	return func(sdp string) string {
		parts := strings.Split(sdp, "\r\nm=")
		for i, part := range parts {
			if i > 0 && strings.Contains(part, "\r\na=mid:"+mid+"\r\n") {
				parts[i] = edit(part)
			}
		}
		kept := slices.DeleteFunc(parts, func(p string) bool { return p == "" })
		return strings.TrimSuffix(strings.Join(kept, "\r\nm="), "\r\n") + "\r\n"
	}
}

func replacing(pairs ...string) func(string) string {
	return strings.NewReplacer(pairs...).Replace
}

func both(edits ...func(string) string) func(string) string {
	return func(s string) string {
		for _, edit := range edits {
			s = edit(s)
		}
		return s
	}
}

// describe lists events shortly: +track id[streams] added, +stream, -stream.
func describe(events []Event) (list []string) {
	for _, e := range events {
		switch e := e.(type) {
		case TrackAdded:
			var ids []string
			for _, s := range e.Streams {
				ids = append(ids, s.ID())
			}
			list = append(list, fmt.Sprintf("track %s%v%s", e.Track.ID(), ids, e.Metadata))
		case StreamAdded:
			list = append(list, fmt.Sprintf("stream+ %s%s", e.Stream.ID(), e.Metadata))
		case StreamRemoved:
			list = append(list, "stream- "+e.Stream.ID())
		case NegotiationError:
			list = append(list, "error "+e.Err.Error())
		}
	}
	return list
}

// expect checks what happened since the last call.
func (r *recorder) expect(t *testing.T, want ...string) {
	t.Helper()
	r.mu.Lock()
	got := describe(r.events[r.checked:])
	r.checked = len(r.events)
	r.mu.Unlock()
	if !slices.Equal(got, want) {
		t.Errorf("events:\n  got  %q\n  want %q", got, want)
	}
}

// settle lets the two sides talk until nothing is on its way.
func settle() {
	time.Sleep(2 * time.Second)
	synctest.Wait()
}

const (
	cameraAudio  = `track audio-1[stream-1]{"role":"camera"}`
	cameraVideo  = `track video-1[stream-1]{"role":"camera"}`
	cameraStream = `stream+ stream-1{"role":"camera"}`
)

// withCamera runs f once the camera is up and its first events were checked.
func withCamera(t *testing.T, f func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole)) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		sinks := forwardAll(w.peer)
		m := w.join()
		m.camera()
		settle()
		w.seen.expect(t, cameraAudio, cameraStream, cameraVideo)
		f(t, w, m, sinks)
		if errs := m.failures(); len(errs) > 0 {
			t.Errorf("publisher: %v", errs)
		}
	})
}

// flows reports whether a sink still gets packets.
func flows(s *sinkhole) bool {
	before, _, _ := s.counts()
	time.Sleep(200 * time.Millisecond)
	after, _, _ := s.counts()
	return after > before
}

func TestStreamAddedFiresAtTheFirstTrackWithAllTracksInPlace(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		var audio, video int
		event.Subscribe(w.peer, func(e StreamAdded) {
			audio, video = len(e.Stream.AudioTracks()), len(e.Stream.VideoTracks())
		})
		w.join().camera()
		settle()
		if audio != 1 || video != 1 {
			t.Errorf("%d audio and %d video tracks", audio, video)
		}
		if s := w.peer.Streams(); len(s) != 1 || len(s[0].Tracks()) != 2 {
			t.Errorf("streams: %v", s)
		}
	})
}

func TestTracksAreKnownBeforeTheTransportIsUp(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		w.losing(func(kind string) bool { return kind != "answer" })
		w.hideCandidates()
		m := w.join()
		m.out = func(f func(any)) func(any) {
			return func(p any) {
				if s, ok := p.(candidateSignal); !ok || s.Candidate == nil {
					f(p)
				}
			}
		}(m.out)
		m.camera()
		settle()
		w.seen.expect(t, cameraAudio, cameraStream, cameraVideo)
		if w.peer.State() != StateConnecting {
			t.Errorf("state: %v", w.peer.State())
		}
	})
}

func TestTrackWithoutStreamIsUnaffiliated(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		sinks := forwardAll(w.peer)
		m := w.join()
		m.add("x", "lonely", webrtc.MimeTypeOpus)
		m.offerEdited(false, replacing("x lonely", "- lonely"))
		settle()
		w.seen.expect(t, "track lonely[]")
		if len(w.peer.Streams()) != 0 || !flows(sinks("lonely")[0]) {
			t.Errorf("streams: %v", w.peer.Streams())
		}
		m.remove("lonely")
		m.offer(false)
		settle()
		w.seen.expect(t)
	})
}

func TestTrackWithoutMsidIsNamedAfterItsLine(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		m := w.join()
		m.add("x", "y", webrtc.MimeTypeOpus)
		m.offerEdited(false, func(sdp string) string {
			lines := strings.Split(sdp, "\r\n")
			return strings.Join(slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(l, "msid:") }), "\r\n")
		})
		settle()
		w.seen.expect(t, "track mid:0[]")
	})
}

func TestTrackMayBelongToSeveralStreams(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		m := w.join()
		m.add("a", "t", webrtc.MimeTypeVP8)
		m.offerEdited(false, replacing("a=msid:a t", "a=msid:a t\r\na=msid:b t"))
		settle()
		w.seen.expect(t, "track t[a b]", "stream+ a", "stream+ b")
		m.remove("t")
		m.offer(false)
		settle()
		w.seen.expect(t, "stream- a", "stream- b")
	})
}

func TestRemovedTrackLeavesItsStreamAndTheLastOneRemovesIt(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		// As Chromium does: the line stays, recvonly, with its msid.
		left := func(track string) func(string) string {
			return replacing("\r\na=recvonly", "\r\na=recvonly\r\na=msid:stream-1 "+track)
		}
		m.remove("video-1")
		m.offerEdited(false, inSection("1", left("video-1")))
		settle()
		w.seen.expect(t)
		if s := w.peer.Streams(); len(s) != 1 || len(s[0].VideoTracks()) != 0 {
			t.Errorf("streams: %v", s)
		}
		if _, _, closed := sinks("video-1")[0].counts(); closed != 1 {
			t.Errorf("writer was closed %d times", closed)
		}
		if !flows(sinks("audio-1")[0]) {
			t.Error("the other track stopped")
		}
		m.remove("audio-1")
		m.offerEdited(false, both(inSection("0", left("audio-1")), inSection("1", left("video-1"))))
		settle()
		w.seen.expect(t, "stream- stream-1")
		if len(w.peer.Streams()) != 0 {
			t.Errorf("streams: %v", w.peer.Streams())
		}
	})
}

func TestAStreamAddedAgainDeliversAgain(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		m.meta("audio-1", "")
		m.meta("video-1", "")
		m.remove("audio-1")
		m.remove("video-1")
		m.offer(false)
		settle()
		w.seen.expect(t, "stream- stream-1")
		// The original ids in the metadata, new ones in the description.
		m.meta("audio-1", `{"role":"camera"}`)
		m.meta("video-1", `{"role":"camera"}`)
		m.add("stream-1", "random-a", webrtc.MimeTypeOpus)
		m.add("stream-1", "random-v", webrtc.MimeTypeVP8)
		m.offer(false)
		settle()
		w.seen.expect(t, `track random-a[stream-1]{"role":"camera"}`, cameraStream, `track random-v[stream-1]{"role":"camera"}`)
		if !flows(sinks("random-a")[0]) || !flows(sinks("random-v")[0]) {
			t.Error("the stream does not deliver")
		}
	})
}

func TestASecondStreamIsAddedByRenegotiation(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		m.meta("screen-v", `{"role":"screen"}`)
		m.add("screen", "screen-v", webrtc.MimeTypeVP8)
		m.offer(false)
		settle()
		w.seen.expect(t, `track screen-v[screen]{"role":"screen"}`, `stream+ screen{"role":"screen"}`)
		if !flows(sinks("screen-v")[0]) || !flows(sinks("video-1")[0]) {
			t.Error("not all tracks deliver")
		}
		if got := seen[StateChange](w.seen); len(got) != 2 {
			t.Errorf("state changes: %v", got)
		}
		m.remove("screen-v")
		m.offer(false)
		settle()
		w.seen.expect(t, "stream- screen")
	})
}

func TestAStoppedTransceiverEndsItsTrack(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		m.remove("audio-1")
		m.remove("video-1")
		m.offerEdited(false, both(
			inSection("0", replacing("\r\na=recvonly", "\r\na=inactive")),
			inSection("1", replacing("video 9", "video 0", "\r\na=recvonly", "\r\na=inactive")),
			replacing("BUNDLE 0 1", "BUNDLE 0")))
		settle()
		w.seen.expect(t, "stream- stream-1")
	})
}

func TestALineThatIsGoneEndsItsTrack(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		l := m.pc.LocalDescription().SDP
		w.losing(func(string) bool { return true }) // what follows is a conversation with nobody
		l = both(inSection("1", func(string) string { return "" }), replacing("BUNDLE 0 1", "BUNDLE 0"))(l)
		m.out(descriptionSignal{"rtc-description", sdpEnvelope{"offer", l}})
		settle()
		w.seen.expect(t)
		if s := w.peer.Streams(); len(s) != 1 || len(s[0].Tracks()) != 1 {
			t.Errorf("streams: %v", s)
		}
	})
}

// A sender that pauses with direction "inactive" gets the same track back as
// a new one; pion would leave it dead.
func TestDirectionChangesEndAndAddTheTrack(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		inactive := inSection("1", replacing("\r\na=sendrecv", "\r\na=inactive"))
		for range 3 { // inactive over several offers
			m.offerEdited(false, inactive)
			settle()
		}
		w.seen.expect(t)
		m.offer(false)
		settle()
		w.seen.expect(t, cameraVideo)
		if s := sinks("video-1"); len(s) != 2 || !flows(s[1]) {
			t.Error("the track does not deliver again")
		}
		m.offerEdited(false, replacing("\r\na=sendrecv", "\r\na=recvonly"))
		settle()
		w.seen.expect(t, "stream- stream-1")
		m.offerEdited(false, replacing("\r\na=sendrecv", "\r\na=sendonly"))
		settle()
		w.seen.expect(t, cameraAudio, cameraStream, cameraVideo)
		if s := sinks("audio-1"); len(s) != 2 || !flows(s[1]) {
			t.Error("the track does not deliver again")
		}
	})
}

// A line that goes on sending keeps its track even under another track id,
// and its metadata may come under either.
func TestATrackThatGoesOnKeepsItsID(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		track := w.peer.Streams()[0].VideoTracks()[0]
		m.meta("video-2", `{"role":"second"}`)
		m.offerEdited(false, replacing("stream-1 video-1", "stream-1 video-2"))
		settle()
		w.seen.expect(t)
		if track.ID() != "video-1" || string(track.Metadata()) != `{"role":"second"}` || !flows(sinks("video-1")[0]) {
			t.Errorf("track %q with %s", track.ID(), track.Metadata())
		}
	})
}

// JSEP lets a rejected line be used again, under a new mid and even for
// another kind.
func TestAReusedLineIsAnotherTrack(t *testing.T) {
	withLink(t, func(l *link) {
		answered := func(sdp string) []string {
			t.Helper()
			_, events, err := l.answer(parsed(t, sdp))
			must(t, err)
			return describe(events)
		}
		audio := opusLine + "a=sendrecv\na=msid:s a\na=ssrc:1 cname:x\n"
		if got := answered(offerText(audio, videoLine+"a=sendrecv\na=msid:s v\na=ssrc:2 cname:x\n")); !slices.Equal(got, []string{"track a[s]", "stream+ s", "track v[s]"}) {
			t.Errorf("first: %q", got)
		}
		rename := replacing("a=mid:1\r\n", "a=mid:7\r\n", "BUNDLE 0 1", "BUNDLE 0 7")
		if got := answered(rename(offerText(audio, opusLine+"a=sendrecv\na=msid:other b\na=ssrc:3 cname:x\n"))); !slices.Equal(got, []string{"track b[other]", "stream+ other"}) {
			t.Errorf("line 1 with another kind: %q", got)
		}
		if got := answered(rename(offerText(audio, opusLine+"a=inactive\n"))); !slices.Equal(got, []string{"stream- other"}) {
			t.Errorf("line 1 inactive: %q", got)
		}
	})
}

func TestAMovedTrackChangesStreamsAndStaysTheSame(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		before := w.peer.Streams()[0].VideoTracks()[0]
		m.offerEdited(false, replacing("stream-1 video-1", "stream-2 video-1"))
		settle()
		w.seen.expect(t, `track video-1[stream-2]{"role":"camera"}`, `stream+ stream-2{"role":"camera"}`)
		streams := w.peer.Streams()
		if len(streams) != 2 || streams[1].Tracks()[0] != before || len(streams[0].Tracks()) != 1 {
			t.Errorf("streams: %v", streams)
		}
		m.offerEdited(false, replacing("stream-1 audio-1", "stream-2 audio-1", "stream-1 video-1", "stream-2 video-1"))
		settle()
		w.seen.expect(t, `track audio-1[stream-2]{"role":"camera"}`, "stream- stream-1")
		if !slices.Equal(before.StreamIDs(), []string{"stream-2"}) {
			t.Errorf("stream ids: %v", before.StreamIDs())
		}
	})
}
