package signaling

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
)

func TestClientGoesThroughItsLife(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		key, _ := PublishableKey(testKey)
		idle, err := NewClient(Options{URL: "ws://localhost", Credential: key})
		if err != nil {
			t.Fatal(err)
		}
		if got := idle.State(); got != StateIdle {
			t.Errorf("before Run: %v", got)
		}

		r := start(t, s, nil)
		p := s.accept()
		if got := r.State(); got != StateConnecting {
			t.Errorf("before the welcome: %v", got)
		}
		p.send(`{"type":"welcome","peerId":"p1","expiresAt":946684900,"serverTime":946684800,"maxMessageSize":1000,"metadata":{"a":1}}`)
		c := next[Connected](r)
		if c.PeerID != "p1" || c.MaxMessageSize != 1000 || c.ExpiresAt.Unix() != 946684900 || string(c.Metadata) != `{"a":1}` || c.Resumed {
			t.Errorf("connected: %+v", c)
		}
		if r.State() != StateConnected || r.PeerID() != "p1" || r.MaxMessageSize() != 1000 {
			t.Errorf("connected: %v %q %d", r.State(), r.PeerID(), r.MaxMessageSize())
		}

		p.cut()
		d := next[Disconnected](r)
		if !d.Established || d.Terminal || d.Err == nil || r.State() != StateReconnecting {
			t.Errorf("dropped: %+v, %v", d, r.State())
		}
		p = s.accept()
		p.welcome("p2")
		if c := next[Connected](r); !c.Resumed || c.PeerID != "p2" || r.PeerID() != "p2" || r.State() != StateConnected {
			t.Errorf("back: %+v, %v", c, r.State())
		}

		r.stop()
		<-r.done
		if r.err != nil || r.State() != StateClosed {
			t.Errorf("stopped: %v, %v", r.err, r.State())
		}
		if _, open := <-r.Events(); open {
			t.Error("events are not closed after Run")
		}
	})
}

func TestCredentialTravelsInTheQuery(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		connected(start(t, s, nil), s)
		connected(start(t, s, func(o *Options) { o.Credential = StaticToken("a.b.c") }), s)
		if want := []string{"key=pk_live_s3cr3t-k3y%2B%2F%3D", "token=a.b.c"}; !slices.Equal(s.queries, want) {
			t.Errorf("queries %q, want %q", s.queries, want)
		}
	})
}

func TestFirstConnectIsRetriedLikeAnyDrop(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		s.dialErr = errRefused
		r := start(t, s, nil)
		for i := range 8 {
			d := next[Disconnected](r)
			nominal := min(500*time.Millisecond<<i, 30*time.Second)
			between(t, "delay", d.RetryIn, nominal*8/10, nominal*12/10)
			if d.Established || d.Terminal || r.State() != StateConnecting {
				t.Errorf("attempt %d: %+v, %v", i, d, r.State())
			}
			if !strings.HasPrefix(d.Err.Error(), "dial ws://localhost/v1: ") || !errors.Is(d.Err, errRefused) {
				t.Errorf("error %q", d.Err)
			}
		}
		s.set(func() { s.dialErr = nil })
		connected(r, s)
	})
}

func TestBackoffStartsAfreshAfterAWelcome(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		for range 3 {
			p := connected(r, s)
			s.set(func() { s.dialErr = errRefused })
			p.cut()
			between(t, "first delay", next[Disconnected](r).RetryIn, 400*time.Millisecond, 600*time.Millisecond)
			between(t, "second delay", next[Disconnected](r).RetryIn, 800*time.Millisecond, 1200*time.Millisecond)
			s.set(func() { s.dialErr = nil })
		}
		connected(r, s)
		dials := s.dialled()
		between(t, "first redial", dials[1].Sub(dials[0]), 400*time.Millisecond, 600*time.Millisecond)
	})
}

func TestHandshakeRefusedByStatusIsRetried(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		s.status = 503
		r := start(t, s, nil)
		if err := next[Disconnected](r).Err; err.Error() != "dial ws://localhost/v1: answered 503 instead of opening a WebSocket" {
			t.Errorf("error %q", err)
		}
		s.set(func() { s.status = 0 })
		connected(r, s)
	})
}

