package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func exhausted(w *world) (n int) {
	for _, e := range seen[NegotiationError](w.seen) {
		if errors.Is(e.Err, ErrICERestartExhausted) {
			n++
		}
	}
	return n
}

func TestLadderSteps(t *testing.T) {
	var l ladder
	for i, want := range []int{0, 1, 2, 4, 8, 16, 30, 30, 30} {
		delay, ok := l.step()
		if !ok || delay != time.Duration(want)*time.Second {
			t.Errorf("attempt %d: %v, %v", i+1, delay, ok)
		}
	}
	if _, ok := l.step(); ok {
		t.Error("there was a tenth attempt")
	}
	l.reset()
	if delay, ok := l.step(); !ok || delay != 0 {
		t.Error("the budget was not reset")
	}
}

// Nobody answers: nine offers, each given 15 s and then the ladder's delay,
// and one terminal error.
func TestLadderOffersNineTimesAndGivesUpOnce(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		w.losing(func(string) bool { return true })
		cut := time.Now()
		w.setCut(true)
		time.Sleep(10 * time.Minute)
		offers := w.signals("offer")
		if len(offers) != 9 || exhausted(w) != 1 {
			t.Fatalf("%d offers, gave up %d times", len(offers), exhausted(w))
		}
		if d := offers[0].at.Sub(cut); d < iceFailed || d > 20*time.Second {
			t.Errorf("first offer after %v", d)
		}
		for i, want := range []int{1, 2, 4, 8, 16, 30, 30, 30} {
			got := offers[i+1].at.Sub(offers[i].at)
			if got != answerTimeout+time.Duration(want)*time.Second {
				t.Errorf("offer %d came %v after the one before", i+2, got)
			}
		}
		w.statesAre(t, first, []State{StateReconnecting})
		ufrags := map[string]bool{}
		for _, o := range offers {
			ufrags[attribute(sdpOf(t, o.data), "ice-ufrag")] = true
		}
		if len(ufrags) != 9 {
			t.Errorf("9 offers with %d user names", len(ufrags))
		}
	})
}

func sdpOf(t *testing.T, signal []byte) string {
	t.Helper()
	var s descriptionSignal
	must(t, json.Unmarshal(signal, &s))
	return s.Description.SDP
}

func TestLadderBringsTheConnectionBackAndGetsANewBudget(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		pc := w.peer.PeerConnection()
		for range 5 { // more cuts than one budget would last for
			before := len(w.signals("offer"))
			w.setCut(true)
			time.Sleep(70 * time.Second)
			if w.peer.State() != StateReconnecting {
				t.Errorf("state: %v", w.peer.State())
			}
			w.setCut(false)
			wait(t, 40*time.Second, "connected again", func() bool { return w.peer.State() == StateConnected })
			settle()
			if n := len(w.signals("offer")) - before; n < 2 {
				t.Errorf("%d offers", n)
			}
			if !flows(sinks("video-1")[0]) {
				t.Error("media does not flow")
			}
		}
		if w.peer.PeerConnection() != pc {
			t.Error("the connection was replaced")
		}
		w.seen.expect(t)
		w.statesAre(t, first, reconnect, reconnect, reconnect, reconnect, reconnect)
	})
}

// pion gives up on a restart sooner than we give up on its answer.
func TestALateAnswerIsFollowedByAnotherRestart(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		out := m.out
		late := false
		m.out = func(p any) {
			if s, ok := p.(descriptionSignal); ok && s.Description.Type == "answer" && !late {
				late = true
				time.AfterFunc(12*time.Second, func() { out(p) })
				return
			}
			out(p)
		}
		w.setCut(true)
		wait(t, 20*time.Second, "offer", func() bool { return len(w.signals("offer")) == 1 })
		time.Sleep(8 * time.Second)
		w.setCut(false)
		wait(t, 20*time.Second, "connected again", func() bool { return w.peer.State() == StateConnected })
		settle()
		if n := len(w.signals("offer")); n != 2 || !flows(sinks("video-1")[0]) {
			t.Errorf("%d offers", n)
		}
		w.statesAre(t, first, reconnect)
	})
}

