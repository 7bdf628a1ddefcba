package devserver

import (
	"net/http"
	"net/url"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestOthersAreToldOfADropWhatThePolicySays(t *testing.T) {
	const before, after, later = 0, 1, 2
	for _, c := range []struct {
		name   string
		policy PresencePolicy
		told   [3][]string // at the drop, at the re-subscribe, and after Stale
	}{
		{"left at once", LeftAtOnce, [...][]string{before: {"presence lobby -alice"}, after: {"presence lobby +alice"}, later: nil}},
		{"flap, two frames", FlapTwoFrames, [...][]string{before: nil, after: {"presence lobby -alice", "presence lobby +alice"}, later: nil}},
		{"flap, one frame", FlapOneFrame, [...][]string{before: nil, after: {"presence lobby +alice -alice"}, later: nil}},
		{"stale left", StaleLeft, [...][]string{before: nil, after: {"presence lobby +alice"}, later: {"presence lobby -alice"}}},
		{"silent", Silent, [3][]string{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, b *bubble) {
				alice, bob := b.join("alice"), b.join("bob")
				bob.subscribe("lobby")
				synctest.Wait()
				alice.subscribe("lobby")
				alice.expect("presence lobby +bob")
				bob.expect("presence lobby", "presence lobby +alice")

				if n := b.Drop("alice", Drop{Presence: c.policy, Stale: time.Second}); n != 1 {
					t.Errorf("dropped %d sockets", n)
				}
				alice.expect("cut")
				bob.expect(c.told[before]...)
				bob.send(`{"type":"send","to":"alice","data":1,"requestId":"1"}`)
				if c.policy == LeftAtOnce {
					bob.expect("error peer_not_found 1")
				} else {
					bob.expect("ack 1")
				}

				again := b.join("alice")
				again.subscribe("lobby")
				again.expect("presence lobby +bob")
				bob.expect(c.told[after]...)
				time.Sleep(time.Second)
				bob.expect(c.told[later]...)
				if got, want := b.Members("lobby"), []string{"bob", "alice"}; !slices.Equal(got, want) {
					t.Errorf("members %q, want %q", got, want)
				}
			})
		})
	}
}

func TestALingeringPeerLeavesInTheEnd(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bubble) {
		alice, bob, carol := b.join("alice"), b.join("bob"), b.join("carol")
		for _, c := range []*client{alice, bob, carol} {
			c.subscribe("lobby")
			synctest.Wait()
		}
		carol.received()
		b.Drop("alice", Drop{Presence: Silent, Linger: 5 * time.Second})
		b.Drop("bob", Drop{Presence: Silent})
		carol.subscribe("lobby")
		carol.expect("presence lobby +alice +bob")
		time.Sleep(5 * time.Second)
		carol.expect("presence lobby -alice")
		b.Drop("bob", Drop{})
		carol.expect("presence lobby -bob")
	})
}

func TestCloseCodesComeAfterWhatWasQueued(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bubble) {
		one, two := b.join("alice"), b.join("alice")
		b.Inject("alice", &GoingAway{RetryAfterMs: 3000})
		b.Drop("alice", Drop{Code: CloseGoingAway})
		one.expect("going_away 3000", "close 1001")
		two.expect("going_away 3000", "close 1001")

		again := b.join("alice")
		b.Drop("alice", Drop{Code: CloseAdminDisconnect})
		again.expect("close 4020")
	})
}

func TestASecondConnectionTakesOverAsConfigured(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bubble) {
		b.Takeover(&Drop{Code: ClosePolicy, Presence: FlapTwoFrames})
		old, bob := b.join("alice"), b.join("bob")
		bob.subscribe("lobby")
		synctest.Wait()
		old.subscribe("lobby")
		bob.received()
		old.received()
		fresh := b.join("alice")
		old.expect("close 1008")
		bob.expect()
		fresh.subscribe("lobby")
		bob.expect("presence lobby -alice", "presence lobby +alice")
	})
}

