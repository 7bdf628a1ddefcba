package remote

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"recorder/internal/loglimit"
)

func TestICECredentialsAreScrubbed(t *testing.T) {
	for _, text := range []string{
		"a=ice-ufrag:SECRET", "a=ice-pwd:SECRET\r\n", "dropping candidate with ufrag SECRET because", "candidate:1 ufrag SECRET network-cost 1",
		"username=SECRET", `remoteUfrag: "SECRET", remotePwd: "SECRET"`, `"credential": "SECRET"`, "Password: SECRET", "pwd = SECRET",
	} {
		err := fmt.Errorf("apply: %w: %s", io.EOF, text)
		if got := scrub(err); strings.Contains(got.Error(), "SECRET") || !errors.Is(got, io.EOF) {
			t.Errorf("%q became %q", text, got)
		}
	}
	plain := errors.New("nothing to hide")
	if scrub(plain) != plain || scrub(nil) != nil {
		t.Error("an error without credentials was changed")
	}
}

func TestPionsMessagesAreMappedAndScrubbed(t *testing.T) {
	var out bytes.Buffer
	handler := slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo})
	log := pionLogs{slog.New(handler)}.NewLogger("ice")
	log.Trace("unseen")
	log.Debugf("unseen %d", 1)
	log.Info("unseen")
	log.Infof("unseen %d", 1)
	log.Warn("unseen")
	log.Warnf("unseen")
	log.Debug("unseen")
	log.Tracef("unseen")
	log.Errorf("dropping candidate with ufrag %s: %d", "SECRET", 1)
	log.Error("another with 100 %d pwd=SECRET")
	text := out.String()
	if n := strings.Count(text, "\n"); n != 2 {
		t.Errorf("%d lines:\n%s", n, text)
	}
	if strings.Contains(text, "unseen") || strings.Contains(text, "SECRET") || !strings.Contains(text, "100 %d") ||
		!strings.Contains(text, "scope=pion/ice") || !strings.Contains(text, "level=INFO") {
		t.Errorf("log:\n%s", text)
	}
}

func TestAMemberCannotFillTheLogWithPionsMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		limiter, limited := loglimit.New(slog.NewJSONHandler(&out, nil))
		for connection := range 50 { // each has loggers of its own
			log := pionLogs{limited}.NewLogger("ice")
			for i := range 100 {
				log.Errorf("dropping candidate with ufrag %s: %d of %d", "SECRET", i, connection)
			}
		}
		limiter.Close()
		text := out.String()
		if n := strings.Count(text, "\n"); n > 25 || strings.Contains(text, "SECRET") || !strings.Contains(text, `"suppressed":`) {
			t.Errorf("%d lines:\n%s", n, text)
		}
	})
}
