package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/webrtc/v4"

	"recorder/internal/lab/member"
	"recorder/internal/signaling"
)

// visit has a member with camera and microphone join room-42 until the test ends.
func visit(t testing.TB, server string) {
	t.Helper()
	credential, err := signaling.PublishableKey("pk_live_test")
	if err != nil {
		t.Fatal(err)
	}
	camera := map[string]any{"role": "camera"}
	m, err := member.Join(t.Context(), member.Options{
		URL: "ws://" + server, Credential: credential, Channel: "room-42",
		Tracks: []member.Track{
			{StreamID: "camera", TrackID: "picture", MimeType: webrtc.MimeTypeVP8, Source: member.Picture(), Metadata: camera},
			{StreamID: "camera", TrackID: "sound", MimeType: webrtc.MimeTypeOpus, Source: member.Sound(), Metadata: camera},
		},
		Settings: func(s *webrtc.SettingEngine) {
			s.SetIncludeLoopbackCandidate(true)
			s.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Leave)
}

// prometheus is a running server that scrapes a recorder every second.
type prometheus struct {
	t    testing.TB
	addr string
}

func startPrometheus(t testing.TB, target string) *prometheus {
	t.Helper()
	path := Tool(t, "prometheus")
	dir := t.TempDir()
	alerts, err := filepath.Abs(deploy + "/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf(`global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs: [{job_name: recorder, static_configs: [{targets: [%q]}]}]
`, alerts, target)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &prometheus{t: t, addr: FreeAddr(t)}
	cmd := exec.Command(path, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+p.addr)
	var log Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("prometheus printed:\n%s", log.String())
		}
	})
	WaitHTTP(t, "http://"+p.addr+"/-/ready", 20*time.Second)
	return p
}

// query returns how many series an expression has now.
func (p *prometheus) query(expr string) int {
	p.t.Helper()
	resp, err := http.Get("http://" + p.addr + "/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Error string `json:"error"`
		Data  struct {
			Result []json.RawMessage `json:"result"`
		} `json:"data"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Error != "" {
		p.t.Fatalf("%s: %s, %v", expr, answer.Error, err)
	}
	return len(answer.Data.Result)
}

// TestPrometheusReturnsEveryMetricAndPanel has the real thing scrape a recorder during a call, and asks it for every metric of
// the operating guide's table and for every query of the dashboard.
func TestPrometheusReturnsEveryMetricAndPanel(t *testing.T) {
	promtool := Tool(t, "promtool")
	server := FreeAddr(t)
	Start(t, "devserver", "--listen", server)
	WaitHTTP(t, "http://"+server+"/", 30*time.Second)
	r := startRecorder(t, server, "api_key: pk_live_test", "")
	p := startPrometheus(t, r.http)
	visit(t, server)

	missing := make(map[string]bool)
	for _, row := range regexp.MustCompile("(?m)^\\| `(recorder_\\w+)` \\| (\\w+)").FindAllStringSubmatch(read(t, root+"/docs/operating.md"), -1) {
		if row[2] == "histogram" {
			row[1] += "_count"
		}
		missing[row[1]] = true
	}
	if len(missing) < 40 {
		t.Fatalf("the operating guide names %d metrics", len(missing))
	}
	for _, expressions := range readDashboard(t).expressions() {
		for _, expr := range expressions {
			missing[expr] = true
		}
	}
	total := len(missing)
	for end := time.Now().Add(90 * time.Second); len(missing) > 0 && time.Now().Before(end); time.Sleep(time.Second) {
		for expr := range missing {
			if p.query(expr) > 0 {
				delete(missing, expr)
			}
		}
	}
	for expr := range missing {
		t.Errorf("no data: %s", expr)
	}
	t.Logf("%d of %d queries return data", total-len(missing), total)
	if n := p.query(`ALERTS{alertstate="firing"}`); n > 0 {
		t.Errorf("%d alerts fire during a good call", n)
	}

	if out := run(t, metrics(t, r.http), promtool, "check", "metrics"); strings.TrimSpace(out) != "" {
		t.Errorf("promtool check metrics:\n%s", out)
	}
	r.recorder.Stop()
}
