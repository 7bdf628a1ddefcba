package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"recorder/internal/lab/devserver"
	"recorder/internal/sink"
)

const (
	secretID = "sk_id_test"
	secret   = "sk_secret_for_the_test_only"
)

// credential is a "signaling" key of the configuration and how the browser
// presents the same kind.
type credential struct {
	config  string
	browser func(t testing.TB) string // fields of the page's join argument
}

var credentials = map[string]credential{
	"publishable key": {
		config:  "api_key: pk_live_test",
		browser: func(testing.TB) string { return `apiKey: "pk_live_test"` },
	},
	"token": {
		config:  fmt.Sprintf("secret_key: {id: %s, secret: %s}", secretID, secret),
		browser: func(t testing.TB) string { return fmt.Sprintf("token: %q", Token(t, secretID, secret, "alice")) },
	},
}

// rig is a recorder as its user runs it, a process of its own, and a server.
type rig struct {
	t        testing.TB
	server   string // host:port of the development server
	http     string // host:port of the recorder's HTTP listener
	dir      string // recordings
	config   string // its configuration file
	recorder *Process
}

// startRig starts a development server and a recorder in room-42. extra is
// more configuration.
func startRig(t testing.TB, credential, extra string) *rig {
	t.Helper()
	server := FreeAddr(t)
	Start(t, "devserver", "--listen", server, "--secret-key", secretID+"="+secret, "--sdk", SDK(t))
	WaitHTTP(t, "http://"+server+"/", 30*time.Second)
	return startRecorder(t, server, credential, extra)
}

// startFaultyRig is startRig with the development server in this process, to
// inject faults.
func startFaultyRig(t testing.TB, credential, extra string) (*rig, *devserver.Server) {
	t.Helper()
	server, address := startFaultyServer(t)
	return startRecorder(t, address, credential, extra), server
}

// startFaultyServer returns a development server and its host:port.
func startFaultyServer(t testing.TB) (*devserver.Server, string) {
	t.Helper()
	server := devserver.New(devserver.Options{
		Secrets: map[string]string{secretID: secret}, Logger: slog.New(slog.DiscardHandler), Limits: devserver.Limits{Connects: -1},
	})
	web := httptest.NewServer(server)
	t.Cleanup(func() {
		server.Close()
		web.Close()
	})
	return server, web.Listener.Addr().String()
}

func startRecorder(t testing.TB, server, credential, extra string) *rig {
	t.Helper()
	r := &rig{t: t, server: server, http: FreeAddr(t), dir: filepath.Join(t.TempDir(), "recordings")}
	r.config = filepath.Join(t.TempDir(), "config.yaml")
	text := fmt.Sprintf(`
signaling:
  url: ws://%s
  %s
bot: {name: recorder, metadata: {name: Recorder, role: recorder}}
http: {listen: %s}
recordings: {dir: '%s'}
channels:
  - name: room-42
%s`, r.server, credential, r.http, r.dir, extra)
	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r.recorder = Start(t, "run", "--config", r.config)
	WaitHTTP(t, "http://"+r.http+"/readyz", 30*time.Second)
	return r
}

// await looks until ok.
func await(t testing.TB, what string, limit time.Duration, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", limit, what)
		}
	}
}

// metrics is what a recorder shows at host:port.
func metrics(t testing.TB, addr string) string {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

// join has a page join the channel; stop the test if it does not.
func (r *rig) join(p *Page, credential string) string {
	r.t.Helper()
	return Eval[string](p, `join({url: "ws://%s", channel: "room-42", %s})`, r.server, credential)
}

// recording returns the only recording's directory and manifest.
func (r *rig) recording() (string, sink.Manifest) {
	r.t.Helper()
	return onlyRecording(r.t, r.dir)
}

func onlyRecording(t testing.TB, recordings string) (string, sink.Manifest) {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(recordings, "*", "*", sink.ManifestName))
	if len(found) != 1 {
		t.Fatalf("want one recording, have %v", found)
	}
	data, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	var m sink.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(found[0]), m
}
