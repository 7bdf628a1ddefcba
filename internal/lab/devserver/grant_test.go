package devserver

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func TestWelcomeTellsWhatTheTokenGrants(t *testing.T) {
	inBubble(t, Options{ICEServers: []ICEServer{{URLs: []string{"stun:stun.example"}}}}, func(t *testing.T, b *bubble) {
		var welcome Welcome
		b.Intercept(func(_ string, f any) Verdict {
			if w, ok := f.(*Welcome); ok {
				welcome = *w
			}
			return Pass
		})
		exp := time.Now().Add(10 * time.Minute).Unix()
		b.join("alice", jwt.MapClaims{"exp": exp, "metadata": map[string]any{"plan": "gold"}})
		if welcome.ExpiresAt == nil || *welcome.ExpiresAt != exp || welcome.ServerTime != time.Now().Unix() || welcome.MaxMessageSize != 65536 {
			t.Errorf("welcome %+v", welcome)
		}
		if got, want := string(welcome.Metadata), `{"iceServers":[{"urls":["stun:stun.example"]}],"plan":"gold"}`; got != want {
			t.Errorf("metadata %s, want %s", got, want)
		}
		b.join("bob", jwt.MapClaims{"metadata": map[string]any{"iceServers": []any{}}})
		if got, want := string(welcome.Metadata), `{"iceServers":[]}`; got != want {
			t.Errorf("metadata %s, want the token's own iceServers", got)
		}
	})
}

func TestEveryConnectionWithAKeyIsANewPeer(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bubble) {
		var ids []string
		b.Intercept(func(to string, f any) Verdict {
			if w, ok := f.(*Welcome); ok {
				if w.ExpiresAt != nil || w.Metadata != nil {
					t.Errorf("welcome %+v, want no expiry and no metadata", w)
				}
				ids = append(ids, to)
			}
			return Pass
		})
		for range 2 {
			b.dial(url.Values{"key": {"pk_live_anything"}})
		}
		if len(ids) != 2 || ids[0] == ids[1] || ids[0] == "" {
			t.Errorf("peer ids %q", ids)
		}
	})
}

func TestCredentialsThatProveNothingAreClosedWith4001(t *testing.T) {
	cases := map[string]func() url.Values{
		"none":        func() url.Values { return nil },
		"both":        func() url.Values { return url.Values{"key": {"pk_live_a"}, "token": {token("a")}} },
		"secret key":  func() url.Values { return url.Values{"key": {testSecret}} },
		"empty key":   func() url.Values { return url.Values{"key": {"pk_live_"}} },
		"not a token": func() url.Values { return url.Values{"token": {"x.y.z"}} },
	}
	for name, forge := range map[string]func() string{
		"alg none":       func() string { return sign(jwt.SigningMethodNone, testKeyID, jwt.UnsafeAllowNoneSignatureType, "a") },
		"alg HS512":      func() string { return sign(jwt.SigningMethodHS512, testKeyID, []byte(testSecret), "a") },
		"wrong secret":   func() string { return sign(jwt.SigningMethodHS256, testKeyID, []byte("other"), "a") },
		"unknown kid":    func() string { return sign(jwt.SigningMethodHS256, "sk_id_other", []byte(testSecret), "a") },
		"no exp":         func() string { return token("a", jwt.MapClaims{"exp": nil}) },
		"no sub":         func() string { return token("") },
		"sub not ASCII":  func() string { return token("zoë") },
		"long sub":       func() string { return token(strings.Repeat("a", 129)) },
		"odd permission": func() string { return token("a", jwt.MapClaims{"permissions": []string{"fly"}}) },
		"101 channels": func() string {
			return token("a", jwt.MapClaims{"channels": strings.Split(strings.Repeat("c", 101), "")})
		},
		"empty channel": func() string { return token("a", jwt.MapClaims{"channels": []string{""}}) },
		"metadata list": func() string { return token("a", jwt.MapClaims{"metadata": []int{1}}) },
		"big metadata": func() string {
			return token("a", jwt.MapClaims{"metadata": map[string]string{"k": strings.Repeat("x", 8<<10)}})
		},
		"big peerMetadata": func() string {
			return token("a", jwt.MapClaims{"peerMetadata": map[string]string{"k": strings.Repeat("x", 4<<10)}})
		},
	} {
		cases[name] = func() url.Values { return url.Values{"token": {forge()}} }
	}
	for name, query := range cases {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, b *bubble) {
				c, _ := b.dial(query())
				c.expect("close 4001")
			})
		})
	}
}

func TestTokensEndWith4002(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bubble) {
		late, _ := b.dial(url.Values{"token": {token("late", jwt.MapClaims{"exp": time.Now().Add(-time.Second).Unix()})}})
		late.expect("close 4002")

		alice := b.join("alice", jwt.MapClaims{"exp": time.Now().Add(time.Minute).Unix()})
		bob := b.join("bob")
		alice.subscribe("lobby")
		alice.expect("presence lobby")
		bob.subscribe("lobby")
		alice.expect("presence lobby +bob")
		bob.expect("presence lobby +alice")
		time.Sleep(time.Minute - 250*time.Millisecond - time.Nanosecond)
		alice.expect()
		time.Sleep(time.Nanosecond)
		alice.expect("close 4002")
		bob.expect("presence lobby -alice")
	})
}

func TestChannelPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, channel string
		want             bool
	}{
		{"room-1", "room-1", true},
		{"room-1", "room-10", false},
		{"room-*", "room-42", true},
		{"room-*", "admin-1", false},
		{"room-*", "room-42/side", false},
		{"app/*", "app/room", true},
		{"app/*", "app", false},
		{"app/**", "app/room/side", true},
		{"**", "any/thing", true},
		{"a.c", "abc", false},
		{"*-*", "a-b", true},
	} {
		if got := compilePattern(c.pattern).MatchString(c.channel); got != c.want {
			t.Errorf("%q covers %q: %v, want %v", c.pattern, c.channel, got, c.want)
		}
	}
}

func TestPermissionsAndChannelsOfATokenAreEnforced(t *testing.T) {
	inBubble(t, Options{KeyPermissions: []string{PermissionSubscribe}}, func(t *testing.T, b *bubble) {
		c := b.join("alice", jwt.MapClaims{"permissions": []string{}, "channels": []string{"room-*"}})
		c.send(`{"type":"subscribe","channel":"hall","requestId":"1"}`)
		c.send(`{"type":"subscribe","channel":"room-1","requestId":"2"}`)
		c.send(`{"type":"publish","channel":"room-1","data":1,"requestId":"3"}`)
		c.send(`{"type":"send","to":"alice","data":1,"requestId":"4"}`)
		c.expect("error channel_not_authorized 1", "error action_not_permitted 2", "error action_not_permitted 3", "error action_not_permitted 4")

		key, _ := b.dial(url.Values{"key": {"pk_live_a"}})
		key.received()
		key.subscribe("room-1")
		b.join("bob").subscribe("room-1")
		key.expect() // no presence permission: neither snapshot nor delta
		key.send(`{"type":"send","to":"bob","data":1,"requestId":"1"}`)
		key.expect("error action_not_permitted 1")
	})
}
