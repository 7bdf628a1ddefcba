package signaling

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func TestPublishableKeyIsChecked(t *testing.T) {
	for key, ok := range map[string]bool{
		"pk_live_abc": true, "pk_test_abc": true, "": false, "sk_secret_abc": false, "abc": false, "pk_live_a b": false, "pk_live_\n": false, "pk_live_é": false,
	} {
		c, err := PublishableKey(key)
		if (err == nil) != ok {
			t.Errorf("%q: %v", key, err)
		}
		if err != nil && key != "" && strings.Contains(err.Error(), key) {
			t.Errorf("the error quotes the key: %v", err)
		}
		if ok {
			param, value, err := c.Authorize(t.Context())
			if param != "key" || value != key || err != nil || c.Renewable() {
				t.Errorf("%s=%s, %v, renewable %v", param, value, err, c.Renewable())
			}
		}
	}
}

func secretOptions() SecretKeyOptions {
	return SecretKeyOptions{
		ID: "sk_id_1", Secret: "sk_secret_s3cr3t", PeerID: "recorder-1", Channels: []string{"room-*"},
		PeerMetadata: map[string]any{"name": "Recorder"}, Metadata: map[string]any{"a": 1},
	}
}

func TestSecretKeyMintsAFreshTokenForEveryConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := NewSecretKey(secretOptions())
		if err != nil {
			t.Fatal(err)
		}
		var tokens [2]string
		for i := range tokens {
			param, value, err := c.Authorize(t.Context())
			if param != "token" || err != nil || !c.Renewable() {
				t.Fatalf("%s, %v, renewable %v", param, err, c.Renewable())
			}
			tokens[i] = value
			token, err := jwt.Parse(value, func(*jwt.Token) (any, error) { return []byte("sk_secret_s3cr3t"), nil },
				jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired(), jwt.WithTimeFunc(time.Now))
			if err != nil {
				t.Fatal(err)
			}
			if token.Header["kid"] != "sk_id_1" {
				t.Errorf("header %v", token.Header)
			}
			claims := token.Claims.(jwt.MapClaims)
			delete(claims, "iat")
			if exp, _ := claims.GetExpirationTime(); !exp.Equal(time.Now().Add(24 * time.Hour)) {
				t.Errorf("expires %v", exp)
			}
			delete(claims, "exp")
			got, _ := json.Marshal(claims)
			want := `{"channels":["room-*"],"metadata":{"a":1},"peerMetadata":{"name":"Recorder"},"permissions":["subscribe","presence","send"],"sub":"recorder-1"}`
			if string(got) != want {
				t.Errorf("claims %s\nwant %s", got, want)
			}
			time.Sleep(time.Minute)
		}
		if tokens[0] == tokens[1] {
			t.Error("the same token twice")
		}
	})
}

func TestSecretKeyFaultsAreReportedAtOnce(t *testing.T) {
	o := SecretKeyOptions{
		Secret: "sk_secret_s3cr3t\n", PeerID: strings.Repeat("x", 129), Channels: []string{"_system/x"}, Permissions: []string{"fly"}, TTL: 1,
		PeerMetadata: map[string]any{"n": strings.Repeat("x", 4096)}, Metadata: map[string]any{"n": strings.Repeat("x", 8192)},
	}
	_, err := NewSecretKey(o)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"id is not", "secret is not", "peer id", "_system/", `"fly"`, "expire", "peerMetadata is 4104 bytes", ": metadata is 8200 bytes"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("nothing about %s in: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("the error quotes the secret: %v", err)
	}
	for n, ok := range map[int]bool{0: false, 1: true, 100: true, 101: false} {
		o := secretOptions()
		o.Channels = make([]string, n)
		for i := range o.Channels {
			o.Channels[i] = fmt.Sprint(i)
		}
		if _, err := NewSecretKey(o); (err == nil) != ok {
			t.Errorf("%d channels: %v", n, err)
		}
	}
}

func TestSecretKeyOptionsAreNotKept(t *testing.T) {
	o := secretOptions()
	c, err := NewSecretKey(o)
	if err != nil {
		t.Fatal(err)
	}
	o.PeerMetadata["name"] = "changed"
	o.Channels[0] = "changed"
	_, value, _ := c.Authorize(t.Context())
	token, _, err := jwt.NewParser().ParseUnverified(value, jwt.MapClaims{})
	if err != nil || strings.Contains(fmt.Sprint(token.Claims), "changed") {
		t.Errorf("claims %v, %v", token.Claims, err)
	}
}