func TestRedirectIsNotFollowed(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		s.status = 307
		s.header.Set("Location", "http://elsewhere.example/v1")
		r := start(t, s, nil)
		if err := next[Disconnected](r).Err; !strings.Contains(err.Error(), "answered 307") {
			t.Errorf("error %q", err)
		}
		if len(s.queries) != 1 {
			t.Errorf("%d requests, want 1", len(s.queries))
		}
	})
}

func TestWelcomeIsAwaitedForTenSeconds(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		began := time.Now()
		p := s.accept()
		p.send(`{"type":"pong"}`) // other frames do not count
		d := next[Disconnected](r)
		between(t, "gave up", time.Since(began), 10*time.Second, 10*time.Second)
		ce, ok := errors.AsType[*CloseError](d.Err)
		if !ok || ce.Code != CloseInactivity || !ce.Local || d.Established {
			t.Errorf("%+v", d)
		}
		if got := p.closedBy(); got != CloseInactivity {
			t.Errorf("closed with %v", got)
		}
		connected(r, s)
	})
}

func TestUnansweredDialCountsAgainstTheWelcome(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		s.hangs = true
		began := time.Now()
		r := start(t, s, nil)
		d := next[Disconnected](r)
		between(t, "gave up", time.Since(began), 10*time.Second, 10*time.Second)
		if !errors.Is(d.Err, context.DeadlineExceeded) {
			t.Errorf("error %v", d.Err)
		}
	})
}

func TestSilentConnectionIsPingedTwiceThenGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := connected(r, s)
		began := time.Now()
		for _, after := range []time.Duration{20 * time.Second, 40 * time.Second} {
			f := p.recv("ping")
			if f.raw != `{"type":"ping"}` {
				t.Errorf("ping is %s", f.raw)
			}
			between(t, "ping", f.at.Sub(began), after, after)
		}
		d := next[Disconnected](r)
		between(t, "gave up", time.Since(began), 60*time.Second, 60*time.Second)
		if ce, ok := errors.AsType[*CloseError](d.Err); !ok || ce.Code != CloseInactivity || !ce.Local {
			t.Errorf("error %v", d.Err)
		}
		if got := p.closedBy(); got != CloseInactivity {
			t.Errorf("closed with %v", got)
		}
		connected(r, s)
	})
}

func TestAnyInboundFrameResetsTheWatchdog(t *testing.T) {
	for _, frame := range []string{`{"type":"pong"}`, `{"type":"error","code":"unknown_type"}`, `garbage`} {
		bubble(t, func(t *testing.T, s *service) {
			r := start(t, s, nil)
			p := connected(r, s)
			for range 20 { // each answered ping buys another 20 s
				before := time.Now()
				p.recv("ping")
				between(t, "silence", time.Since(before), 20*time.Second, 20*time.Second)
				p.send("%s", frame)
			}
			silent(r) // unknown_type without requestId is an old service's pong
			if r.State() != StateConnected {
				t.Errorf("after %s: %v", frame, r.State())
			}
		})
	}
}

func TestTrafficSuppressesPings(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := connected(r, s)
		for range 30 {
			time.Sleep(19 * time.Second)
			p.send(`{"type":"direct","from":"bob","data":1}`)
			next[Direct](r)
		}
		synctest.Wait()
		if n := len(p.in); n != 0 {
			t.Errorf("%d frames sent, want none", n)
		}
	})
}

func TestWatchdogOffMeansPingsOff(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, func(o *Options) { o.InactivityTimeout = -1 })
		p := connected(r, s)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if len(p.in) != 0 || r.State() != StateConnected {
			t.Errorf("%d frames sent, %v", len(p.in), r.State())
		}
	})
}

func TestHalfOpenSocketIsLeftWithinASecond(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, func(o *Options) { o.HTTPClient = blackholed(s) })
		connected(r, s)
		began := time.Now()
		next[Disconnected](r)
		between(t, "left", time.Since(began), 60*time.Second, 61*time.Second)
		connected(r, s)
	})
}

