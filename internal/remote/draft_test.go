package remote

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v4"
	"github.com/pion/webrtc/v4"
)

// stunServer has the peer ask a STUN server, which answers after delay; negative: never.
func (w *world) stunServer(delay time.Duration) (stop func()) {
	w.t.Helper()
	host := w.newNet()
	address := fmt.Sprintf("10.0.0.%d:3478", w.next)
	conn, err := host.ListenPacket("udp4", address)
	must(w.t, err)
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			request := &stun.Message{Raw: append([]byte(nil), b[:n]...)}
			if delay < 0 || request.Decode() != nil {
				continue
			}
			answer, err := stun.Build(stun.NewTransactionIDSetter(request.TransactionID), stun.BindingSuccess,
				&stun.XORMappedAddress{IP: net.IPv4(198, 51, 100, 7), Port: from.(*net.UDPAddr).Port})
			if err == nil {
				time.AfterFunc(delay, func() { _, _ = conn.WriteTo(answer.Raw, from) })
			}
		}
	}()
	w.peer.SetICEServers([]webrtc.ICEServer{{URLs: []string{"stun:" + address}}})
	return func() { _ = conn.Close() }
}

// hosts is how many lines with host candidates a description has.
func hosts(sdp string) (n int) { return strings.Count(sdp, " typ host") }

func TestAnAnswerHasTheHostCandidates(t *testing.T) {
	for name, delay := range map[string]time.Duration{
		"no server": 0, "late server": 200 * time.Millisecond, "hung server": -1,
	} {
		t.Run(name, func(t *testing.T) {
			run(t, "bot", "alice", func(t *testing.T, w *world) {
				if delay != 0 {
					defer w.stunServer(delay)()
				}
				m := w.join()
				began := time.Now()
				m.camera()
				settle()
				answers, late := w.signals("answer"), w.signals("candidate")
				if len(answers) != 1 {
					t.Fatalf("%d answers", len(answers))
				}
				if d := answers[0].at.Sub(began); d > 2*gatherPatience {
					t.Errorf("answered after %v", d)
				}
				sdp := sdpOf(t, answers[0].data)
				if hosts(sdp) == 0 {
					t.Errorf("the answer has no candidates:\n%s", sdp)
				}
				for _, c := range late {
					if strings.Contains(string(c.data), "typ host") {
						t.Errorf("came again: %s", c.data)
					}
				}
				if (len(late) == 1) != (delay > 0) {
					t.Errorf("%d candidates came late", len(late))
				}
				if w.peer.State() != StateConnected {
					t.Errorf("state %v", w.peer.State())
				}
			})
		})
	}
}

// Nothing but the answer gets through, as on a service that is slow to acknowledge it.
func TestAConnectionNeedsNoCandidatesBesideTheAnswer(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		w.losing(func(kind string) bool { return kind == "candidate" || kind == "end" })
		m := w.join()
		out := m.out
		m.out = func(p any) {
			if _, ok := p.(candidateSignal); !ok { // the bot knows none of the member's
				out(p)
			}
		}
		m.camera()
		settle()
		w.statesAre(t, first)
	})
}

func TestAnOfferHasTheHostCandidates(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		w.setCut(true)
		wait(t, 20*time.Second, "a restart", func() bool { return len(w.signals("offer")) > 0 })
		offer := sdpOf(t, w.signals("offer")[0].data)
		before := attribute(sdpOf(t, w.signals("answer")[0].data), "ice-ufrag")
		if hosts(offer) == 0 || strings.Contains(offer, "ufrag "+before) {
			t.Errorf("candidates of the offer:\n%s", offer)
		}
		w.setCut(false)
		wait(t, 20*time.Second, "connected again", func() bool { return w.peer.State() == StateConnected })
	})
}

// An answer that waits for candidates leaves before one to the next offer.
func TestAnswersLeaveInTheOrderOfTheirOffers(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		defer w.stunServer(-1)()
		m := w.join()
		done := make(chan struct{})
		m.meta("audio-1", "")
		m.add("stream-1", "audio-1", webrtc.MimeTypeOpus)
		m.offer(false)
		w.peer.in.put(func() {
			if d := w.peer.draft; d == nil || d.kind != "answer" {
				t.Errorf("draft %+v", d)
			}
			close(done)
		})
		<-done
		w.peer.in.put(func() { w.peer.perform(offerWanted, nil) })
		settle()
		answers, offers := w.signals("answer"), w.signals("offer")
		if len(answers) == 0 || len(offers) == 0 || answers[0].at.After(offers[0].at) {
			t.Errorf("%d answers, %d offers", len(answers), len(offers))
		}
	})
}

func TestAPeerThatIsClosedSendsNoDraft(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		defer w.stunServer(-1)()
		w.join().camera()
		wait(t, time.Second, "a draft", func() bool {
			has := make(chan bool, 1)
			w.peer.in.put(func() { has <- w.peer.draft != nil })
			return <-has
		})
		w.peer.Close(CauseLeft)
		settle()
		if n := len(w.signals("answer")); n != 0 {
			t.Errorf("%d answers", n)
		}
	})
}
