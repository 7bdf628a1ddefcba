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

func TestSenderMetadataIsAskedForOnlyWhenWanted(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, func(o *Options) { o.IncludeSenderMetadata = true })
		p := connected(r, s)
		done := async(func() error { return r.Subscribe(t.Context(), "a") })
		f := p.recv("subscribe")
		if !f.IncludeSenderMetadata {
			t.Errorf("sent %s", f.raw)
		}
		p.ack(f)
		<-done
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

func TestRetriableRefusalsAreRepeated(t *testing.T) {
	for _, code := range []ErrorCode{CodeBackendError, CodeInternalError} {
		bubble(t, func(t *testing.T, s *service) {
			r := start(t, s, nil)
			p := connected(r, s)
			result := r.SendAsync("bob", 1)
			first := p.recv("send")
			p.fail(first, code)
			second := p.recv("send")
			between(t, "first retry", second.at.Sub(first.at), 200*time.Millisecond, 300*time.Millisecond)
			if first.RequestID == second.RequestID {
				t.Error("requestId used twice")
			}
			p.fail(second, code)
			third := p.recv("send")
			between(t, "second retry", third.at.Sub(second.at), 400*time.Millisecond, 600*time.Millisecond)
			p.ack(third)
			if err := <-result; err != nil {
				t.Errorf("error %v", err)
			}

			result = r.SendAsync("bob", 1)
			for range 3 {
				p.fail(p.recv("send"), code)
			}
			if re, ok := errors.AsType[*RequestError](<-result); !ok || re.Code != code {
				t.Errorf("error %v", re)
			}
		})
	}
}

func TestOtherRefusalsAreFinal(t *testing.T) {
	for _, code := range []ErrorCode{CodeActionNotPermitted, CodeOverMessageQuota, CodePeerNotFound, "brand_new_code"} {
		bubble(t, func(t *testing.T, s *service) {
			r := start(t, s, nil)
			p := connected(r, s)
			result := r.SendAsync("bob", 1)
			p.fail(p.recv("send"), code)
			if re, ok := errors.AsType[*RequestError](<-result); !ok || re.Code != code {
				t.Errorf("error %v", re)
			}
			time.Sleep(10 * time.Second)
			if len(p.in) != 0 {
				t.Errorf("%s was repeated", code)
			}
			silent(r)
		})
	}
}

func TestRepeatDuringADropIsDisconnected(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := connected(r, s)
		result := r.SendAsync("bob", 1)
		p.fail(p.recv("send"), CodeBackendError)
		time.Sleep(time.Millisecond)
		p.cut()
		if err := <-result; !errors.Is(err, ErrDisconnected) {
			t.Errorf("error %v", err)
		}
		p = connectedAgain(r, s)
		time.Sleep(10 * time.Second)
		if len(p.in) != 0 {
			t.Error("the request came back on the next connection")
		}
	})
}

func TestUnaskedErrorsArePassedOn(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := connected(r, s)
		for code, fatal := range map[ErrorCode]bool{
			CodeAccountSuspended: true, CodeChannelNotAuthorized: true, CodeActionNotPermitted: true,
			CodeInvalidToken: true, CodeTokenExpired: true, CodeOverMessageQuota: false, "brand_new_code": false,
		} {
			p.send(`{"type":"error","code":%q,"message":"m"}`, code)
			if e := next[*ServerError](r); e.Code != code || e.Message != "m" || e.Fatal() != fatal {
				t.Errorf("%s: %+v, fatal %v", code, e, e.Fatal())
			}
		}
		p.send(`{"type":"error","code":"action_not_permitted","requestId":"late"}`)
		if e := next[*ServerError](r); e.RequestID != "late" || e.Fatal() {
			t.Errorf("an error for a forgotten request: %+v", e)
		}
		p.send(`{"type":"error","code":"unknown_type","requestId":"other"}`)
		next[*ServerError](r) // not the answer to a ping
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

// connectedAgain reads the drop, then brings the next connection up.
func connectedAgain(r *running, s *service) *peer {
	r.t.Helper()
	next[Disconnected](r)
	return connected(r, s)
}

func TestSubscriptionsAreReplayedOnReconnect(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := subscribed(r, s)
		for range 3 {
			p.cut()
			p = connectedAgain(r, s)
			f := p.recv("subscribe")
			if f.Channel != "lobby" {
				t.Errorf("replayed %s", f.raw)
			}
			p.ack(f)
		}
		done := async(func() error { return r.Unsubscribe(t.Context(), "lobby") })
		p.ack(p.recv("unsubscribe"))
		<-done
		p.cut()
		p = connectedAgain(r, s)
		time.Sleep(10 * time.Second)
		if len(p.in) != 0 {
			t.Error("replayed after unsubscribe")
		}
	})
}