func TestTerminalCloseEndsRun(t *testing.T) {
	for _, code := range []CloseCode{CloseInvalidToken, CloseChannelNotAuthorized, CloseAccountSuspended, CloseAdminDisconnect, CloseTokenExpired} {
		for _, welcomed := range []bool{false, true} {
			bubble(t, func(t *testing.T, s *service) {
				r := start(t, s, nil) // a key: 4002 cannot heal
				p := s.accept()
				if welcomed {
					p.welcome("me")
					next[Connected](r)
				}
				p.close(code)
				d := next[Disconnected](r)
				<-r.done
				ce, ok := errors.AsType[*CloseError](r.err)
				if !ok || ce.Code != code || ce.Reason != "reason" || ce.Local {
					t.Errorf("%v: Run returned %v", code, r.err)
				}
				if !d.Terminal || d.Established != welcomed || r.State() != StateClosed {
					t.Errorf("%v: %+v, %v", code, d, r.State())
				}
				if _, open := <-r.Events(); open {
					t.Errorf("%v: events go on", code)
				}
				time.Sleep(time.Hour)
				if n := len(s.dialled()); n != 1 {
					t.Errorf("%v: dialled %d times", code, n)
				}
			})
		}
	}
}

func TestRunReturnsAfterTheLastEventWasRead(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := s.accept()
		p.welcome("me")
		p.close(CloseInvalidToken)
		time.Sleep(time.Minute)
		select {
		case <-r.done:
			t.Fatal("Run returned with unread events")
		default:
		}
		next[Connected](r)
		next[Disconnected](r)
		<-r.done
	})
}

func TestExpiredTokenIsRenewedAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		provider := &provider{token: func(n int) (string, error) { return strings.Repeat("t", n), nil }}
		r := start(t, s, func(o *Options) { o.Credential = provider })
		for range 5 {
			p := connected(r, s)
			time.Sleep(30 * time.Second)
			p.close(CloseTokenExpired)
			if d := next[Disconnected](r); d.RetryIn != 0 || d.Terminal {
				t.Errorf("%+v", d)
			}
		}
		connected(r, s)
		if want := []string{"token=t", "token=tt", "token=ttt", "token=tttt", "token=ttttt", "token=tttttt"}; !slices.Equal(s.queries, want) {
			t.Errorf("tokens %q", s.queries)
		}
	})
}

func TestTokenThatNeverWorksIsNotHammered(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, func(o *Options) { o.Credential = &provider{} })
		s.accept().close(CloseTokenExpired)
		if d := next[Disconnected](r); d.RetryIn != 0 {
			t.Errorf("first: %v", d.RetryIn)
		}
		for i := range 5 {
			s.accept().close(CloseTokenExpired)
			nominal := 500 * time.Millisecond << i
			between(t, "delay", next[Disconnected](r).RetryIn, nominal*8/10, nominal*12/10)
		}
	})
}

func TestOverConcurrentLimitStaysAwayForThirtySeconds(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		for range 10 {
			connected(r, s).close(CloseOverConcurrentLimit)
			between(t, "delay", next[Disconnected](r).RetryIn, 30*time.Second, 36*time.Second)
		}
	})
}

func TestGoingAwayIsObeyed(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := connected(r, s)
		p.send(`{"type":"going_away","retryAfterMs":7000}`)
		if ev := next[GoingAway](r); ev.RetryAfter != 7*time.Second {
			t.Errorf("%+v", ev)
		}
		if r.State() != StateConnected {
			t.Error("left before the close")
		}
		p.close(CloseGoingAway)
		d := next[Disconnected](r)
		between(t, "delay", d.RetryIn, 7*time.Second, 8400*time.Millisecond)
		// What one connection was told does not slow down the next.
		connected(r, s).close(CloseGoingAway)
		between(t, "delay", next[Disconnected](r).RetryIn, 400*time.Millisecond, 600*time.Millisecond)
	})
}

func TestOtherCloseCodesAreRetried(t *testing.T) {
	for _, code := range []CloseCode{CloseNormal, CloseGoingAway, ClosePolicyViolation, CloseMessageTooBig, CloseOverMessageRate, 4999} {
		bubble(t, func(t *testing.T, s *service) {
			r := start(t, s, nil)
			connected(r, s).close(code)
			d := next[Disconnected](r)
			between(t, code.String(), d.RetryIn, 400*time.Millisecond, 600*time.Millisecond)
			if ce, ok := errors.AsType[*CloseError](d.Err); !ok || ce.Code != code || d.Terminal {
				t.Errorf("%v: %+v", code, d)
			}
			connected(r, s)
		})
	}
}

