package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/webrtc/v4"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"recorder/internal/event"
	"recorder/internal/signaling"
)

func TestIDMetadataAndStateOfANewPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.peer = NewPeer(Options{ID: "alice", LocalID: "bot", API: w.api, Logger: testLogger(t), Metadata: json.RawMessage(`{"name":"Alice"}`)})
		defer w.close()
		p := w.peer
		if p.ID() != "alice" || p.State() != StateIdle || p.PeerConnection() != nil || len(p.Streams()) != 0 {
			t.Errorf("%v", p)
		}
		m := p.Metadata()
		if string(m) != `{"name":"Alice"}` {
			t.Errorf("metadata: %s", m)
		}
		m[2] = 'X'
		if string(p.Metadata()) != `{"name":"Alice"}` {
			t.Error("Metadata is no copy")
		}
	})
}

func TestAPeerPrintsItsIDAndStateOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.peer = NewPeer(Options{ID: "alice", LocalID: "bot", API: w.api, Logger: testLogger(t), Metadata: json.RawMessage(`{"name":"SECRET"}`)})
		defer w.close()
		var out bytes.Buffer
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "peer", w.peer)
		text := fmt.Sprintf("%v %s", w.peer, w.peer) + out.String()
		if strings.Contains(text, "SECRET") || !strings.Contains(text, `peer "alice" (idle)`) ||
			!strings.Contains(text, `"peer":{"id":"alice","state":"idle"}`) {
			t.Errorf("printed as %s", text)
		}
	})
}

func TestSendGoesThroughTheService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		result := make(chan error, 1)
		var sent []byte
		w.peer = NewPeer(Options{
			ID: "alice", LocalID: "bot", API: w.api, Logger: testLogger(t), MaxMessageSize: func() int { return 20 },
			Signal: func(p any) <-chan error { sent, _ = json.Marshal(p); return result },
		})
		defer w.close()
		result <- nil
		must(t, w.peer.Send(t.Context(), map[string]int{"n": 1}))
		if string(sent) != `{"n":1}` {
			t.Errorf("sent %s", sent)
		}
		result <- io.ErrUnexpectedEOF
		if err := w.peer.Send(t.Context(), 1); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("error: %v", err)
		}
		var big *signaling.OversizedError
		if err := w.peer.Send(t.Context(), strings.Repeat("x", 20)); !errors.As(err, &big) || big.Size != 22 || big.Cap != 20 {
			t.Errorf("error: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.peer.Send(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error: %v", err)
		}
		if err := w.peer.Send(t.Context(), make(chan int)); err == nil {
			t.Error("a channel was sent")
		}
	})
}

func TestSendMeasuresWhatGoesOverTheWire(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		w.join()
		must(t, w.peer.Send(t.Context(), strings.Repeat("<", 65534))) // and its quotes
		var big *signaling.OversizedError
		if err := w.peer.Send(t.Context(), strings.Repeat("<", 65535)); !errors.As(err, &big) || big.Size != 65537 {
			t.Errorf("error: %v", err)
		}
	})
}

func TestApplicationDataIsNotHandled(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		if w.peer.HandleDirect(json.RawMessage(`{"text":"hi"}`)) || !w.peer.HandleDirect(json.RawMessage(`{"type":"rtc-ice","candidate":null}`)) {
			t.Error("signals and data were mixed up")
		}
	})
}

// Garbage of every kind reaches no further than a counter or an event.
func TestGarbageLeavesThePeerWorking(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		good := m.pc.LocalDescription().SDP
		for _, sdp := range []string{"", "garbage", offerText("message 9 TCP *\n"), good[:len(good)/2]} {
			m.out(descriptionSignal{"rtc-description", sdpEnvelope{"offer", sdp}})
			m.out(descriptionSignal{"rtc-description", sdpEnvelope{"answer", sdp}})
		}
		w.peer.HandleDirect(json.RawMessage(`{"type":"rtc-description","description":7}`))
		settle()
		if w.peer.State() != StateConnected || !flows(sinks("video-1")[0]) {
			t.Errorf("state: %v", w.peer.State())
		}
		if n := testutil.ToFloat64(w.api.metrics.signalsDropped.WithLabelValues("malformed")); n != 3 {
			t.Errorf("%v malformed signals were counted", n)
		}
		for _, e := range seen[NegotiationError](w.seen) {
			if strings.Contains(e.Err.Error(), attribute(good, "ice-pwd")) || len(e.Err.Error()) > 200 {
				t.Errorf("error with a description in it: %v", e.Err)
			}
		}
		m.offer(false) // and it takes a good one
		settle()
		if w.peer.State() != StateConnected {
			t.Errorf("state: %v", w.peer.State())
		}
	})
}

// An offer pion fails on half way does not cost the peer its next one.
func TestAnOfferThatFailsHalfWayIsFollowedByAFreshConnection(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		m := w.join()
		m.add("s", "t", webrtc.MimeTypeVP8)
		m.offerEdited(false, replacing("a=ice-pwd", "a=x-pwd"))
		settle()
		if len(seen[NegotiationError](w.seen)) != 1 {
			t.Errorf("errors: %v", seen[NegotiationError](w.seen))
		}
		w.join().camera()
		settle()
		if w.peer.State() != StateConnected {
			t.Errorf("state: %v", w.peer.State())
		}
	})
}

