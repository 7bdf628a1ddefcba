package signaling

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func TestRedactRemovesTheSecretInEveryForm(t *testing.T) {
	const secret = "pk_live_a+b/c="
	inner := &net.OpError{Op: "dial", Net: "tcp", Err: errRefused}
	err := redact(fmt.Errorf("handshake: %w", &url.Error{Op: "Get", URL: "https://h/v1?key=" + url.QueryEscape(secret), Err: inner}), secret)
	if !errors.Is(err, errRefused) {
		t.Errorf("the cause is lost: %v", err)
	}
	for _, text := range []string{err.Error(), redact(errors.New("bad "+secret), secret).Error(), redact(errors.New("bad "+url.QueryEscape(secret)), secret).Error()} {
		if strings.Contains(text, "pk_live") {
			t.Errorf("left in %q", text)
		}
	}
}

// The service, or whatever stands between, echoes the credential wherever it can,
// and a run goes through every failure there is.
func TestNothingPrintedByAFailingRunHoldsASecret(t *testing.T) {
	const iceSecret, iceUser, payload = "ic3-s3cr3t", "ic3-us3r", "b0dy-0f-a-frame"
	bubble(t, func(t *testing.T, s *service) {
		var out lockedBuffer // two handlers and this test write to it
		print := func(err error) {
			for e := err; e != nil; e = errors.Unwrap(e) {
				fmt.Fprintf(&out, "%v %+v %#v\n", e, e, e)
			}
		}
		logs := slog.NewMultiHandler(
			slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}),
			slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
		s.dialErr = fmt.Errorf("proxy says: cannot reach /v1?key=%s", url.QueryEscape(testKey))
		r := start(t, s, func(o *Options) { o.Logger = slog.New(logs) })
		failed := func() {
			d := next[Disconnected](r)
			slog.New(logs).Info("event", "event", d, "err", d.Err)
			print(d.Err)
		}
		failed()
		s.set(func() { s.dialErr = errRefused })
		failed()
		s.set(func() { s.dialErr, s.status = nil, 401; s.header.Set("Location", "/?key="+url.QueryEscape(testKey)) })
		failed()
		s.set(func() { s.status = 302 })
		failed()
		s.set(func() { s.status = 200 })
		failed()
		s.set(func() { s.status = 0 })

		s.accept() // no welcome
		failed()
		p := s.accept()
		p.send(`{"type":"welcome","peerId":"me","expiresAt":null,"serverTime":1,"maxMessageSize":90,"metadata":{"iceServers":[{"urls":"turn:a","username":%q,"credential":%q}]}}`, iceUser, iceSecret)
		slog.New(logs).Info("event", "event", next[Connected](r))
		for _, in := range malformedFrames {
			if _, err := Parse([]byte(in)); err != nil {
				p.send("%s", in)
			}
		}
		p.send(`{"type":"%s","key":%q}`, payload, testKey)
		p.send(`{"type":"error","code":"invalid_token","message":"bad key %s"}`, testKey)
		e := next[*ServerError](r)
		print(e)
		slog.New(logs).Info("event", "event", e)
		refused := r.SendAsync("bob", payload)
		f := p.recv("send")
		p.send(`{"type":"error","requestId":%q,"code":"missing_data","message":%q}`, f.RequestID, testKey+payload)
		print(<-refused)
		lost := r.SendAsync("bob", payload)
		p.recv("send")
		print(r.Send(t.Context(), "bob", strings.Repeat(payload, 10)))
		p.conn.Close(websocket.StatusGoingAway, "for "+testKey)
		failed()
		print(<-lost)
		print(<-r.SendAsync("bob", payload))

		p = s.accept()
		p.send(`{"type":"welcome","peerId":"me","expiresAt":null,"serverTime":1,"maxMessageSize":90,"metadata":{"iceServers":[{"urls":"http:a","username":%q,"credential":%q}]}}`, iceUser, iceSecret)
		next[Connected](r)
		p.cut()
		failed()
		s.accept().conn.Close(4001, "invalid key "+testKey)
		failed()
		<-r.done
		print(r.err)
		fmt.Fprintf(&out, "%v %+v %#v", r.Client, r.Client, r.Client)
		text := out.String()
		if !strings.Contains(text, "invalid token") || !strings.Contains(text, "malformed") || !strings.Contains(text, "ICE servers") {
			t.Fatalf("the run did not fail as it should:\n%s", text)
		}
		for _, secret := range []string{"s3cr3t-k3y", iceSecret, iceUser, payload} {
			for at := range strings.Lines(text) {
				if strings.Contains(at, secret) {
					t.Errorf("printed %s", at)
				}
			}
		}
	})
}

func TestLogShowsTimesThatMeanSomething(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		var out lockedBuffer
		r := start(t, s, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&out, nil)) })
		connected(r, s).cut()
		next[Disconnected](r)
		connected(r, s).close(CloseInvalidToken)
		next[Disconnected](r)
		<-r.done
		text := out.String()
		if strings.Contains(text, "expires_at") {
			t.Errorf("a key has no end:\n%s", text)
		}
		if !regexp.MustCompile(`retry_in=[0-9]+ms `).MatchString(text) {
			t.Errorf("the delay is not in whole milliseconds:\n%s", text)
		}
		if strings.Contains(text, "level=ERROR") {
			t.Errorf("what Run returns is logged as well:\n%s", text)
		}
	})
	end := time.Date(2026, 1, 31, 9, 0, 0, 0, time.UTC)
	if text := (Welcome{ExpiresAt: end}).LogValue().String(); !strings.Contains(text, "expires_at=2026-01-31") {
		t.Errorf("a token's end is missing: %s", text)
	}
}

func TestMalformedFramesAreLoggedWithoutWhatIsInThem(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		var out bytes.Buffer
		r := start(t, s, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&out, nil)) })
		p := connected(r, s)
		p.send("garbage")
		silent(r)
		if n := strings.Count(out.String(), "dropped a malformed frame"); n != 1 || strings.Contains(out.String(), "garbage") {
			t.Errorf("logged %d times:\n%s", n, out.String())
		}
		p.send(`{"type":"direct","from":"bob","data":1}`)
		next[Direct](r)
	})
}