func TestConnectsAreRefusedForAWhile(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bubble) {
		key := url.Values{"key": {"pk_live_a"}}
		b.Refuse(http.StatusServiceUnavailable)
		if _, status := b.dial(key); status != http.StatusServiceUnavailable {
			t.Errorf("HTTP %d", status)
		}
		b.Refuse(CloseAccountSuspended)
		c, _ := b.dial(key)
		c.expect("close 4012")
		b.Refuse(0)
		b.join("alice")
	})
}

func TestNothingPassesAHalfOpenSocket(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bubble) {
		alice, bob := b.join("alice"), b.join("bob")
		bob.subscribe("lobby")
		synctest.Wait()
		alice.subscribe("lobby")
		alice.received()
		bob.received()
		b.Blackhole("alice")
		alice.send(`{"type":"send","to":"bob","data":1}`)
		alice.send(`{"type":"ping"}`)
		bob.send(`{"type":"send","to":"alice","data":1,"requestId":"1"}`)
		alice.ws.CloseNow() // the server does not even learn of this
		alice.expect("cut")
		bob.expect("ack 1")
		b.Drop("alice", Drop{})
		bob.expect("presence lobby -alice")
	})
}

func TestHooksLoseDelayAndChangeFrames(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bubble) {
		alice, bob := b.join("alice"), b.join("bob")
		isDirect := func(to string, f any) bool { _, ok := f.(*Direct); return ok && to == "bob" }
		lost := b.Next(isDirect, Lose)
		for i := range 2 {
			alice.send(`{"type":"send","to":"bob","data":%d,"requestId":"%d"}`, i, i)
		}
		alice.expect("ack 0", "ack 1") // the sender is none the wiser
		bob.expect("direct alice 1")
		<-lost

		b.Next(isDirect, Delay(time.Second))
		for i := range 2 {
			alice.send(`{"type":"send","to":"bob","data":%d}`, i)
		}
		bob.expect("direct alice 1")
		time.Sleep(time.Second)
		bob.expect("direct alice 0")

		undelay := b.Intercept(func(string, any) Verdict { return Delay(time.Second) })
		alice.send(`{"type":"ping"}`)
		synctest.Wait()
		time.Sleep(time.Second)
		alice.expect("pong") // delayed once, not for ever
		undelay()

		remove := b.Intercept(func(to string, f any) Verdict {
			if p, ok := f.(*Presence); ok && to == "bob" {
				p.Joined = nil
			}
			return Pass
		})
		alice.subscribe("lobby")
		alice.received()
		bob.subscribe("lobby")
		bob.expect("presence lobby")
		alice.expect("presence lobby +bob") // only bob's copy was changed
		remove()
		bob.subscribe("lobby")
		bob.expect("presence lobby +alice")
	})
}

func TestAHookMayActOnTheServer(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bubble) {
		alice, bob := b.join("alice"), b.join("bob")
		b.Intercept(func(to string, f any) Verdict {
			if d, ok := f.(*Direct); ok {
				b.Drop(d.From, Drop{})
			}
			return Pass
		})
		alice.send(`{"type":"send","to":"bob","data":1}`)
		bob.expect("direct alice 1")
		alice.expect("cut")
	})
}

func TestInjectedFramesArriveAsTheyAre(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bubble) {
		c := b.join("alice")
		b.Intercept(func(string, any) Verdict { return Lose })
		b.Inject("alice", []byte(`{"type":`))
		b.Inject("alice", &Presence{Channel: "lobby", Left: []Member{{PeerID: "ghost"}}})
		b.Inject("alice", map[string]string{"type": "novel"})
		c.expect(`garbage {"type":`, "presence lobby -ghost", "novel")
		if n := b.Inject("nobody", &Pong{}); n != 0 {
			t.Errorf("reached %d sockets", n)
		}
	})
}