// An offer that does not restart ICE takes ours back and mends nothing.
func TestARestartThatGaveWayToAnOfferIsMadeAgain(t *testing.T) {
	run(t, "alice", "bot", func(t *testing.T, w *world) {
		m := w.join()
		m.camera()
		settle()
		w.losing(func(kind string) bool { return kind == "offer" })
		w.setCut(true)
		wait(t, 20*time.Second, "offer", func() bool { return len(w.signals("offer")) == 1 })
		time.Sleep(12 * time.Second)
		m.add("stream-2", "video-2", webrtc.MimeTypeVP8)
		m.offer(false)
		w.losing(nil)
		w.setCut(false)
		wait(t, 20*time.Second, "connected again", func() bool { return w.peer.State() == StateConnected })
		if n := len(w.signals("offer")); n != 2 {
			t.Errorf("%d offers", n)
		}
	})
}

func TestAShortCutNeedsNoRestart(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		w.setCut(true)
		time.Sleep(8 * time.Second)
		w.setCut(false)
		settle()
		if len(w.signals("offer")) != 0 || w.peer.State() != StateConnected || !flows(sinks("audio-1")[0]) {
			t.Errorf("%d offers, %v", len(w.signals("offer")), w.peer.State())
		}
		w.statesAre(t, first, reconnect)
	})
}

// The path comes back by itself while our offer is out: that brings a new
// budget, and not the answer.
func TestABlipOfThePathLeavesAnUnansweredOfferItsWatchdog(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		got := m.accept()
		w.losing(func(kind string) bool { return kind == "offer" })
		d, err := w.peer.CreateDataChannel("x", nil)
		must(t, err)
		settle()
		w.setCut(true)
		time.Sleep(8 * time.Second)
		w.setCut(false)
		wait(t, 2*time.Second, "connected again", func() bool { return w.peer.State() == StateConnected })
		w.losing(nil)
		ctx, cancel := context.WithTimeout(t.Context(), answerTimeout)
		defer cancel()
		must(t, d.SendText(ctx, "hello"))
		settle()
		if offers := w.signals("offer"); len(offers) != 2 || offers[1].at.Sub(offers[0].at) != answerTimeout {
			t.Errorf("%d offers", len(offers))
		}
		if !slices.Equal(got.all(), []string{"x:hello"}) {
			t.Errorf("the member got %v", got.all())
		}
	})
}

func TestTheLadderWaitsForSignalling(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		w.losing(func(string) bool { return true })
		w.setCut(true)
		time.Sleep(time.Minute)
		before := len(w.signals("offer"))
		w.peer.SignalingLost() // with an offer out, or the next one due
		time.Sleep(5 * time.Minute)
		if n := len(w.signals("offer")); n != before || before == 0 {
			t.Errorf("%d offers without signalling", n-before)
		}
		w.losing(nil)
		w.setCut(false)
		w.peer.SignalingRestored("bot", nil)
		settle()
		if w.peer.State() != StateConnected || !flows(sinks("video-1")[0]) {
			t.Errorf("state: %v", w.peer.State())
		}
		w.statesAre(t, first, reconnect)
	})
}

func TestWithAnotherIDOfOursTheLadderLeavesItToTheMember(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		w.peer.SignalingLost()
		w.setCut(true)
		time.Sleep(time.Minute)
		w.peer.SignalingRestored("bot-2", nil)
		w.setCut(false)
		settle()
		if r := seen[ConnectionReset](w.seen); len(r) != 1 || r[0].Cause != CauseDead {
			t.Errorf("resets: %v", r)
		}
		w.join().camera()
		settle()
		w.statesAre(t, first, reconnect)

		w.peer.SignalingLost()
		w.peer.SignalingRestored("bot-3", nil) // healthy, and then not
		w.setCut(true)
		time.Sleep(time.Minute)
		if n := len(w.signals("offer")); n != 0 {
			t.Errorf("%d offers before the member has made one", n)
		}
		w.setCut(false)
		w.join().camera()
		settle()
		w.setCut(true)
		time.Sleep(time.Minute)
		if n := len(w.signals("offer")); n == 0 {
			t.Error("no offer after the member has made one")
		}
	})
}

// The member's offer to our new id may come before we know that it sees us.
func TestAnOfferAheadOfTheSnapshotLeavesTheLadderInPlace(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		w.peer.SignalingLost()
		w.join().camera()
		settle()
		w.peer.SignalingRestored("bot-2", nil)
		settle()
		w.statesAre(t, first, reconnect)
		w.setCut(true)
		time.Sleep(time.Minute)
		w.setCut(false)
		wait(t, 40*time.Second, "connected again", func() bool { return w.peer.State() == StateConnected })
		if len(w.signals("offer")) == 0 {
			t.Error("no offer")
		}

		w.peer.SignalingLost()
		w.peer.SignalingRestored("bot-3", nil) // now it has not offered
		before := len(w.signals("offer"))
		w.setCut(true)
		time.Sleep(time.Minute)
		if n := len(w.signals("offer")); n != before {
			t.Errorf("%d offers before the member has made one", n-before)
		}
	})
}

