package remote

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"recorder/internal/event"
)

var (
	first     = []State{StateConnecting, StateConnected}
	reconnect = []State{StateReconnecting, StateConnected}
)

// statesAre checks every transition the peer ever made.
func (w *world) statesAre(t *testing.T, want ...[]State) {
	t.Helper()
	if got := w.seen.statesSeen(); !slices.Equal(got, slices.Concat(want...)) {
		t.Errorf("states: %v, want %v", got, slices.Concat(want...))
	}
}

func TestAFreshConnectionOfTheMemberIsSwappedIn(t *testing.T) {
	for _, ids := range [][2]string{{"bot", "alice"}, {"alice", "bot"}} {
		t.Run("we are "+ids[0], func(t *testing.T) {
			run(t, ids[0], ids[1], func(t *testing.T, w *world) {
				sinks := forwardAll(w.peer)
				w.join().camera()
				settle()
				oldPC, oldStream := w.peer.PeerConnection(), w.peer.Streams()[0]
				w.seen.expect(t, cameraAudio, cameraStream, cameraVideo)

				old := w.member
				w.join().camera() // nobody told us, and the old connection is alive
				settle()
				w.seen.expect(t, cameraAudio, cameraStream, cameraVideo) // the same id again
				w.statesAre(t, first, reconnect)
				if r := seen[ConnectionReset](w.seen); len(r) != 1 || r[0].Cause != CauseFresh {
					t.Errorf("resets: %v", r)
				}
				if w.peer.PeerConnection() == oldPC || w.peer.Streams()[0] == oldStream {
					t.Error("the connection or the stream object was not replaced")
				}
				for _, id := range []string{"audio-1", "video-1"} {
					s := sinks(id)
					if len(s) != 2 || !flows(s[1]) {
						t.Errorf("%s does not deliver", id)
					}
					if _, _, closed := s[0].counts(); closed != 1 {
						t.Errorf("old writer of %s was closed %d times", id, closed)
					}
				}
				if n := len(seen[NegotiationError](w.seen)); n != 0 {
					t.Errorf("%d negotiation errors", n)
				}
				old.close()
			})
		})
	}
}

func TestTheOldConnectionDeliversUntilTheNewOneDoes(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		// The new connection gets no candidates, so it cannot come up yet.
		next := w.join()
		out := next.out
		var held []any
		next.out = func(p any) {
			if _, ok := p.(candidateSignal); ok {
				held = append(held, p)
				return
			}
			out(p)
		}
		w.hideCandidates()
		next.camera()
		settle()
		w.seen.expect(t, cameraAudio, cameraStream, cameraVideo)
		if !flows(sinks("audio-1")[0]) || !flows(sinks("video-1")[0]) {
			t.Error("the old connection stopped delivering")
		}
		if w.peer.State() != StateReconnecting {
			t.Errorf("state: %v", w.peer.State())
		}
		for _, p := range held {
			out(p)
		}
		settle()
		if _, _, closed := sinks("video-1")[0].counts(); closed != 1 {
			t.Errorf("old writer was closed %d times", closed)
		}
		if !flows(sinks("video-1")[1]) {
			t.Error("the new connection does not deliver")
		}
		w.statesAre(t, first, reconnect)
	})
}

func TestAStreamThatDidNotComeBackIsNeitherRemovedNorAdded(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		next := w.join()
		next.add("stream-2", "other", webrtc.MimeTypeVP8)
		next.offer(false)
		settle()
		w.seen.expect(t, "track other[stream-2]", "stream+ stream-2")
		if s := w.peer.Streams(); len(s) != 1 || s[0].ID() != "stream-2" {
			t.Errorf("streams: %v", s)
		}
	})
}

func TestTrackMetadataOutlivesTheConnection(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		next := w.join() // does not send its metadata again
		next.add("stream-1", "video-1", webrtc.MimeTypeVP8)
		next.offer(false)
		settle()
		w.seen.expect(t, cameraVideo, cameraStream)
	})
}