func TestFailedReplayIsRetriedThreeTimes(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		subscribed(r, s).cut()
		p := connectedAgain(r, s)
		var last time.Time
		for i := range 4 {
			f := p.recv("subscribe")
			if i > 0 {
				between(t, "retry", f.at.Sub(last), 2*time.Second, 2*time.Second)
			}
			last = f.at
			p.fail(f, CodeBackendError)
		}
		ev := next[ReplayFailed](r)
		if re, ok := errors.AsType[*RequestError](ev.Err); !ok || ev.Channel != "lobby" || re.Code != CodeBackendError {
			t.Errorf("%+v", ev)
		}
		time.Sleep(15 * time.Second)
		if len(p.in) != 0 {
			t.Error("retried a fourth time")
		}
		p.cut() // a new connection has a new budget
		p = connectedAgain(r, s)
		p.ack(p.recv("subscribe"))
	})
}

func TestReplayWhoseAckIsLostIsRetried(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		subscribed(r, s).cut()
		p := connectedAgain(r, s)
		first := p.recv("subscribe")
		second := p.recv("subscribe")
		between(t, "retry", second.at.Sub(first.at), 17*time.Second, 17*time.Second)
		p.ack(second)
	})
}

func TestReplayRetriesEndWithTheirConnection(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		subscribed(r, s).cut()
		p := connectedAgain(r, s)
		p.fail(p.recv("subscribe"), CodeBackendError)
		time.Sleep(time.Second)
		p.cut()
		p = connectedAgain(r, s)
		p.ack(p.recv("subscribe"))
		time.Sleep(10 * time.Second)
		if len(p.in) != 0 {
			t.Errorf("%d more frames", len(p.in))
		}
	})
}

func TestSubscribeOfUnknownOutcomeIsTracked(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := connected(r, s)
		done := async(func() error { return r.Subscribe(t.Context(), "lobby") })
		p.recv("subscribe")
		p.cut()
		if err := <-done; !errors.Is(err, ErrDisconnected) {
			t.Errorf("error %v", err)
		}
		p = connectedAgain(r, s)
		p.ack(p.recv("subscribe"))
	})
}

func TestSubscribeThatWasRefusedOrNeverLeftIsNotTracked(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		if err := r.Subscribe(t.Context(), "early"); !errors.Is(err, ErrNotConnected) {
			t.Errorf("error %v", err)
		}
		p := connected(r, s)
		done := async(func() error { return r.Subscribe(t.Context(), "forbidden") })
		p.fail(p.recv("subscribe"), CodeChannelNotAuthorized)
		if re, ok := errors.AsType[*RequestError](<-done); !ok || re.Code != CodeChannelNotAuthorized {
			t.Errorf("error %v", re)
		}
		p.cut()
		p = connectedAgain(r, s)
		time.Sleep(10 * time.Second)
		if len(p.in) != 0 {
			t.Error("replayed")
		}
	})
}

func TestRefusedResubscribeKeepsTheLiveSubscription(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := subscribed(r, s)
		done := async(func() error { return r.Subscribe(t.Context(), "lobby") })
		p.fail(p.recv("subscribe"), CodeChannelLimitExceeded)
		<-done
		p.cut()
		p = connectedAgain(r, s)
		p.ack(p.recv("subscribe"))
	})
}

func TestFirstPresenceAfterASubscribeIsTheSnapshot(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		presence := func(p *peer, channel, joined, left string) bool {
			t.Helper()
			p.send(`{"type":"presence","channel":%q,"joined":[%s],"left":[%s]}`, channel, joined, left)
			return next[Presence](r).Snapshot
		}
		const alice, bob = `{"peerId":"alice","metadata":{"n":1}}`, `{"peerId":"bob"}`
		p := subscribed(r, s)
		for i, step := range []struct {
			channel, joined, left string
			want                  bool
		}{
			{"other", alice, "", false}, // not ours
			{"lobby", "", bob, false},   // underway before the subscribe
			{"lobby", alice, "", true},
			{"lobby", bob, "", false},
			{"lobby", "", bob, false},
		} {
			if got := presence(p, step.channel, step.joined, step.left); got != step.want {
				t.Errorf("step %d: snapshot %v", i, got)
			}
		}

		done := async(func() error { return r.Subscribe(t.Context(), "lobby") })
		f := p.recv("subscribe")
		if !presence(p, "lobby", alice, "") { // whether before or after the ack
			t.Error("no snapshot after subscribing again")
		}
		p.ack(f)
		<-done

		p.cut()
		p = connectedAgain(r, s)
		f = p.recv("subscribe")
		p.ack(f)
		if !presence(p, "lobby", "", "") { // an empty channel has a snapshot too
			t.Error("no snapshot after the reconnect")
		}
		if presence(p, "lobby", alice, "") {
			t.Error("a second snapshot after the reconnect")
		}
	})
}

func TestRefusedSubscribeBringsNoSnapshot(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := subscribed(r, s)
		p.send(`{"type":"presence","channel":"lobby","joined":[],"left":[]}`)
		next[Presence](r)
		done := async(func() error { return r.Subscribe(t.Context(), "lobby") })
		p.fail(p.recv("subscribe"), CodeChannelLimitExceeded)
		<-done
		p.send(`{"type":"presence","channel":"lobby","joined":[{"peerId":"x"}],"left":[]}`)
		if next[Presence](r).Snapshot {
			t.Error("a delta after a refused subscribe was taken for the snapshot")
		}
	})
}