func TestAnAnswerOfAnotherConnectionIsNotApplied(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		out := m.out
		m.out = func(p any) {
			if s, ok := p.(descriptionSignal); ok && s.Description.Type == "answer" {
				s.Description.SDP = strings.Replace(s.Description.SDP, "sha-256 ", "sha-256 00:", 1)
				p = s
			}
			out(p)
		}
		_, err := w.peer.CreateDataChannel("x", nil)
		must(t, err)
		settle()
		errs := seen[NegotiationError](w.seen)
		if len(errs) != 1 || !errors.Is(errs[0].Err, errOtherAnswer) || len(seen[ConnectionReset](w.seen)) != 1 {
			t.Errorf("errors: %v", errs)
		}
		if !flows(sinks("video-1")[0]) {
			t.Error("media stopped")
		}
	})
}

// reordered lets a publisher's signals out in another order: the candidates,
// then the rest.
func reordered(m *publisher) (release func()) {
	out := m.out
	var descriptions []any
	m.out = func(p any) {
		if _, ok := p.(candidateSignal); ok {
			out(p)
			return
		}
		descriptions = append(descriptions, p)
	}
	return func() {
		for _, p := range descriptions {
			out(p)
		}
		m.out = out
	}
}

func TestCandidatesMayComeBeforeTheDescription(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		m := w.join()
		release := reordered(m)
		m.camera()
		settle()
		if w.peer.State() != StateIdle {
			t.Errorf("state: %v", w.peer.State())
		}
		w.hideCandidates() // so that theirs are all there is
		release()
		settle()
		w.statesAre(t, first)
		if n := len(seen[ICECandidateError](w.seen)); n != 0 {
			t.Errorf("%d candidate errors", n)
		}
	})
}

// pion looks for candidates as soon as an offer restarts ICE. A member that sends
// them at once names the fragment of the description it still has beside them.
func TestACandidateIsOfTheDescriptionThatItsTextNames(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, _ func(string) []*sinkhole) {
		old := attribute(m.pc.LocalDescription().SDP, "ice-ufrag")
		release := reordered(m)
		out := m.out
		m.out = func(p any) {
			if s, ok := p.(candidateSignal); ok && s.Candidate != nil {
				s.Candidate.UsernameFragment = &old
			}
			out(p)
		}
		w.hideCandidates() // so that theirs are all there is
		w.setCut(true)
		wait(t, 20*time.Second, "a restart", func() bool { return len(w.signals("offer")) > 0 })
		w.setCut(false)
		time.Sleep(500 * time.Millisecond)
		release()
		wait(t, 10*time.Second, "connected again", func() bool { return w.peer.State() == StateConnected })
		if n := len(w.signals("offer")); n != 1 {
			t.Errorf("%d offers", n)
		}
	})
}

func candidate(text, ufrag string) json.RawMessage {
	b, err := json.Marshal(map[string]any{"type": "rtc-ice", "candidate": map[string]any{
		"candidate": text, "sdpMid": "0", "sdpMLineIndex": 0, "usernameFragment": ufrag,
	}})
	if err != nil {
		panic(err)
	}
	return b
}

func (w *world) dropped(reason string) float64 {
	return testutil.ToFloat64(w.api.metrics.candidatesDropped.WithLabelValues(reason))
}

func TestUnusualCandidatesAreNoErrors(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		ufrag := attribute(m.pc.LocalDescription().SDP, "ice-ufrag")
		for _, text := range []string{
			"", // the other spelling of null
			"candidate:1 1 tcp 1518280447 10.0.0.2 9 typ host tcptype active generation 0 ufrag " + ufrag + " network-id 1",
			"candidate:2 1 udp 2113937151 5d9a7f2c-0c5e-4b8e-9a39-6d7e4b1f2a3b.local 54321 typ host generation 0 ufrag " + ufrag + " network-cost 999",
			"candidate:3 1 udp 2113937151 2001:db8::1 54321 typ host",
		} {
			if !w.peer.HandleDirect(candidate(text, ufrag)) {
				t.Errorf("%q was not taken for a signal", text)
			}
		}
		w.peer.HandleDirect(json.RawMessage(`{"type":"rtc-ice","candidate":null}`))
		settle()
		if e := seen[ICECandidateError](w.seen); len(e) != 0 {
			t.Errorf("errors: %v", e)
		}
		if w.peer.State() != StateConnected {
			t.Errorf("state: %v", w.peer.State())
		}
	})
}

