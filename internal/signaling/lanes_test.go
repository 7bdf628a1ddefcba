package signaling

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Whoever makes us send much waits for itself: what goes to others passes it,
// each in its own order.
func TestWhatOnePeerIsSentHoldsUpNoOther(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := connected(r, s)
		for i := range 10 * messageRate {
			r.SendAsync(fmt.Sprint("flooder-", i%60), i)
		}
		time.Sleep(2 * time.Second) // the burst has left, and some more
		asked := time.Now()
		const n = 5 // an answer and candidates
		for i := range n {
			r.SendAsync("alice", i)
		}
		subscribed := async(func() error { return r.Subscribe(t.Context(), "room") })
		seen := map[string]int{}
		for got := 0; got < n; {
			f := <-p.in
			p.ack(f)
			switch {
			case f.Type == "subscribe":
				if wait := f.at.Sub(asked); wait > time.Second {
					t.Errorf("the subscription waited %v", wait)
				}
			case f.To == "alice":
				if string(f.Data) != fmt.Sprint(got) {
					t.Errorf("%s came in place of %d", f.Data, got)
				}
				if got++; f.at.Sub(asked) > time.Second {
					t.Errorf("message %d waited %v", got, f.at.Sub(asked))
				}
			default:
				var i int
				fmt.Sscan(string(f.Data), &i)
				if before, ok := seen[f.To]; ok && i <= before {
					t.Fatalf("%s got %d after %d", f.To, i, before)
				}
				seen[f.To] = i
			}
		}
		if err := <-subscribed; err != nil {
			t.Error(err)
		}
	})
}

func TestWhoHasTheMostWaitingIsRefusedWhenTooMuchDoes(t *testing.T) {
	for name, data := range map[string]any{"many": 1, "large": strings.Repeat("x", 60_000)} {
		bubble(t, func(t *testing.T, s *service) {
			r := start(t, s, nil)
			p := connected(r, s)
			var flood []<-chan error
			for range maxWaitingRequests + messageBurst + 10 {
				flood = append(flood, r.SendAsync("flooder", data))
			}
			refused := 0
			for _, done := range flood {
				select {
				case err := <-done:
					if refused++; !errors.Is(err, ErrQueueFull) {
						t.Fatalf("%s: %v", name, err)
					}
				default:
				}
			}
			if refused == 0 {
				t.Fatalf("%s: nothing was refused", name)
			}
			done := r.SendAsync("alice", 1)
			for {
				f := p.recv("send")
				p.ack(f)
				if f.To == "alice" {
					break
				}
			}
			if err := <-done; err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}
