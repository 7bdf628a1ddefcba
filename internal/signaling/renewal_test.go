package signaling

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// renewing is a client that renews its connections, with tokens of 10 minutes.
func renewing(t *testing.T, s *service, change func(*Options)) *running {
	return start(t, s, func(o *Options) {
		o.Renewals = &Renewals{}
		o.InactivityTimeout = -1 // the service of these tests answers no pings
		o.Credential = tenMinutes()
		if change != nil {
			change(o)
		}
	})
}

func tenMinutes() *provider {
	return &provider{token: func(n int) (string, error) { return tokenFor(n, 10*time.Minute), nil }}
}

// tokenFor is the nth token, with that long to live by our clock.
func tokenFor(n int, ttl time.Duration) string {
	claims := jwt.MapClaims{"exp": time.Now().Add(ttl).Unix(), "jti": fmt.Sprint(n)}
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte("key"))
	if err != nil {
		panic(err)
	}
	return signed
}

// welcomeFor welcomes a peer whose token has life left, by a clock of the service that is skewed.
func (p *peer) welcomeFor(id string, life, skew time.Duration) {
	p.t.Helper()
	now := time.Now().Add(skew)
	p.send(`{"type":"welcome","peerId":%q,"expiresAt":%d,"serverTime":%d,"maxMessageSize":65536}`,
		id, now.Add(life).Unix(), now.Unix())
}

// inLobby brings a first connection up whose token has life left, and has it in the channel lobby.
func inLobby(r *running, s *service, life, skew time.Duration) *peer {
	r.t.Helper()
	p := s.accept()
	p.welcomeFor("me", life, skew)
	next[Connected](r)
	done := async(func() error { return r.Subscribe(r.t.Context(), "lobby") })
	p.ack(p.recv("subscribe"))
	if err := <-done; err != nil {
		r.t.Fatal(err)
	}
	next[Subscribed](r)
	return p
}

// takeOver has p, a second connection, take over and enter the lobby.
func takeOver(r *running, p *peer, life time.Duration) {
	r.t.Helper()
	p.welcomeFor("me", life, 0)
	if c := next[Connected](r); !c.TookOver || !c.Resumed {
		r.t.Errorf("connected: %+v", c)
	}
	p.ack(p.recv("subscribe"))
	next[Subscribed](r)
}

func TestRenewalIsDueBeforeTheTokenEnds(t *testing.T) {
	for _, tt := range []struct {
		life, early, late time.Duration // late 0: not at all
	}{
		{24 * time.Hour, 23*time.Hour - tokenMargin, 23*time.Hour + 30*time.Minute - tokenMargin},
		{time.Hour, 54*time.Minute - tokenMargin, 57*time.Minute - tokenMargin},
		{40 * time.Second, 35*time.Second - tokenMargin, 37500*time.Millisecond - tokenMargin},
		{lived, 0, 0}, {time.Second, 0, 0}, {0, 0, 0}, {-time.Hour, 0, 0},
		{never, never - maxRenewalLead - tokenMargin, never},
	} {
		for _, random := range []float64{0, 0.5, 0.999999} {
			after, ok := renewAfter(tt.life, random)
			if ok != (tt.late > 0) || ok && (after < tt.early || after > tt.late) {
				t.Errorf("%v: after %v, %v", tt.life, after, ok)
			}
		}
	}
}

func TestAConnectionIsRenewedBeforeItsTokenEnds(t *testing.T) {
	for name, skew := range map[string]time.Duration{
		"same clock": 0, "service is behind": -25 * time.Hour, "service is ahead": 400 * time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *service) {
				r := renewing(t, s, nil)
				began := time.Now()
				first := inLobby(r, s, 10*time.Minute, skew)
				second := s.accept()
				due := 9*time.Minute - 2*time.Second
				between(t, "renewed", time.Since(began), due, due+32*time.Second)
				if r.State() != StateConnected {
					t.Errorf("state %v", r.State())
				}
				takeOver(r, second, 10*time.Minute)
				if code := first.closedBy(); code != CloseNormal {
					t.Errorf("the first was closed with %v", code)
				}
				r.SendAsync("bob", 1)
				second.ack(second.recv("send"))
				takeOver(r, s.accept(), 10*time.Minute) // and so on
				silent(r)
			})
		})
	}
}

func TestATokenThatDoesNotLiveIsNotRenewedTimeAndAgain(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := renewing(t, s, nil)
		p := s.accept()
		p.welcomeFor("me", 3*time.Second, 0)
		next[Connected](r)
		time.Sleep(time.Hour)
		if n := len(s.dialled()); n != 1 {
			t.Errorf("dialled %d times", n)
		}
		p.close(CloseTokenExpired)
		next[Disconnected](r)
		for i := range 5 { // tokens that are over as they arrive
			if i > 0 {
				nominal := 500 * time.Millisecond << (i - 1)
				between(t, "delay", next[Disconnected](r).RetryIn, nominal*8/10, nominal*12/10)
			}
			s.accept().close(CloseTokenExpired)
		}
	})
}