func TestTokenURLIsAskedOnEveryConnect(t *testing.T) {
	n := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		if r.Method != http.MethodGet || r.URL.RawQuery != "s=s3cr3t" {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		fmt.Fprintf(w, `{"token":"t%d","expiresAt":1}`, n)
	}))
	defer server.Close()
	c, err := TokenURL(server.URL+"/mint?s=s3cr3t", nil, server.Client())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"t1", "t2"} {
		if param, value, err := c.Authorize(t.Context()); param != "token" || value != want || err != nil {
			t.Errorf("%s=%s, %v", param, value, err)
		}
	}
	if !c.Renewable() {
		t.Error("not renewable")
	}
}

func TestTokenURLIsToldWhatTheTokenIsFor(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RawQuery)
		fmt.Fprint(w, `{"token":"t"}`)
	}))
	defer server.Close()
	query := url.Values{"peerId": {"recorder-1a2b3c4d"}, "channel": {"room & board"}}
	for _, raw := range []string{server.URL, server.URL + "/mint?s=s3cr3t", server.URL + "/mint?peerId=mine&s=%2B"} {
		c, err := TokenURL(raw, query, server.Client())
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Authorize(t.Context()); err != nil {
			t.Error(err)
		}
	}
	want := []string{"channel=room+%26+board&peerId=recorder-1a2b3c4d", "s=s3cr3t&channel=room+%26+board&peerId=recorder-1a2b3c4d", "peerId=mine&s=%2B&channel=room+%26+board"}
	if !slices.Equal(asked, want) || len(query) != 2 {
		t.Errorf("asked %q, want %q", asked, want)
	}
}

func TestTokenURLIsPostedToWhereGetIsNotAllowed(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		fmt.Fprint(w, `{"token":"t"}`)
	}))
	defer server.Close()
	c, _ := TokenURL(server.URL, nil, server.Client())
	if _, value, err := c.Authorize(t.Context()); value != "t" || err != nil {
		t.Errorf("%s, %v", value, err)
	}
}

func TestTokenURLFailuresHoldNoSecret(t *testing.T) {
	const secret = "s3cr3t"
	answers := map[string]http.HandlerFunc{
		"status":    func(w http.ResponseWriter, _ *http.Request) { http.Error(w, secret, http.StatusForbidden) },
		"no json":   func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, secret) },
		"no token":  func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"jwt":"s3cr3t"}`) },
		"no string": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"token":["s3cr3t"]}`) },
		"blank":     func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"token":"s3cr3t token"}`) },
		"huge": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"token":%q}`, strings.Repeat(secret, 10000))
		},
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example/", http.StatusFound)
		},
		"cut": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	}
	for name, answer := range answers {
		server := httptest.NewServer(answer)
		c, err := TokenURL(server.URL+"/s3cr3t?key=s3cr3t", nil, server.Client())
		if err != nil {
			t.Fatal(err)
		}
		_, value, err := c.Authorize(t.Context())
		if err == nil || value != "" || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %q, %v", name, value, err)
		}
		server.Close()
		if _, _, err = c.Authorize(t.Context()); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s, closed: %v", name, err)
		}
	}
}

func TestTokenURLGivesUpWithItsContext(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer server.Close()
	c, _ := TokenURL(server.URL, nil, server.Client())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := c.Authorize(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestTokenURLIsSecure(t *testing.T) {
	for raw, ok := range map[string]bool{
		"https://example.com/t?x=1": true, "http://localhost:1/t": true, "http://[::1]/": true, "http://127.0.0.1/": true,
		"http://example.com/s3cr3t": false, "ftp://example.com/s3cr3t": false, "https://": false, "/s3cr3t": false, "https://h/%zz?s3cr3t": false, "https://h:s3cr3t": false,
	} {
		if _, err := TokenURL(raw, nil, nil); (err == nil) != ok || err != nil && strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

func TestCredentialsPrintWithoutTheirSecret(t *testing.T) {
	key, _ := PublishableKey("pk_live_s3cr3t")
	minted, _ := NewSecretKey(secretOptions())
	fetched, _ := TokenURL("https://u:s3cr3t@example.com/s3cr3t?s3cr3t", nil, nil)
	var out bytes.Buffer
	for _, c := range []Credential{key, StaticToken("s3cr3t"), minted, fetched} {
		holder := struct {
			Public  Credential
			private Credential
		}{c, c}
		client, err := NewClient(Options{Credential: c})
		if err != nil {
			t.Fatal(err)
		}
		for _, format := range []string{"%v ", "%+v ", "%#v ", "%s ", "%q "} {
			fmt.Fprintf(&out, format, c)
			fmt.Fprintf(&out, format, holder)
			fmt.Fprintf(&out, format, Options{Credential: c})
			fmt.Fprintf(&out, format, client)
		}
		for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(h).Info("x", "credential", c, "holder", holder, "client", client)
		}
		if b, err := json.Marshal(holder); err == nil {
			out.Write(b)
		}
	}
	if i := strings.Index(out.String(), "s3cr3t"); i >= 0 {
		t.Errorf("printed …%s", out.String()[max(0, i-100):i+6])
	}
}
