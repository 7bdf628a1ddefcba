package signaling

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRequestsAreWrittenAsTheProtocolSays(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := connected(r, s)
		ctx := t.Context()
		for _, c := range []struct {
			call func() error
			want string
		}{
			{func() error { return r.Subscribe(ctx, "a") }, `{"type":"subscribe","channel":"a","requestId":"ID"}`},
			{func() error { return r.Publish(ctx, "a", nil) }, `{"type":"publish","channel":"a","data":null,"requestId":"ID"}`},
			{func() error { return r.Publish(ctx, "a", map[string]string{"k": "<&>"}) }, `{"type":"publish","channel":"a","data":{"k":"<&>"},"requestId":"ID"}`},
			{func() error { return r.Send(ctx, "bob", json.RawMessage(`[1, 2]`)) }, `{"type":"send","to":"bob","data":[1,2],"requestId":"ID"}`},
			{func() error { return <-r.SendAsync("bob", 1) }, `{"type":"send","to":"bob","data":1,"requestId":"ID"}`},
			{func() error { return r.Unsubscribe(ctx, "a") }, `{"type":"unsubscribe","channel":"a","requestId":"ID"}`},
		} {
			done := async(c.call)
			f := <-p.in
			if got := strings.ReplaceAll(f.raw, f.RequestID, "ID"); got != c.want {
				t.Errorf("sent %s\nwant %s", got, c.want)
			}
			if n := len(f.RequestID); n == 0 || n > 128 {
				t.Errorf("requestId of %d characters", n)
			}
			p.ack(f)
			if err := <-done; err != nil {
				t.Errorf("%s: %v", c.want, err)
			}
		}
	})
}

func TestAcksFindTheirRequests(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := connected(r, s)
		a, b, c := r.SendAsync("a", 1), r.SendAsync("b", 2), r.SendAsync("c", 3)
		fa, fb, fc := p.recv("send"), p.recv("send"), p.recv("send")
		p.ack(fc)
		p.fail(fa, CodePeerNotFound)
		p.ack(fc) // again, and an unknown one: harmless
		p.send(`{"type":"ack","requestId":"nobody"}`)
		p.ack(fb)
		if err := <-b; err != nil {
			t.Errorf("b: %v", err)
		}
		if err := <-c; err != nil {
			t.Errorf("c: %v", err)
		}
		re, ok := errors.AsType[*RequestError](<-a)
		if !ok || re.Code != CodePeerNotFound || re.Op != "send" || re.Target != "a" || re.Message != "words of the service" {
			t.Errorf("a: %v", re)
		}
		if got := re.Error(); got != `send "a": peer_not_found` {
			t.Errorf("a: %q", got)
		}
	})
}

func TestAckIsAwaitedForFifteenSeconds(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := connected(r, s)
		began := time.Now()
		err := r.Send(t.Context(), "bob", 1)
		between(t, "took", time.Since(began), 15*time.Second, 15*time.Second)
		te, ok := errors.AsType[*AckTimeoutError](err)
		if !ok || te.Op != "send" || te.Target != "bob" {
			t.Errorf("error %v", err)
		}
		p.ack(p.recv("send")) // too late
		silent(r)
		if r.State() != StateConnected {
			t.Errorf("one lost ack ended the connection: %v", r.State())
		}
	})
}

func TestRequestsInFlightAtADropAreDisconnected(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := connected(r, s)
		result := r.SendAsync("bob", 1)
		p.recv("send")
		p.cut()
		if err := <-result; !errors.Is(err, ErrDisconnected) || errors.Is(err, ErrNotConnected) {
			t.Errorf("error %v", err)
		}
	})
}

func TestRequestsWithoutAConnectionNeverLeave(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		refused := func(when string) {
			t.Helper()
			ctx := t.Context()
			for _, err := range []error{
				r.Subscribe(ctx, "a"), r.Unsubscribe(ctx, "a"), r.Publish(ctx, "a", 1), r.Send(ctx, "bob", 1), <-r.SendAsync("bob", 1),
			} {
				if !errors.Is(err, ErrNotConnected) || errors.Is(err, ErrDisconnected) {
					t.Errorf("%s: error %v", when, err)
				}
			}
		}
		refused("connecting")
		p := connected(r, s)
		p.cut()
		next[Disconnected](r)
		refused("reconnecting")
		p = connected(r, s)
		synctest.Wait()
		if n := len(p.in); n != 0 {
			t.Errorf("%d frames left", n)
		}
		r.stop()
		<-r.done
		refused("closed")
	})
}

