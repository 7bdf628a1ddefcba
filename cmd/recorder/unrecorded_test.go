package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// awaitReadyz polls /readyz until it answers with a status and, unless that is 200, a reason that holds all words.
func awaitReadyz(t *testing.T, app *App, status int, within time.Duration, words ...string) {
	t.Helper()
	for deadline := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
		got, r := readyz(t, app)
		reasons, said := strings.Join(r.Reasons, "; "), true
		for _, w := range words {
			said = said && strings.Contains(reasons, w)
		}
		if got == status && said {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v %d with %q, want %d with %q", within, got, reasons, status, words)
		}
	}
}

// A channel whose directory cannot be made is joined and not recorded: /readyz names it and says why, the log once, and
// the others are recorded. Two seconds after the directory can be made it is recorded, too.
func TestAChannelWhoseDirectoryCannotBeMadeIsNotReady(t *testing.T) {
	for name, hinder := range map[string]func(place string) error{
		"a file":            func(place string) error { return os.WriteFile(place, nil, 0o600) },
		"a link":            func(place string) error { return os.Symlink("/etc", place) },
		"a link to nowhere": func(place string) error { return os.Symlink("nowhere", place) },
		"a pipe":            func(place string) error { return syscall.Mkfifo(place, 0o600) },
		"a link to itself":  func(place string) error { return os.Symlink("a", place) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t, startDevserver(t), testSecret, "a", "b")
			place := filepath.Join(cfg.Recordings.Dir, "a")
			must(t, os.Mkdir(cfg.Recordings.Dir, 0o750))
			must(t, hinder(place))
			log, app := startLoggedApp(t, cfg)
			await(t, app, "joined")
			awaitReadyz(t, app, http.StatusServiceUnavailable, 2*time.Second, `channel "a" is not recorded`, "not a directory")
			time.Sleep(2500 * time.Millisecond) // it is tried again meanwhile
			if _, r := readyz(t, app); len(r.Reasons) != 1 || strings.Contains(fmt.Sprint(r.Reasons), `"b"`) {
				t.Errorf("reasons %q", r.Reasons)
			}
			if n := strings.Count(log.String(), "could not begin the recording"); n != 1 {
				t.Errorf("said %d times", n)
			}
			want := strings.NewReader(`
# HELP recorder_session_recording 1, or 0 while nothing of the channel can be recorded because its directory or manifest cannot be made.
# TYPE recorder_session_recording gauge
recorder_session_recording{channel="a"} 0
recorder_session_recording{channel="b"} 1
`)
			if err := testutil.GatherAndCompare(app.reg, want, "recorder_session_recording"); err != nil {
				t.Error(err)
			}
			must(t, os.Remove(place))
			awaitReadyz(t, app, http.StatusOK, 2*time.Second)
		})
	}
}

// A recordings directory that others delete or replace is not ready until there is one again.
func TestAReplacedRecordingsDirectoryIsNotReady(t *testing.T) {
	cfg := testConfig(t, startDevserver(t), testSecret, "a")
	_, app := startLoggedApp(t, cfg)
	await(t, app, "joined")
	awaitReadyz(t, app, http.StatusOK, 10*time.Second)
	must(t, os.RemoveAll(cfg.Recordings.Dir))
	must(t, os.WriteFile(cfg.Recordings.Dir, nil, 0o600))
	awaitReadyz(t, app, http.StatusServiceUnavailable, 10*time.Second, "recordings directory", `channel "a" is not recorded`)
	must(t, os.Remove(cfg.Recordings.Dir))
	awaitReadyz(t, app, http.StatusOK, 10*time.Second)
	if found, _ := filepath.Glob(filepath.Join(cfg.Recordings.Dir, "a", "*", "recording.json")); len(found) != 1 {
		t.Errorf("manifests %q", found)
	}
}
