package signaling

import (
	"errors"
	"testing"
	"time"
)

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