func TestRequestsStillQueuedAtADropNeverLeft(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := connected(r, s)
		var results []<-chan error
		for range messageBurst + 50 {
			results = append(results, r.SendAsync("bob", 1))
		}
		synctest.Wait()
		left := len(p.in)
		p.cut()
		next[Disconnected](r)
		for i, result := range results {
			want := ErrDisconnected
			if i >= left {
				want = ErrNotConnected
			}
			if err := <-result; !errors.Is(err, want) {
				t.Fatalf("request %d of %d, %d left: %v", i, len(results), left, err)
			}
		}
	})
}

func TestCallerThatGivesUpTakesItsQueuedRequestAlong(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := connected(r, s)
		for range messageBurst + 100 {
			r.SendAsync("bob", "filler")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := r.Send(ctx, "bob", "abandoned"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		time.Sleep(5 * time.Second)
		for len(p.in) > 0 {
			if f := <-p.in; string(f.Data) == `"abandoned"` {
				t.Error("the abandoned request left")
			}
		}
	})
}

func TestOversizedPayloadIsRefusedLocally(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := s.accept()
		p.send(`{"type":"welcome","peerId":"me","expiresAt":null,"serverTime":1,"maxMessageSize":100}`)
		next[Connected](r)
		fits, over := strings.Repeat("é", 49), strings.Repeat("é", 49)+"x" // bytes, not characters
		for _, send := range []func(any) error{
			func(v any) error { return r.Send(t.Context(), "bob", v) },
			func(v any) error { return r.Publish(t.Context(), "a", v) },
			func(v any) error { return <-r.SendAsync("bob", v) },
		} {
			oe, ok := errors.AsType[*OversizedError](send(over))
			if !ok || oe.Size != 101 || oe.Cap != 100 {
				t.Errorf("over: %v", oe)
			}
			done := async(func() error { return send(fits) })
			p.ack(<-p.in)
			if err := <-done; err != nil {
				t.Errorf("fits: %v", err)
			}
		}
	})
}

func TestPayloadThatIsNoJSONIsRefusedLocally(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := connected(r, s)
		for _, data := range []any{func() {}, json.RawMessage("{"), make(chan int)} {
			if err := r.Send(t.Context(), "bob", data); err == nil {
				t.Errorf("%T was sent", data)
			}
		}
		synctest.Wait()
		if len(p.in) != 0 {
			t.Error("a frame left")
		}
	})
}

func TestBadNamesAreRefusedLocally(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := connected(r, s)
		for _, err := range []error{
			r.Subscribe(t.Context(), "_Metered/x"), r.Unsubscribe(t.Context(), ""), r.Publish(t.Context(), "a\n", 1),
			r.Send(t.Context(), "", 1), <-r.SendAsync("a\x00", 1),
		} {
			if _, ok := errors.AsType[*NameError](err); !ok {
				t.Errorf("error %v", err)
			}
		}
		p.cut()
		p = connectedAgain(r, s)
		synctest.Wait()
		if len(p.in) != 0 {
			t.Error("a frame left")
		}
	})
}

func TestMessagesAreDelayedToTheRateNeverLost(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := connected(r, s)
		const n = 2000
		for i := range n {
			r.SendAsync("bob", i)
		}
		// The service's bucket: 100 a second, 200 at once; beyond is a close 4011.
		tokens, last := 200.0, time.Now()
		began := last
		for i := range n {
			f := p.recv("send")
			if string(f.Data) != fmt.Sprint(i) {
				t.Fatalf("frame %d carries %s", i, f.Data)
			}
			tokens = min(200, tokens+100*f.at.Sub(last).Seconds())
			last = f.at
			if tokens--; tokens < 0 {
				t.Fatalf("frame %d trips the limit", i)
			}
			p.ack(f)
		}
		if took := last.Sub(began); took > n/80*time.Second {
			t.Errorf("%d frames took %v", n, took)
		}
	})
}

func TestSendQueueIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		connected(r, s)
		var err error
		for range maxWaitingRequests + messageBurst + 10 {
			select {
			case err = <-r.SendAsync("bob", 1):
			default:
			}
		}
		if !errors.Is(err, ErrQueueFull) {
			t.Errorf("error %v", err)
		}
	})
}