func TestTheMemberClosesBeforeItsFreshOffer(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		m.close() // close_notify
		settle()
		w.seen.expect(t) // a reconnect, as far as we know
		if len(w.peer.Streams()) != 1 || w.peer.State() != StateReconnecting {
			t.Errorf("%v with streams %v", w.peer.State(), w.peer.Streams())
		}
		if _, _, closed := sinks("video-1")[0].counts(); closed != 1 {
			t.Errorf("writer was closed %d times", closed)
		}
		w.join().camera()
		settle()
		w.seen.expect(t, cameraAudio, cameraStream, cameraVideo)
		w.statesAre(t, first, reconnect)
	})
}

// That it may yet come back is why its streams are not removed before it leaves.
func TestStreamsOfAMemberThatClosedItsConnectionAreRemovedWhenItLeaves(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		m.close()
		time.Sleep(time.Hour)
		w.seen.expect(t)
		for _, track := range w.peer.Streams()[0].Tracks() {
			if !track.Ended() {
				t.Errorf("%s goes on", track.ID())
			}
		}
		w.peer.Close(CauseLeft)
		<-w.peer.Done()
		settle()
		w.seen.expect(t, "stream- stream-1")
		w.statesAre(t, first, []State{StateReconnecting, StateClosed})
	})
}

func TestAHealthyConnectionIsKeptWhenOurSignallingDrops(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		p, pc := w.peer, w.peer.PeerConnection()
		p.SignalingLost()
		settle()
		if p.State() != StateReconnecting || !flows(sinks("video-1")[0]) {
			t.Errorf("state: %v", p.State())
		}
		p.SignalingRestored("bot", nil)
		settle()
		w.seen.expect(t)
		w.statesAre(t, first, reconnect)
		if p.PeerConnection() != pc || !flows(sinks("video-1")[0]) {
			t.Error("the connection was not kept")
		}
		if len(seen[ConnectionReset](w.seen)) != 0 {
			t.Error("connection-reset was told")
		}
	})
}

func TestMetadataIsRefreshedBeforeConnected(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		var at []string
		event.Subscribe(w.peer, func(e StateChange) { at = append(at, e.To.String()+string(w.peer.Metadata())) })
		w.peer.SignalingLost()
		settle()
		w.peer.SignalingRestored("bot", json.RawMessage(`{"name":"Alice"}`))
		settle()
		if !slices.Equal(at, []string{"reconnecting", `connected{"name":"Alice"}`}) {
			t.Errorf("seen: %v", at)
		}
	})
}

func TestPolitenessFollowsOurID(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		if w.peer.Polite() || w.peer.LocalID() != "bot" {
			t.Error("bot is polite to alice")
		}
		w.peer.SignalingLost()
		w.peer.SignalingRestored("aaa", nil)
		if !w.peer.Polite() || w.peer.LocalID() != "aaa" {
			t.Error("aaa is not polite to alice")
		}
		settle()
		if len(w.seen.statesSeen()) != 0 { // idle peers stay idle
			t.Errorf("states: %v", w.seen.statesSeen())
		}
	})
}

// The member joins again while our own socket never was away.
func TestSignallingThatWasNotLostIsNotRestored(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		got := m.accept()
		w.losing(func(kind string) bool { return kind == "offer" })
		d, err := w.peer.CreateDataChannel("x", nil)
		must(t, err)
		settle()
		held := w.signals("offer")[0].data
		w.losing(nil)
		for range 3 {
			w.peer.SignalingRestored("bot", json.RawMessage(`{"name":"Alice"}`))
			settle()
		}
		if string(w.peer.Metadata()) != `{"name":"Alice"}` {
			t.Errorf("metadata: %s", w.peer.Metadata())
		}
		m.in <- held // late, and still good
		must(t, d.SendText(t.Context(), "hello"))
		settle()
		if n := len(w.signals("offer")); n != 1 || !slices.Equal(got.all(), []string{"x:hello"}) {
			t.Errorf("%d offers, the member got %v", n, got.all())
		}
	})
}