func TestResetStartsTheConnectionOver(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		stuck := errors.New("no snapshot came")
		r := start(t, s, nil)
		r.Reset(stuck) // nothing to reset yet
		p := subscribed(r, s)
		pending := r.SendAsync("bob", 1)
		p.recv("send")
		r.Reset(stuck)
		r.Reset(stuck)
		d := next[Disconnected](r)
		if !errors.Is(d.Err, stuck) || !d.Established || d.Terminal {
			t.Errorf("%+v", d)
		}
		between(t, "delay", d.RetryIn, 400*time.Millisecond, 600*time.Millisecond)
		if err := <-pending; !errors.Is(err, ErrDisconnected) {
			t.Errorf("request in flight: %v", err)
		}
		if got := p.closedBy(); got != CloseNormal {
			t.Errorf("closed with %v", got)
		}
		p = connected(r, s)
		p.ack(p.recv("subscribe"))
		silent(r)
	})
}

func TestStoppingPerformsTheCloseHandshake(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := connected(r, s)
		r.SendAsync("bob", "last words")
		began := time.Now()
		r.stop()
		<-r.done
		between(t, "took", time.Since(began), 0, 0)
		p.recv("send")
		if got := p.closedBy(); got != CloseNormal {
			t.Errorf("closed with %v", got)
		}
	})
}

func TestStoppingTakesAtMostASecond(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, func(o *Options) { o.HTTPClient = blackholed(s) })
		connected(r, s)
		result := r.SendAsync("bob", "lost")
		began := time.Now()
		r.stop()
		<-r.done
		between(t, "took", time.Since(began), 0, time.Second)
		if err := <-result; err == nil {
			t.Error("a lost request succeeded")
		}
	})
}

func TestStoppingInterruptsEveryWait(t *testing.T) {
	cases := map[string]func(s *service, o *Options){
		"dialling":    func(s *service, _ *Options) { s.hangs = true },
		"backing off": func(s *service, _ *Options) { s.dialErr = errRefused },
		"credential": func(_ *service, o *Options) {
			o.Credential = &provider{block: true}
		},
		"limited": func(_ *service, o *Options) {
			o.Connects = NewConnectLimiter()
			o.Connects.SetLimit(0)
			o.Connects.SetBurst(1)
			o.Connects.Allow()
		},
		"welcome": func(*service, *Options) {},
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *service) {
				r := start(t, s, func(o *Options) { change(s, o) })
				time.Sleep(time.Millisecond)
				began := time.Now()
				r.stop()
				<-r.done
				between(t, "took", time.Since(began), 0, time.Second)
				if r.err != nil {
					t.Errorf("Run returned %v", r.err)
				}
			})
		})
	}
}

func TestRunMayBeCalledOnce(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		connected(r, s)
		if err := r.Run(t.Context()); err == nil {
			t.Error("a second Run succeeded")
		}
	})
}

func TestConnectsOfManyClientsStayUnderTheAddressLimit(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		s.dialErr = errRefused
		limiter := NewConnectLimiter()
		for range 50 {
			r := start(t, s, func(o *Options) { o.Connects = limiter })
			go func() {
				for range r.Events() {
				}
			}()
		}
		time.Sleep(10 * time.Minute)
		dials := s.dialled()
		for i := range dials {
			if i >= 60 && dials[i].Sub(dials[i-60]) < time.Minute {
				t.Fatalf("61 connects within %v", dials[i].Sub(dials[i-60]))
			}
		}
		if len(dials) < 200 {
			t.Errorf("only %d connects in 10 minutes", len(dials))
		}
	})
}

func TestInboundMessageOverOneMebibyteClosesTheConnection(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := connected(r, s)
		frame := func(size int) string {
			const head, tail = `{"type":"direct","from":"bob","data":"`, `"}`
			return head + strings.Repeat("x", size-len(head)-len(tail)) + tail
		}
		p.send("%s", frame(1<<20))
		if d := next[Direct](r); len(d.Data) < 1<<20-100 {
			t.Errorf("%d bytes arrived", len(d.Data))
		}
		p.conn.Write(t.Context(), websocket.MessageText, []byte(frame(1<<20+1)))
		d := next[Disconnected](r)
		if ce, ok := errors.AsType[*CloseError](d.Err); !ok || ce.Code != CloseMessageTooBig || !ce.Local {
			t.Errorf("error %v", d.Err)
		}
		if got := p.closedBy(); got != CloseMessageTooBig {
			t.Errorf("closed with %v", got)
		}
		connected(r, s)
	})
}

