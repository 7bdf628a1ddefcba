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
	"time"
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

func TestPionsMessagesAreMappedScrubbedAndLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
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
		for i := range 100 {
			log.Errorf("dropping candidate with ufrag %s: %d", "SECRET", i)
		}
		log.Error("another")
		time.Sleep(logEvery)
		log.Errorf("dropping candidate with ufrag %s: %d", "SECRET", 100)
		text := out.String()
		if n := strings.Count(text, "\n"); n != 3 {
			t.Errorf("%d lines:\n%s", n, text)
		}
		if strings.Contains(text, "unseen") || strings.Contains(text, "SECRET") || !strings.Contains(text, "suppressed=99") ||
			!strings.Contains(text, "scope=pion/ice") || !strings.Contains(text, "level=INFO") {
			t.Errorf("log:\n%s", text)
		}
	})
}
