package signaling

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

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
