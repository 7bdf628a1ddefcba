package signaling

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
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

func TestBackoffStartsAfreshAfterALife(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		for range 3 {
			p := connected(r, s)
			time.Sleep(lived)
			s.set(func() { s.dialErr = errRefused })
			p.cut()
			between(t, "first delay", next[Disconnected](r).RetryIn, 0, 100*time.Millisecond)
			between(t, "second delay", next[Disconnected](r).RetryIn, 400*time.Millisecond, 600*time.Millisecond)
			between(t, "third delay", next[Disconnected](r).RetryIn, 800*time.Millisecond, 1200*time.Millisecond)
			s.set(func() { s.dialErr = nil })
		}
		connected(r, s)
	})
}

func TestAServiceThatWelcomesAndDropsIsNotHammered(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		for i := range 8 {
			connected(r, s).cut()
			nominal := min(500*time.Millisecond<<i, 30*time.Second)
			between(t, "delay", next[Disconnected](r).RetryIn, nominal*8/10, nominal*12/10)
		}
		connected(r, s)
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
