package sink

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The log tells when a recording begins, ends, goes on and ends for good, each in one line, and at its
// end what it came to.
func TestTheLogTellsWhenARecordingBeginsAndEnds(t *testing.T) {
	dir := t.TempDir()
	var log bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		for _, stop := range []func(*call){(*call).suspend, (*call).end} {
			root, rec := restart(t, dir, slog.NewTextHandler(&log, nil))
			c := &call{T: t, root: root, rec: rec, pumped: true}
			c.open("alice")
			c.audio().speak(100)
			time.Sleep(time.Second)
			stop(c)
		}
	})
	var told []string
	for line := range strings.Lines(log.String()) {
		_, message, _ := strings.Cut(line, "msg=\"")
		message, _, _ = strings.Cut(message, "\"")
		told = append(told, message)
		if strings.Contains(line, "recording ended") {
			continuable := len(told) == 2
			for _, want := range []string{"dir=room/", "state=complete", "streams=1", "completeness=1"} {
				if !strings.Contains(line, want) {
					t.Errorf("no %s in %s", want, line)
				}
			}
			if strings.Contains(line, "length=3s") != continuable || strings.Contains(line, "continuable_until=") != continuable {
				t.Errorf("told %s", line)
			}
		}
	}
	if want := []string{"recording began", "recording ended", "recording continued after a restart", "recording ended"}; !slices.Equal(told, want) {
		t.Errorf("told:\n%s", &log)
	}
}
