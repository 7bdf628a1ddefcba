package remote

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// Both sides offer first at the same time, and we are the polite one: the
// channel moves to the connection that takes the member's offer.
func TestFirstGlareWePolitelyGiveWay(t *testing.T) {
	run(t, "aaa", "bob", func(t *testing.T, w *world) {
		m := w.join()
		got := m.accept()
		w.crossing()
		d, err := w.peer.CreateDataChannel("x", nil)
		must(t, err)
		m.camera()
		must(t, d.SendText(t.Context(), "still here"))
		settle()
		w.seen.expect(t, cameraAudio, cameraStream, cameraVideo)
		w.statesAre(t, first)
		if !slices.Equal(got.all(), []string{"x:still here"}) {
			t.Errorf("the member got %v", got.all())
		}
		if len(seen[ConnectionReset](w.seen)) != 0 {
			t.Error("connection-reset was told of a connection nobody had")
		}
		if m.collisions == 0 {
			t.Error("there was no collision")
		}
	})
}

// The same, and the member is the polite one: its offer is ignored.
func TestFirstGlareTheMemberGivesWay(t *testing.T) {
	run(t, "zoe", "bob", func(t *testing.T, w *world) {
		// A connection of the member that never gets an answer: it will be
		// replaced, which is how pion gives way before anything is negotiated.
		ignored := w.join()
		w.losing(func(string) bool { return true })
		d, err := w.peer.CreateDataChannel("x", nil)
		must(t, err)
		settle()
		ignored.camera()
		settle()
		w.seen.expect(t)
		if n := len(w.signals("answer")); n != 0 {
			t.Errorf("%d answers to an offer that was to be ignored", n)
		}
		m := w.join()
		got := m.accept()
		w.losing(nil)
		for _, s := range w.sent {
			m.in <- s.data // our offer, and its candidates
		}
		settle()
		m.camera()
		must(t, d.SendText(t.Context(), "hello"))
		settle()
		w.seen.expect(t, cameraAudio, cameraStream, cameraVideo)
		w.statesAre(t, first)
		if !slices.Equal(got.all(), []string{"x:hello"}) {
			t.Errorf("the member got %v", got.all())
		}
		if n := w.dropped("ignored_offer"); n == 0 {
			t.Error("candidates of the ignored offer were not dropped")
		}
	})
}

func TestGlareOnALiveConnection(t *testing.T) {
	for _, c := range []struct {
		local, remote string
		polite        bool
	}{{"aaa", "bob", true}, {"zoe", "bob", false}} {
		run(t, c.local, c.remote, func(t *testing.T, w *world) {
			sinks := forwardAll(w.peer)
			m := w.join()
			m.polite = !c.polite
			got := m.accept()
			m.camera()
			settle()
			pc := w.peer.PeerConnection()
			w.seen.expect(t, cameraAudio, cameraStream, cameraVideo)

			w.crossing()
			d, err := w.peer.CreateDataChannel("x", nil)
			must(t, err)
			if c.polite {
				m.add("screen", "screen-v", "video/VP8")
			}
			m.offer(false)
			must(t, d.SendText(t.Context(), "through"))
			settle()
			if !c.polite {
				// Only now: the mid pion gave it would not survive a rollback.
				m.add("screen", "screen-v", "video/VP8")
				m.offer(false)
				settle()
			}
			w.seen.expect(t, "track screen-v[screen]", "stream+ screen")
			if !slices.Equal(got.all(), []string{"x:through"}) {
				t.Errorf("the member got %v", got.all())
			}
			if m.collisions == 0 {
				t.Error("there was no collision")
			}
			if w.peer.PeerConnection() != pc || !flows(sinks("video-1")[0]) || len(sinks("screen-v")) != 1 || !flows(sinks("screen-v")[0]) {
				t.Error("the connection was replaced, or a track stopped")
			}
			w.statesAre(t, first)
			if errs := m.failures(); len(errs) > 0 {
				t.Errorf("publisher: %v", errs)
			}
		})
	}
}

// We offered first, so the member is the DTLS client for good, and stays it
// when we take an offer back.
func TestARollbackKeepsTheDTLSRoles(t *testing.T) {
	run(t, "aaa", "bob", func(t *testing.T, w *world) {
		sinks := forwardAll(w.peer)
		m := w.join()
		m.accept()
		_, err := w.peer.CreateDataChannel("x", nil)
		must(t, err)
		settle()
		w.losing(func(string) bool { return true })
		w.setCut(true)
		time.Sleep(20 * time.Second) // an ICE restart of ours is out
		w.losing(nil)
		w.setCut(false)
		m.add("s", "t", "video/VP8")
		m.offer(true)
		settle()
		answers := w.signals("answer")
		if len(answers) != 1 || attribute(sdpOf(t, answers[0].data), "setup") != "passive" {
			t.Fatalf("%d answers", len(answers))
		}
		if w.peer.State() != StateConnected || !flows(sinks("t")[0]) {
			t.Errorf("state: %v", w.peer.State())
		}
		w.statesAre(t, first, reconnect)
	})
}