func TestADeadConnectionIsRebuiltWhenSignallingIsBack(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		w.peer.SignalingLost()
		m.close()
		settle()
		pc := w.peer.PeerConnection()
		w.peer.SignalingRestored("bot", nil)
		settle()
		if w.peer.PeerConnection() == pc {
			t.Error("the dead connection is still there")
		}
		if r := seen[ConnectionReset](w.seen); len(r) != 1 || r[0].Cause != CauseDead {
			t.Errorf("resets: %v", r)
		}
		w.join().camera()
		settle()
		w.statesAre(t, first, reconnect)
	})
}

func TestThePeerSurvivesAndIsTheSameObject(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		id := w.peer.ID()
		for range 3 {
			w.join().camera()
			settle()
		}
		if w.peer.ID() != id || w.peer.State() != StateConnected {
			t.Errorf("%v", w.peer)
		}
		w.statesAre(t, first, reconnect, reconnect, reconnect)
	})
}

func TestCloseRemovesStreamsAndIsFinal(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		w.peer.Close(CauseLeft)
		w.peer.Close(CauseLeft)
		<-w.peer.Done()
		settle()
		w.seen.expect(t, "stream- stream-1")
		if removed := seen[StreamRemoved](w.seen); !removed[0].Closed {
			t.Error("the stream does not say that the peer was closed")
		}
		w.statesAre(t, first, []State{StateClosed})
		if err := w.peer.Send(t.Context(), 1); !errors.Is(err, ErrClosed) {
			t.Errorf("send: %v", err)
		}
		if _, err := w.peer.CreateDataChannel("x", nil); !errors.Is(err, ErrClosed) {
			t.Errorf("create data channel: %v", err)
		}
		if _, _, closed := sinks("video-1")[0].counts(); closed != 1 {
			t.Errorf("writer was closed %d times", closed)
		}
		w.peer.SignalingLost()
		w.peer.SignalingRestored("bot", nil)
		w.join().camera()
		settle()
		w.statesAre(t, first, []State{StateClosed})
		if w.peer.PeerConnection() != nil || len(w.peer.Streams()) != 0 {
			t.Error("a closed peer still has a connection")
		}
	})
}

func TestCloseFromInsideAHandler(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		event.Subscribe(w.peer, func(StreamAdded) { w.peer.Close(CauseShutdown) })
		w.join().camera()
		<-w.peer.Done()
		settle()
		w.seen.expect(t, cameraAudio, cameraStream, cameraVideo, "stream- stream-1")
	})
}

// The member goes through a renegotiation and an ICE restart on a healthy
// connection: nothing is rebuilt and no media is lost.
func TestAnICERestartOfTheMemberKeepsTheConnection(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		pc := w.peer.PeerConnection()
		before := attribute(pc.RemoteDescription().SDP, "ice-ufrag")
		m.offer(true)
		settle()
		w.seen.expect(t)
		if w.peer.PeerConnection() != pc || w.peer.State() != StateConnected {
			t.Errorf("%v", w.peer)
		}
		if after := attribute(pc.RemoteDescription().SDP, "ice-ufrag"); after == before {
			t.Error("ICE was not restarted")
		}
		if !flows(sinks("video-1")[0]) {
			t.Error("media stopped")
		}
	})
}

func TestSwapsAreLimited(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		for range maxSwaps + 3 {
			m := w.join()
			m.add("s", "t", webrtc.MimeTypeVP8)
			m.offer(false)
		}
		settle()
		limited := 0
		for _, e := range seen[NegotiationError](w.seen) {
			if errors.Is(e.Err, errSwapLimit) {
				limited++
			}
		}
		if limited != 2 {
			t.Errorf("%d offers were refused", limited)
		}
		time.Sleep(10 * time.Second)
		w.join().camera()
		settle()
		if w.peer.State() != StateConnected {
			t.Errorf("state: %v", w.peer.State())
		}
	})
}