// A token server may hand out one token until it ends.
func TestATokenThatEndsNoLaterIsNotConnectedWith(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		cached := tokenFor(1, 10*time.Minute)
		r := renewing(t, s, func(o *Options) {
			o.Credential = &provider{token: func(n int) (string, error) {
				if n > 2 {
					return tokenFor(n, 10*time.Minute), nil
				}
				return cached, nil
			}}
		})
		inLobby(r, s, 10*time.Minute, 0)
		time.Sleep(9*time.Minute + 29*time.Second)
		if n := len(s.dialled()); n > 2 {
			t.Errorf("dialled %d times", n)
		}
		silent(r)
		p := s.accept() // with the third
		takeOver(r, p, 10*time.Minute)
	})
}

func TestWhatComesOverBothConnectionsIsToldOnce(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := renewing(t, s, nil)
		first := inLobby(r, s, 10*time.Minute, 0)
		first.send(`{"type":"presence","channel":"lobby","joined":[],"left":[]}`)
		next[Presence](r)
		second := s.accept()
		second.welcomeFor("me", 10*time.Minute, 0)
		next[Connected](r)
		f := second.recv("subscribe")
		frames := []string{
			`{"type":"direct","from":"bob","data":1}`,
			`{"type":"message","channel":"lobby","from":"bob","data":2}`,
			`{"type":"presence","channel":"lobby","joined":[],"left":[{"peerId":"bob"}]}`,
			`{"type":"direct","from":"bob","data":1}`,
		}
		for _, frame := range frames {
			first.send("%s", frame)
			synctest.Wait()
			second.send("%s", frame)
			synctest.Wait()
		}
		first.send(`{"type":"direct","from":"bob","data":"last alone"}`)
		synctest.Wait()
		second.send(`{"type":"direct","from":"bob","data":"next alone"}`)
		var got []string
		for range 6 {
			switch e := (<-r.Events()).(type) {
			case Direct:
				got = append(got, string(e.Data))
			case Message:
				got = append(got, string(e.Data))
			case Presence:
				got = append(got, e.Left...)
			}
		}
		want := []string{"1", "2", "bob", "1", `"last alone"`, `"next alone"`}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		silent(r)
		// A snapshot is told though its bytes came as a delta just now.
		joined := `{"type":"presence","channel":"lobby","joined":[{"peerId":"carol"}],"left":[]}`
		first.send("%s", joined)
		if next[Presence](r).Snapshot {
			t.Error("a delta was taken for a snapshot")
		}
		second.ack(f)
		next[Subscribed](r)
		second.send("%s", joined)
		if !next[Presence](r).Snapshot {
			t.Error("the snapshot was taken for a delta")
		}
		first.closedBy()
		time.Sleep(2 * twinAge)
		second.send("%s", frames[0])
		next[Direct](r)
		second.send("%s", frames[0])
		next[Direct](r)
		if r.overlap.Load() != nil {
			t.Error("frames are still compared")
		}
	})
}

// The service ends the last connection as the next one comes, with any code.
func TestAServiceMayCloseTheLastConnectionItself(t *testing.T) {
	for _, code := range []CloseCode{
		0, CloseNormal, ClosePolicyViolation, CloseAdminDisconnect, CloseTokenExpired,
	} {
		for _, before := range []bool{true, false} {
			bubble(t, func(t *testing.T, s *service) {
				r := renewing(t, s, nil)
				first := inLobby(r, s, 10*time.Minute, 0)
				end := func() {
					if code == 0 {
						first.cut()
					} else {
						first.close(code)
					}
					synctest.Wait()
				}
				second := s.accept()
				if before {
					end()
					if d := next[Disconnected](r); d.Terminal || d.RetryIn != 0 || !d.Established {
						t.Errorf("%v: %+v", code, d)
					}
				}
				second.welcomeFor("me", 10*time.Minute, 0)
				if c := next[Connected](r); c.TookOver == before {
					t.Errorf("%v, before %v: took over %v", code, before, c.TookOver)
				}
				if !before {
					end()
				}
				second.ack(second.recv("subscribe"))
				next[Subscribed](r)
				silent(r)
				time.Sleep(time.Minute)
				if r.State() != StateConnected || len(s.dialled()) != 2 {
					t.Errorf("%v: %v, %d connections", code, r.State(), len(s.dialled()))
				}
			})
		}
	}
}

// The next connection is refused, falls silent, or ends young: the last one stays in use.
func TestARenewalThatFailsCostsNothing(t *testing.T) {
	for name, fails := range map[string]func(r *running, p *peer){
		"refused with 4010":  func(_ *running, p *peer) { p.close(CloseOverConcurrentLimit) },
		"refused for good":   func(_ *running, p *peer) { p.close(CloseInvalidToken) },
		"no welcome":         func(_ *running, p *peer) { p.closedBy() },
		"dropped at once":    func(_ *running, p *peer) { p.cut() },
		"expired on arrival": func(_ *running, p *peer) { p.close(CloseTokenExpired) },
		"ends before it is in the channel": func(r *running, p *peer) {
			p.welcomeFor("me", 10*time.Minute, 0)
			next[Connected](r)
			p.recv("subscribe")
			p.close(CloseOverConcurrentLimit)
			if c := next[Connected](r); !c.TookOver { // the last one again
				r.t.Errorf("connected: %+v", c)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *service) {
				r := renewing(t, s, nil)
				first := inLobby(r, s, time.Hour, 0)
				fails(r, s.accept())
				synctest.Wait()
				silent(r)
				sent := r.SendAsync("bob", 1)
				first.ack(first.recv("send"))
				if err := <-sent; err != nil || r.State() != StateConnected {
					t.Errorf("send: %v, %v", err, r.State())
				}
				failed := time.Now()
				second := s.accept()
				between(t, "tried again", time.Since(failed), 30*time.Second, 2*time.Minute)
				takeOver(r, second, time.Hour)
			})
		})
	}
}