func TestNothingBlocksTheSession(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		event.Subscribe(w.peer, func(StateChange) { time.Sleep(time.Hour) })
		w.losing(func(string) bool { time.Sleep(time.Minute); return true }) // the loop hangs in a send
		w.join().camera()
		time.Sleep(2 * gatherPatience) // it is sending its answer
		start := time.Now()
		for range maxQueuedSignals * 2 {
			w.peer.HandleDirect(json.RawMessage(`{"__meteredTrackMeta":{"trackId":"t","metadata":{}}}`))
		}
		w.peer.SignalingLost()
		w.peer.SetICEServers(nil)
		w.peer.SignalingRestored("bot", nil)
		w.peer.Close(CauseShutdown)
		if time.Since(start) != 0 {
			t.Errorf("the session waited %v", time.Since(start))
		}
		if n := testutil.ToFloat64(w.api.metrics.signalsDropped.WithLabelValues("overflow")); n < maxQueuedSignals {
			t.Errorf("%v signals were dropped", n)
		}
		<-w.peer.Done()
		w.losing(nil)
		time.Sleep(5 * time.Hour)
	})
}

// failingSends makes every signal of the peer fail.
func (w *world) failingSends(err error) (calls *atomic.Int32) {
	calls = new(atomic.Int32)
	w.peer.opts.Signal = func(any) <-chan error {
		calls.Add(1)
		c := make(chan error, 1)
		c <- err
		return c
	}
	return calls
}

func TestASendThatFailsIsNoNegotiationError(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		calls := w.failingSends(signaling.ErrNotConnected)
		w.join().camera()
		settle()
		if calls.Load() == 0 || len(seen[NegotiationError](w.seen)) != 0 {
			t.Errorf("%d signals, errors %v", calls.Load(), seen[NegotiationError](w.seen))
		}
	})
}

func TestADescriptionTheServiceRefusesIsANegotiationError(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		calls := w.failingSends(&signaling.RequestError{Op: "send", Target: "alice", Code: signaling.CodeActionNotPermitted})
		m := w.join()
		m.silent = true
		m.camera()
		time.Sleep(time.Second) // less than until the answer is repeated
		synctest.Wait()
		errs := seen[NegotiationError](w.seen)
		if calls.Load() < 2 || len(errs) != 1 { // the candidates say nothing new
			t.Fatalf("%d signals, errors %v", calls.Load(), errs)
		}
		var refused *signaling.RequestError
		if !errors.As(errs[0].Err, &refused) || refused.Code != signaling.CodeActionNotPermitted {
			t.Errorf("error: %v", errs[0].Err)
		}
	})
}

// A browser forgets candidates that come before the answer.
func TestARepeatedAnswerBringsTheCandidatesAlong(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		stop := w.stunServer(100 * time.Millisecond)
		defer stop()
		w.losing(func(string) bool { return true })
		m := w.join()
		m.silent = true
		m.camera()
		time.Sleep(answerRepeat + time.Second)
		answers, candidates := w.signals("answer"), w.signals("candidate")
		if len(answers) != 2 || len(candidates) != 1 {
			t.Fatalf("%d answers, %d candidates", len(answers), len(candidates))
		}
		once, again := sdpOf(t, answers[0].data), sdpOf(t, answers[1].data)
		var c candidateSignal
		must(t, json.Unmarshal(candidates[0].data, &c))
		if line := "a=" + c.Candidate.Candidate + "\r\n"; strings.Contains(once, line) || !strings.Contains(again, line) {
			t.Errorf("in the first answer, or not in the second: %s", c.Candidate.Candidate)
		}
		bare := func(sdp string) []string { return slices.DeleteFunc(strings.Split(sdp, "\r\n"), isCandidate) }
		if !slices.Equal(bare(once), bare(again)) {
			t.Errorf("they differ in more than that:\n%s\n%s", once, again)
		}
	})
}

func isCandidate(line string) bool {
	return strings.HasPrefix(line, "a=candidate:") || line == "a=end-of-candidates"
}

func TestSignalsLeaveInOrder(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		stop := w.stunServer(100 * time.Millisecond)
		defer stop()
		w.join().camera()
		settle()
		w.mu.Lock()
		defer w.mu.Unlock()
		var kinds []string
		for _, s := range w.sent {
			kinds = append(kinds, s.kind)
		}
		if !slices.Equal(kinds, []string{"answer", "candidate", "end"}) {
			t.Fatalf("signals: %v", kinds)
		}
		var c candidateSignal
		must(t, json.Unmarshal(w.sent[1].data, &c))
		answer := sdpOf(t, w.sent[0].data)
		if c.Candidate.UsernameFragment == nil || *c.Candidate.UsernameFragment != attribute(answer, "ice-ufrag") ||
			!strings.HasPrefix(c.Candidate.Candidate, "candidate:") || c.Candidate.SDPMid == nil || *c.Candidate.SDPMid != "0" {
			t.Errorf("candidate: %s", w.sent[1].data)
		}
	})
}

func TestICEServersReachLiveConnections(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		servers := []webrtc.ICEServer{{URLs: []string{"stun:10.0.0.99:3478"}}}
		w.peer.SetICEServers(servers)
		settle()
		if got := w.peer.PeerConnection().GetConfiguration().ICEServers; len(got) != 1 {
			t.Errorf("live connection: %v", got)
		}
		m.close()
		w.join().camera() // a fresh connection
		settle()
		if got := w.peer.PeerConnection().GetConfiguration().ICEServers; len(got) != 1 {
			t.Errorf("next connection: %v", got)
		}
	})
}

func TestOneUDPPortForAll(t *testing.T) {
	free, err := net.ListenUDP("udp", nil)
	must(t, err)
	port := free.LocalAddr().(*net.UDPAddr).Port
	if _, err := NewAPI(APIOptions{Logger: testLogger(t), UDPPort: port}); err == nil || !strings.Contains(err.Error(), "listen for media") {
		t.Errorf("a port in use: %v", err)
	}
	must(t, free.Close())
	api, err := NewAPI(APIOptions{Logger: testLogger(t), UDPPort: port})
	must(t, err)
	must(t, api.Close())
}