func TestAnUnansweredFirstOfferIsMadeAgain(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		w.losing(func(kind string) bool { return true })
		m := w.join()
		got := m.accept()
		d, err := w.peer.CreateDataChannel("x", nil)
		must(t, err)
		time.Sleep(time.Minute)
		if n := len(w.signals("offer")); n < 3 {
			t.Errorf("%d offers in a minute", n)
		}
		w.losing(nil)
		must(t, d.SendText(t.Context(), "finally"))
		time.Sleep(time.Minute)
		if !slices.Equal(got.all(), []string{"x:finally"}) {
			t.Errorf("the member got %v", got.all())
		}
		w.statesAre(t, first)
	})
}

func TestAfterFirstOffersThatNobodyAnsweredThereMayBeMore(t *testing.T) {
	for name, again := range map[string]func(*testing.T, *world){
		"by another channel": func(t *testing.T, w *world) {
			_, err := w.peer.CreateDataChannel("another", nil)
			must(t, err)
		},
		"by Retry": func(_ *testing.T, w *world) { w.peer.Retry() },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, "bot", "alice", func(t *testing.T, w *world) {
				got := w.join().accept()
				w.losing(func(string) bool { return true })
				d, err := w.peer.CreateDataChannel("x", nil)
				must(t, err)
				time.Sleep(10 * time.Minute)
				if exhausted(w) != 1 {
					t.Fatalf("gave up %d times", exhausted(w))
				}
				w.losing(nil)
				again(t, w)
				ctx, cancel := context.WithTimeout(t.Context(), answerTimeout)
				defer cancel()
				must(t, d.SendText(ctx, "finally"))
				settle()
				if !slices.Equal(got.all(), []string{"x:finally"}) {
					t.Errorf("the member got %v", got.all())
				}
				w.statesAre(t, first)
			})
		})
	}
}

// crossing lets our offers take a while, so that they cross with the member's.
func (w *world) crossing() {
	w.losing(func(kind string) bool {
		if kind == "offer" {
			time.Sleep(50 * time.Millisecond)
		}
		return false
	})
}

func TestAnAnswerToNothingIsIgnored(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		m.out(descriptionSignal{"rtc-description", sdpEnvelope{"answer", m.pc.LocalDescription().SDP}})
		settle()
		w.seen.expect(t)
		if w.peer.State() != StateConnected {
			t.Errorf("state: %v", w.peer.State())
		}
	})
}

// A browser that took an offer back goes on counting its sections, so that their
// mids have a gap. pion names the section of data channels by the number of
// sections there are, which may be taken then.
func TestASectionOfOursTakesNoMidOfTheMembers(t *testing.T) {
	const ours, crossing, unanswered = "in our offer", "when we give way", "after offers nobody answered"
	for _, name := range []string{ours, crossing, unanswered} {
		run(t, "aaa", "bob", func(t *testing.T, w *world) {
			sinks := forwardAll(w.peer)
			m := w.join()
			got := m.accept()
			m.camera()
			settle()
			gap := func() {
				m.add("screen", "screen-v", "video/VP8")
				must(t, m.pc.GetTransceivers()[2].SetMid("3"))
			}
			switch name {
			case ours:
				gap()
				m.offer(false)
				settle()
			case crossing:
				w.crossing()
			case unanswered:
				w.losing(func(kind string) bool { return kind == "offer" })
			}
			d, err := w.peer.CreateDataChannel("x", nil)
			must(t, err)
			switch name {
			case crossing:
				gap()
				m.offer(false)
			case unanswered:
				time.Sleep(3 * answerTimeout)
				gap()
				m.offer(false)
				settle()
				w.losing(nil)
			}
			sending, stop := context.WithTimeout(t.Context(), time.Minute)
			defer stop()
			if err := d.SendText(sending, "through"); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			settle()
			for _, kind := range []string{"offer", "answer"} {
				for _, s := range w.signals(kind) {
					mids := regexp.MustCompile(`a=mid:(\S+)`).FindAllString(sdpOf(t, s.data), -1)
					slices.Sort(mids)
					if len(slices.Compact(mids)) != strings.Count(sdpOf(t, s.data), "a=mid:") {
						t.Errorf("%s: %s has the mids %v", name, kind, mids)
					}
				}
			}
			if !slices.Equal(got.all(), []string{"x:through"}) {
				t.Errorf("%s: the member got %v", name, got.all())
			}
			m.add("another", "another-v", "video/VP8") // and goes on being negotiated
			m.offer(false)
			settle()
			for _, id := range []string{"video-1", "screen-v", "another-v"} {
				if s := sinks(id); len(s) != 1 || !flows(s[0]) {
					t.Errorf("%s: %s does not flow", name, id)
				}
			}
			if errs := m.failures(); len(errs) > 0 {
				t.Errorf("%s: publisher: %v", name, errs)
			}
		})
	}
}
