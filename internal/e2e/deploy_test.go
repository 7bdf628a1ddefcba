package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

const (
	root   = "../.."
	deploy = root + "/deploy"
)

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// run runs a tool, which must exit with 0, and returns what it printed.
func run(t testing.TB, stdin string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestAlertsFireWhenTheyShould(t *testing.T) {
	promtool := Tool(t, "promtool")
	run(t, "", promtool, "check", "config", deploy+"/prometheus.yml")
	run(t, "", promtool, "test", "rules", deploy+"/alerts_test.yml")
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert string `yaml:"alert"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.Unmarshal([]byte(read(t, deploy+"/alerts.yml")), &rules); err != nil {
		t.Fatal(err)
	}
	tests, guide := read(t, deploy+"/alerts_test.yml"), read(t, root+"/docs/operating.md")
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			if !strings.Contains(tests, "alertname: "+rule.Alert+"\n") {
				t.Errorf("%s has no test", rule.Alert)
			}
			if !strings.Contains(guide, "`"+rule.Alert+"`") {
				t.Errorf("the operating guide does not say what %s means", rule.Alert)
			}
		}
	}
}

// TestWhatIsWatchedExists looks up every metric that the alerts, the dashboard and the guides speak of in the operating guide's
// table, which is that of a recorder.
func TestWhatIsWatchedExists(t *testing.T) {
	guide := read(t, root+"/docs/operating.md")
	shown := make(map[string]bool)
	for _, row := range regexp.MustCompile("(?m)^\\| `(recorder_\\w+)` \\| (\\w+)").FindAllStringSubmatch(guide, -1) {
		shown[row[1]] = true
		if row[2] == "histogram" {
			shown[row[1]+"_bucket"], shown[row[1]+"_sum"], shown[row[1]+"_count"] = true, true, true
		}
	}
	for _, file := range []string{deploy + "/alerts.yml", dashboardFile, root + "/docs/operating.md", root + "/SECURITY.md"} {
		names := regexp.MustCompile(`\brecorder_(build|config|disk|remote|session|signaling|sink)_\w+`).FindAllString(read(t, file), -1)
		if len(names) < 10 {
			t.Errorf("%s names %d metrics", file, len(names))
		}
		for _, name := range names {
			if !shown[name] {
				t.Errorf("%s names %s, which there is not", file, name)
			}
		}
	}
}

func TestSystemdUnitIsValidAndHardened(t *testing.T) {
	analyze := Tool(t, "systemd-analyze")
	unit := strings.ReplaceAll(read(t, deploy+"/recorder.service"), "/usr/local/bin/recorder", Binary(t))
	path := filepath.Join(t.TempDir(), "recorder.service")
	if err := os.WriteFile(path, []byte(unit), 0o644); err != nil {
		t.Fatal(err)
	}
	if out := run(t, "", analyze, "verify", "--man=no", path); strings.TrimSpace(out) != "" {
		t.Errorf("systemd-analyze verify: %s", out)
	}
	run(t, "", analyze, "security", "--offline=true", "--threshold=15", path) // of 100: little exposed
}

// TestWhateverStopsTheRecorderWaitsForItsFiles holds the patience of compose, Kubernetes and systemd against the shutdown_timeout
// that they run the recorder with.
func TestWhateverStopsTheRecorderWaitsForItsFiles(t *testing.T) {
	var configured struct {
		Timeout string `yaml:"shutdown_timeout"`
	}
	timeout := func(text string) time.Duration {
		t.Helper()
		must(t, yaml.Unmarshal([]byte(text), &configured))
		d, err := time.ParseDuration(configured.Timeout)
		must(t, err)
		return d
	}
	shipped := timeout(read(t, root+"/config.yaml"))

	var compose struct {
		Services map[string]struct {
			Grace string `yaml:"stop_grace_period"`
		}
	}
	must(t, yaml.Unmarshal([]byte(read(t, deploy+"/compose.yaml")), &compose))
	grace, err := time.ParseDuration(compose.Services["recorder"].Grace)
	if err != nil || grace <= shipped {
		t.Errorf("compose waits %v for %v: %v", grace, shipped, err)
	}

	_, rest, _ := strings.Cut(read(t, deploy+"/recorder.service"), "\nTimeoutStopSec=")
	line, _, _ := strings.Cut(rest, "\n")
	grace, err = time.ParseDuration(line + "s")
	if err != nil || grace <= shipped {
		t.Errorf("systemd waits %v for %v: %v", grace, shipped, err)
	}

	var most, least time.Duration
	for _, object := range kubernetesObjects(t) {
		switch object["kind"] {
		case "ConfigMap":
			most = timeout(object["data"].(map[string]any)["config.yaml"].(string))
		case "StatefulSet":
			pod := object["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)
			least = time.Duration(pod["terminationGracePeriodSeconds"].(int)) * time.Second
		}
	}
	if most == 0 || least <= most {
		t.Errorf("Kubernetes waits %v for %v", least, most)
	}
}