func TestICEServersAreKeptUntilAWelcomeHasNewOnes(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		for _, step := range []struct{ metadata, want string }{
			{`{}`, ""},
			{`{"iceServers":[{"urls":"turn:a","username":"u","credential":"1"}]}`, "1"},
			{`{"other":1}`, "1"},
			{`{"iceServers":[{"urls":"http:a"}]}`, "1"},
			{`{"iceServers":[{"urls":["turn:a"],"username":"u","credential":"2"}]}`, "2"},
		} {
			p := s.accept()
			p.send(`{"type":"welcome","peerId":"me","expiresAt":null,"serverTime":1,"maxMessageSize":1,"metadata":%s}`, step.metadata)
			got := ""
			if c := next[Connected](r); len(c.ICEServers) == 1 {
				got = c.ICEServers[0].Credential
			}
			if got != step.want {
				t.Errorf("after %s: credential %q, want %q", step.metadata, got, step.want)
			}
			p.cut()
			next[Disconnected](r)
		}
	})
}

func TestCredentialIsAwaitedForTenSeconds(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		provider := &provider{block: true}
		r := start(t, s, func(o *Options) { o.Credential = provider })
		began := time.Now()
		for i := range 3 {
			d := next[Disconnected](r)
			if i == 0 {
				between(t, "gave up", time.Since(began), 10*time.Second, 10*time.Second)
			}
			ce, ok := errors.AsType[*CredentialError](d.Err)
			if !ok || ce.Consecutive != i+1 || !errors.Is(d.Err, context.DeadlineExceeded) || d.Terminal {
				t.Errorf("%+v", d)
			}
		}
		if n := len(s.dialled()); n != 0 {
			t.Errorf("dialled %d times without a credential", n)
		}
	})
}

func TestCredentialFailureIsRetried(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		broken := errors.New("mint is closed")
		r := start(t, s, func(o *Options) {
			o.Credential = &provider{token: func(n int) (string, error) {
				if n != 3 {
					return "", broken
				}
				return "ok", nil
			}}
		})
		between(t, "delay", next[Disconnected](r).RetryIn, 400*time.Millisecond, 600*time.Millisecond)
		d := next[Disconnected](r)
		between(t, "delay", d.RetryIn, 800*time.Millisecond, 1200*time.Millisecond)
		if !errors.Is(d.Err, broken) {
			t.Errorf("error %v", d.Err)
		}
		connected(r, s).cut()
		next[Disconnected](r)
		if ce, ok := errors.AsType[*CredentialError](next[Disconnected](r).Err); !ok || ce.Consecutive != 1 {
			t.Errorf("after a success: %v", ce)
		}
	})
}

func TestConnectionThatCannotBeWrittenIsGivenUp(t *testing.T) {
	for name, closes := range map[string]bool{"silently": false, "with a close code": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *service) {
				r := start(t, s, func(o *Options) { o.HTTPClient = unwritable(s) })
				p := connected(r, s)
				began := time.Now()
				result := r.SendAsync("bob", 1)
				synctest.Wait()
				if closes {
					p.close(CloseOverMessageRate)
				}
				d := next[Disconnected](r)
				between(t, "took", time.Since(began), 0, time.Second)
				if ce, ok := errors.AsType[*CloseError](d.Err); ok != closes || ok && ce.Code != CloseOverMessageRate {
					t.Errorf("error %v", d.Err)
				}
				if err := <-result; !errors.Is(err, ErrDisconnected) {
					t.Errorf("request: %v", err)
				}
			})
		})
	}
}

func TestNewClientRefusesBadOptions(t *testing.T) {
	key, _ := PublishableKey(testKey)
	for name, o := range map[string]Options{
		"no credential": {},
		"bad url":       {URL: "http://x", Credential: key},
		"negative":      {Credential: key, AckTimeout: -1},
	} {
		if _, err := NewClient(o); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if _, err := NewClient(Options{Credential: key}); err != nil {
		t.Errorf("defaults: %v", err)
	}
}
