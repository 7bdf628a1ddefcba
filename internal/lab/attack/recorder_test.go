package attack

import (
	"bufio"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"recorder/internal/e2e"
	"recorder/internal/lab/devserver"
)

func TestMain(m *testing.M) { e2e.Main(m) }

const (
	keyID  = "sk_id_test"
	secret = "sk_secret_for_the_test_only"
	lobby  = "lobby" // where the attacks are
	other  = "other" // another channel
)

// target is a recorder as its user runs it, a process of its own, and a
// service, which is ours.
type target struct {
	Target
	t        testing.TB
	dir      string // recordings
	config   string
	http     string // host:port
	recorder *e2e.Process
}

// newTarget sets everything up but the process. options are of the lobby.
func newTarget(t testing.TB, options string) *target {
	server := devserver.New(devserver.Options{
		Secrets: map[string]string{
			keyID: secret,
		}, Logger: slog.New(slog.DiscardHandler), Limits: devserver.Limits{Connects: -1},
	})
	web := httptest.NewServer(server)
	t.Cleanup(func() { server.Close(); web.Close() })
	r := &target{
		t:      t,
		dir:    filepath.Join(t.TempDir(), "recordings"),
		config: filepath.Join(t.TempDir(), "config.yaml"),
		http:   e2e.FreeAddr(t),
	}
	r.Target = Target{
		URL: "ws://" + web.Listener.Addr().
			String(),
		Channel: lobby, KeyID: keyID, Secret: secret, Bot: "recorder",
		Stream: quietStream, Server: server,
	}
	text := fmt.Sprintf(`
signaling: {url: %q, secret_key: {id: %s, secret: %s}}
http: {listen: %s}
recordings: {dir: '%s', min_free: 0}
channels: [{name: %s%s}, {name: %s}]
`, r.URL, keyID, secret, r.http, r.dir, lobby, options, other)
	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

// start runs the process until it is ready.
func (r *target) start() {
	r.t.Helper()
	r.recorder = e2e.Start(r.t, "run", "--config", r.config)
	e2e.WaitHTTP(r.t, "http://"+r.http+"/readyz", 20*time.Second)
}

// ready fails the test if the process has ended, or is not ready.
func (r *target) ready(t testing.TB) {
	t.Helper()
	resp, err := http.Get("http://" + r.http + "/readyz")
	if err != nil {
		t.Fatalf("the recorder has ended: %v", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("readyz: %s", resp.Status)
	}
}

// usage is what the process holds.
type usage struct {
	rss, descriptors, goroutines, series, log int
}

func (u usage) less(v usage) usage {
	return usage{
		u.rss - v.rss,
		u.descriptors - v.descriptors,
		u.goroutines - v.goroutines,
		u.series - v.series,
		u.log - v.log,
	}
}

func (u usage) most(v usage) usage {
	return usage{
		max(u.rss, v.rss),
		max(u.descriptors, v.descriptors),
		max(u.goroutines, v.goroutines),
		max(u.series, v.series),
		max(u.log, v.log),
	}
}

// usage is what the process holds now; zero if it has ended.
func (r *target) usage() (u usage) {
	proc := fmt.Sprintf("/proc/%d/", r.recorder.PID())
	if open, err := os.ReadDir(proc + "fd"); err == nil {
		u.descriptors = len(open)
	}
	if status, err := os.ReadFile(proc + "status"); err == nil {
		_, rest, _ := strings.Cut(string(status), "VmRSS:")
		kB, _ := strconv.Atoi(strings.Fields(rest + " 0")[0])
		u.rss = kB << 10
	}
	u.log = len(r.recorder.Output())
	resp, err := http.Get("http://" + r.http + "/metrics")
	if err != nil {
		return u
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		line := lines.Text()
		if !strings.HasPrefix(line, "#") {
			u.series++
		}
		if n, ok := strings.CutPrefix(line, "go_goroutines "); ok {
			u.goroutines, _ = strconv.Atoi(n)
		}
	}
	return u
}

// watch takes the most that the process holds until stop is called.
func (r *target) watch() (stop func() usage) {
	var peak usage
	var done sync.WaitGroup
	end := make(chan struct{})
	done.Go(func() {
		for {
			peak = peak.most(r.usage())
			select {
			case <-end:
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	})
	return func() usage {
		close(end)
		done.Wait()
		return peak.most(r.usage())
	}
}
