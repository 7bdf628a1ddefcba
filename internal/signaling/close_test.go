package signaling

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

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

// A reload may put tokens in the place of a key that was there when the client was made.
func TestExpiryIsJudgedByTheCredentialOfThatMoment(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		key, err := PublishableKey(testKey)
		if err != nil {
			t.Fatal(err)
		}
		c := &changing{key}
		r := start(t, s, func(o *Options) { o.Credential = c })
		p := connected(r, s)
		c.Credential = &provider{}
		p.close(CloseTokenExpired)
		if d := next[Disconnected](r); d.Terminal {
			t.Fatal("a credential that can be renewed was given up")
		}
		p = connected(r, s)
		c.Credential = key
		p.close(CloseTokenExpired) // that was a token
		if d := next[Disconnected](r); d.Terminal {
			t.Fatal("a key that was not tried yet was given up")
		}
		connected(r, s).close(CloseTokenExpired)
		if d := next[Disconnected](r); !d.Terminal {
			t.Error("a key was tried again")
		}
	})
}

// changing is a credential that a reload replaces.
type changing struct{ Credential }

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
		between(t, "delay", next[Disconnected](r).RetryIn, 800*time.Millisecond, 1200*time.Millisecond)
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
		next[Subscribed](r)
		silent(r)
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