// All attempts to renew fail, and the token ends: the next connection is made at once.
func TestATokenThatCouldNotBeRenewedEndsAsEver(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := renewing(t, s, nil)
		first := inLobby(r, s, 10*time.Minute, 0)
		s.set(func() { s.dialErr = errRefused })
		time.Sleep(10*time.Minute - 250*time.Millisecond)
		if n := len(s.dialled()); n < 2 || n > 3 {
			t.Errorf("%d connections", n)
		}
		s.set(func() { s.dialErr = nil })
		first.close(CloseTokenExpired)
		if d := next[Disconnected](r); d.RetryIn != 0 || d.Terminal {
			t.Errorf("%+v", d)
		}
		connected(r, s)
	})
}

func TestAServiceThatTellsMembersIsLeftBeforeItIsEnteredAgain(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		asked := make(chan time.Time, 10)
		const slow = 8 * time.Second
		r := renewing(t, s, func(o *Options) {
			o.Credential = &provider{token: func(n int) (string, error) {
				asked <- time.Now()
				if n > 1 {
					time.Sleep(slow)
				}
				return tokenFor(n, 10*time.Minute), nil
			}}
		})
		first := inLobby(r, s, 10*time.Minute, 0)
		<-asked
		r.TakeoverTold()
		wanted := <-asked // the token is at hand before the connection ends
		if code := first.closedBy(); code != CloseNormal || time.Since(wanted) != slow {
			t.Errorf("closed with %v after %v", code, time.Since(wanted))
		}
		if d := next[Disconnected](r); d.RetryIn != 0 || d.Terminal || !d.Established {
			t.Errorf("%+v", d)
		}
		second := s.accept()
		if time.Since(wanted) != slow {
			t.Errorf("connected after %v", time.Since(wanted))
		}
		second.welcomeFor("me", 10*time.Minute, 0)
		if c := next[Connected](r); c.TookOver {
			t.Errorf("%+v", c)
		}
		second.ack(second.recv("subscribe"))
		next[Subscribed](r)
	})
}

// A reload changes the credential while the next connection is made.
func TestACredentialThatChangesDuringARenewalIsUsed(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		c := &changing{tenMinutes()}
		r := renewing(t, s, func(o *Options) { o.Credential = c })
		first := inLobby(r, s, 10*time.Minute, 0)
		second := s.accept()
		key, err := PublishableKey(testKey)
		if err != nil {
			t.Fatal(err)
		}
		c.Credential = key
		second.welcomeFor("me", 10*time.Minute, 0)
		next[Connected](r)
		second.ack(second.recv("subscribe"))
		next[Subscribed](r)
		first.closedBy()
		third := s.accept() // the key takes the token's place before that ends
		third.welcome("another")
		if c := next[Connected](r); !c.TookOver || c.PeerID != "another" || r.PeerID() != "another" {
			t.Errorf("%+v", c)
		}
		third.ack(third.recv("subscribe"))
		next[Subscribed](r)
		second.closedBy()
		time.Sleep(24 * time.Hour)
		if n := len(s.dialled()); n != 3 {
			t.Errorf("%d connections", n)
		}
	})
}

func TestAStopDuringARenewalEndsBothConnections(t *testing.T) {
	for _, welcomed := range []bool{false, true} {
		bubble(t, func(t *testing.T, s *service) {
			r := renewing(t, s, nil)
			first := inLobby(r, s, 10*time.Minute, 0)
			second := s.accept()
			if welcomed {
				second.welcomeFor("me", 10*time.Minute, 0)
				second.recv("subscribe")
			}
			began := time.Now()
			r.stop()
			<-r.done
			if r.err != nil || time.Since(began) > time.Second {
				t.Errorf("stopped after %v: %v", time.Since(began), r.err)
			}
			first.closedBy()
			second.closedBy()
		})
	}
}

// A drop of the connection in use, while the next one is made, ends as any drop does.
func TestADropDuringARenewalIsToldOnce(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := renewing(t, s, nil)
		first := inLobby(r, s, 10*time.Minute, 0)
		second := s.accept()
		first.cut()
		next[Disconnected](r)
		second.close(CloseAdminDisconnect)
		if d := next[Disconnected](r); !d.Terminal || d.Established {
			t.Errorf("%+v", d)
		}
		<-r.done
		if r.err == nil {
			t.Error("Run ended without an error")
		}
	})
}
