package remote

import (
	"testing"

	"github.com/pion/webrtc/v4"
)

// Whatever role an offer leaves us, we say it and take it, and keep it.
func TestAnswersSayTheDTLSRoleThatIsTaken(t *testing.T) {
	for _, c := range []struct{ offered, answered string }{
		{"actpass", "passive"}, {"active", "passive"}, {"passive", "active"},
	} {
		t.Run(c.offered, func(t *testing.T) {
			run(t, "bot", "alice", func(t *testing.T, w *world) {
				sinks := forwardAll(w.peer)
				m := w.join()
				m.add("s", "first", webrtc.MimeTypeVP8)
				m.offerEdited(false, replacing("a=setup:actpass", "a=setup:"+c.offered))
				settle()
				m.add("s", "second", webrtc.MimeTypeVP8)
				m.offer(true) // actpass
				settle()
				answers := w.signals("answer")
				if len(answers) != 2 {
					t.Fatalf("%d answers", len(answers))
				}
				for i, a := range answers {
					if got := attribute(sdpOf(t, a.data), "setup"); got != c.answered {
						t.Errorf("answer %d says %s, want %s", i+1, got, c.answered)
					}
				}
				for _, id := range []string{"first", "second"} {
					if s := sinks(id); len(s) != 1 || !flows(s[0]) {
						t.Errorf("no media of the %s track", id)
					}
				}
				if errs := m.failures(); len(errs) > 0 {
					t.Errorf("publisher: %v", errs)
				}
			})
		})
	}
}