func TestCandidatesOfAnotherGenerationAreDropped(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		w.peer.HandleDirect(candidate("candidate:1 1 udp 1 10.0.0.9 1 typ host", "old"))
		w.peer.HandleDirect(candidate("candidate:1 1 udp 1 10.0.0.9 1 typ host ufrag older", ""))
		settle()
		m.offer(false) // another description: what waited for it did not belong to it
		settle()
		if n := w.dropped("ufrag"); n != 2 {
			t.Errorf("%v candidates were dropped", n)
		}
		if e := seen[ICECandidateError](w.seen); len(e) != 0 {
			t.Errorf("errors: %v", e)
		}
	})
}

func TestARejectedCandidateIsToldWithoutCredentials(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		ufrag := attribute(m.pc.LocalDescription().SDP, "ice-ufrag")
		w.peer.HandleDirect(candidate("candidate:nonsense ufrag "+ufrag, ufrag))
		settle()
		e := seen[ICECandidateError](w.seen)
		if len(e) != 1 || strings.Contains(e[0].Err.Error(), ufrag) {
			t.Errorf("errors: %v", e)
		}
	})
}

func TestCandidatesAreLimited(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		ufrag := attribute(m.pc.LocalDescription().SDP, "ice-ufrag")
		long := "candidate:1 1 udp 1 10.9.0.1 1000 typ host " + strings.Repeat("x", maxCandidate)
		if !w.peer.HandleDirect(candidate(long, ufrag)) {
			t.Error("a long candidate was taken for application data")
		}
		settle()
		for i := range maxCandidates + 100 {
			w.peer.HandleDirect(candidate(fmt.Sprintf("candidate:1 1 udp 1 10.9.0.1 %d typ host", 1000+i), ufrag))
			time.Sleep(time.Millisecond)
		}
		settle()
		if n := w.dropped("limit"); n < 100 || n > 110 {
			t.Errorf("%v candidates were dropped", n)
		}
		m.offer(true)
		settle()
		before := w.dropped("limit")
		w.peer.HandleDirect(candidate("candidate:1 1 udp 1 10.9.0.1 9 typ host", ""))
		settle()
		if w.dropped("limit") != before || w.peer.State() != StateConnected {
			t.Error("the count does not start anew with a description")
		}
	})
}

func TestCandidatesInADescriptionTakeTheSameWay(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		m := w.join()
		m.add("s", "t", webrtc.MimeTypeOpus)
		m.offerEdited(false, func(sdp string) string {
			for i := range maxCandidates + 50 {
				sdp += fmt.Sprintf("a=candidate:1 1 udp 1 10.9.0.1 %d typ host\r\n", 1000+i)
			}
			return sdp + "a=candidate:garbage\r\na=end-of-candidates\r\n"
		})
		settle()
		w.statesAre(t, first)
		if n := w.dropped("limit"); n < 50 {
			t.Errorf("%v candidates were dropped", n)
		}
	})
}

// The policy of a connection outlives servers that are named later: one that gathers then, as the one that
// takes the place of a dead one, tells nothing of our addresses.
func TestServersThatAreNamedLaterLeaveRelayOnlyAlone(t *testing.T) {
	api, err := NewAPI(APIOptions{Logger: testLogger(t), RelayOnly: true})
	must(t, err)
	defer api.Close()
	sent := make(chan error)
	close(sent)
	p := NewPeer(Options{ID: "alice", LocalID: "recorder", API: api, Logger: testLogger(t), Signal: func(any) <-chan error { return sent }})
	defer func() { p.Close(CauseShutdown); <-p.Done() }()
	done := make(chan struct{})
	var gathered <-chan struct{}
	p.in.put(func() {
		defer close(done)
		l, err := p.newLink()
		must(t, err)
		p.link = l
		p.setICEServers(nil)
		_, err = l.pc.CreateDataChannel("x", nil)
		must(t, err)
		gathered = webrtc.GatheringCompletePromise(l.pc)
		_, err = l.offer()
		must(t, err)
	})
	<-done
	<-gathered
	p.in.put(func() {
		if strings.Contains(p.link.pc.LocalDescription().SDP, "typ host") {
			t.Error("the offer has addresses of ours")
		}
	})
}
