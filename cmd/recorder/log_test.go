package main

import (
	"encoding/json"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"recorder/internal/e2e"
)

// TestEveryLineOfTheLogSaysOnceWhoItIsAbout has somebody come, be recorded and leave, and reads what the recorder said of it as
// those do who collect logs.
func TestEveryLineOfTheLogSaysOnceWhoItIsAbout(t *testing.T) {
	var log e2e.Buffer
	url := startDevserver(t)
	cfg := testConfig(t, url, testSecret, "a")
	app, err := NewApp(AppOptions{Config: cfg, Logger: newLogger(&log, "json", slog.LevelDebug), Loopback: true})
	must(t, err)
	must(t, app.Start())
	await(t, app, "joined")
	alice := visit(t, url, "a", "visitor", time.Hour)
	eventually(t, "the visitor is recorded", func() bool { return recorded(t, cfg.Recordings.Dir, "a") == "1: audio video" })
	alice.Leave()
	must(t, app.Stop(t.Context()))

	about := make(map[string]int)
	for line := range strings.Lines(log.String()) {
		keys := jsonKeys(t, line)
		for _, key := range []string{"time", "level", "msg"} {
			if !slices.Contains(keys, key) {
				t.Errorf("no %s: %s", key, line)
			}
		}
		slices.Sort(keys)
		if len(slices.Compact(slices.Clone(keys))) < len(keys) {
			t.Errorf("something is said twice: %s", line)
		}
		if slices.Contains(keys, "peer") && !slices.Contains(keys, "channel") || slices.Contains(keys, "stream") && !slices.Contains(keys, "peer") {
			t.Errorf("not all is said of whom it is about: %s", line)
		}
		for _, key := range keys {
			about[key]++
		}
	}
	for _, key := range []string{"channel", "peer", "stream"} {
		if about[key] == 0 {
			t.Errorf("no line is about a %s:\n%s", key, log.String())
		}
	}
}

// jsonKeys are the keys of an object, as often as they stand in it.
func jsonKeys(t *testing.T, object string) (keys []string) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(object))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		t.Fatalf("no JSON object: %s", object)
	}
	for d.More() {
		key, err := d.Token()
		must(t, err)
		keys = append(keys, key.(string))
		var value json.RawMessage
		must(t, d.Decode(&value))
	}
	if _, err := d.Token(); err != nil {
		t.Fatalf("%v: %s", err, object)
	}
	if _, err := d.Token(); err != io.EOF {
		t.Errorf("more than an object in a line: %s", object)
	}
	return keys
}
