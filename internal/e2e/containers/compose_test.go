//go:build linux

package containers

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"
)

const composeFile = root + "/deploy/compose.yaml"

// compose runs docker compose on the product's file.
func (d docker) compose(args ...string) string {
	d.t.Helper()
	return d.run(append([]string{"compose", "-f", composeFile}, args...)...)
}

// composes brings up all but Grafana, for which there is no stand-in, as the file says it: its networks, volumes and ports.
func (d docker) composes(t *testing.T) {
	d.t = t
	d.env = append(d.env, "VERSION="+version)
	var config struct {
		Services map[string]struct {
			Image string `json:"image"`
		} `json:"services"`
	}
	if err := json.Unmarshal([]byte(d.compose("config", "--format", "json")), &config); err != nil {
		t.Fatal(err)
	}
	if len(config.Services) != 4 || config.Services["grafana"].Image == "" {
		t.Fatalf("the services are %v", config.Services)
	}
	prometheusImage(t, config.Services["prometheus"].Image).load(t, &d)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(d.compose("logs", "--no-color"))
		}
		d.compose("down", "--volumes", "--timeout", "60")
	})
	start := time.Now()
	d.compose("up", "--build", "--detach", "devserver", "recorder", "prometheus")
	t.Logf("up in %v", time.Since(start).Round(time.Second))

	visit(t, "127.0.0.1:9292")
	for _, expr := range []string{
		`up{job="recorder"} == 1`,
		`recorder_session_state{channel="room-42",state="joined"} == 1`,
		`recorder_sink_frames_written_total{kind="video"} > 0`,
	} {
		await(t, expr, func() bool { return prometheusHas(expr) })
	}
	if rules := get("http://127.0.0.1:9090/api/v1/rules"); !strings.Contains(rules, `"RecorderNotRecording"`) {
		t.Errorf("the rules of Prometheus are %s", rules)
	}
	container := d.compose("ps", "--quiet", "recorder")
	d.awaitHealthy(container)

	d.compose("stop", "recorder")
	const volume = `{{range .Mounts}}{{if eq .Type "volume"}}{{.Source}}{{end}}{{end}}`
	ended := strings.Fields(d.run("inspect", "-f", "{{.State.ExitCode}} "+volume, container))
	if len(ended) != 2 || ended[0] != "0" {
		t.Fatalf("the recorder ended with %v", ended)
	}
	checkRecording(t, ended[1])
}

// prometheusHas reports whether the expression has a value now.
func prometheusHas(expr string) bool {
	return strings.Contains(get("http://127.0.0.1:9090/api/v1/query?query="+url.QueryEscape(expr)), `"value"`)
}
