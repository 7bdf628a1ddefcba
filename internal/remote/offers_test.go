package remote

import (
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// flood repeats the member's last offer, faster than it may offer.
func flood(m *publisher) {
	sdp := m.pc.LocalDescription().SDP
	for range 4 * maxOffers {
		m.out(descriptionSignal{"rtc-description", sdpEnvelope{"offer", sdp}})
		time.Sleep(10 * time.Millisecond)
	}
}

func TestOffersOfAMemberArePacedAndTheNewestCounts(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		start, before := time.Now(), len(w.signals("answer"))
		flood(m)
		m.add("stream-2", "video-2", webrtc.MimeTypeVP8)
		m.offer(false)
		time.Sleep(offerEvery)
		settle()
		answers := len(w.signals("answer")) - before
		if most := maxOffers + int(time.Since(start)/offerEvery); answers < maxOffers || answers > most {
			t.Errorf("%d answers, want %d to %d", answers, maxOffers, most)
		}
		w.seen.expect(t, "track video-2[stream-2]", "stream+ stream-2")
		if n := testutil.ToFloat64(w.api.metrics.signalsDropped.WithLabelValues("superseded")); int(n) != 4*maxOffers+1-answers {
			t.Errorf("%v offers were counted as superseded", n)
		}
	})
}

// Who answers our offer has taken its own back.
func TestAnAnswerTakesBackTheOfferThatWaits(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		flood(m)
		before := len(w.signals("answer"))
		m.out(descriptionSignal{"rtc-description", sdpEnvelope{"answer", m.pc.LocalDescription().SDP}})
		settle()
		if n := len(w.signals("answer")); n != before {
			t.Errorf("%d answers to an offer that was taken back", n-before)
		}
		m.offer(false)
		settle()
		if n := len(w.signals("answer")); n != before+1 {
			t.Errorf("%d answers to the next offer", n-before)
		}
	})
}

// Answers that the service has not taken yet are as many as a member may make
// offers at once, however long that takes.
func TestOffersWaitForTheAnswersBeforeThem(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		taken, before := make(chan error), len(w.signals("answer"))
		deliver := w.peer.opts.Signal
		w.peer.opts.Signal = func(payload any) <-chan error {
			deliver(payload)
			return taken
		}
		flood(m)
		time.Sleep(time.Minute)
		flood(m)
		if n := len(w.signals("answer")) - before; n != maxOffers {
			t.Errorf("%d answers while none was taken, want %d", n, maxOffers)
		}
		close(taken)
		settle()
		if n := len(w.signals("answer")) - before; n != maxOffers+1 {
			t.Errorf("%d answers when they had been", n)
		}
	})
}
