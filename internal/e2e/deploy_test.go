package e2e

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
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
	tests, guide := read(t, deploy+"/alerts_test.yml"), read(t, root+"/README.md")
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			if !strings.Contains(tests, "alertname: "+rule.Alert+"\n") {
				t.Errorf("%s has no test", rule.Alert)
			}
			if !strings.Contains(guide, "`"+rule.Alert+"`") {
				t.Errorf("the README does not say what %s means", rule.Alert)
			}
		}
	}
}

// dashboard is what the tests read of the Grafana dashboard.
type dashboard struct {
	Panels []struct {
		ID      int    `json:"id"`
		Type    string `json:"type"`
		Title   string `json:"title"`
		GridPos struct{ X, Y, W, H int }
		Targets []struct {
			Expr string `json:"expr"`
		} `json:"targets"`
	} `json:"panels"`
}

func readDashboard(t testing.TB) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal([]byte(read(t, deploy+"/grafana/recorder.json")), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// expressions are all queries of the dashboard, by panel, as Grafana would send them.
func (d dashboard) expressions() map[string][]string {
	variables := strings.NewReplacer("$__rate_interval", "10s", "$channel", ".*")
	all := make(map[string][]string)
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			all[p.Title] = append(all[p.Title], variables.Replace(target.Expr))
		}
	}
	return all
}

func TestDashboardParsesAndFitsItsGrid(t *testing.T) {
	promtool := Tool(t, "promtool")
	d := readDashboard(t)
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	for title, expressions := range d.expressions() {
		for _, expr := range expressions {
			if strings.Contains(expr, "$") {
				t.Errorf("%s: unknown variable in %s", title, expr)
			}
			fmt.Fprintf(&rules, "  - record: panel:expression\n    expr: %q\n    labels: {panel: %q, n: %q}\n", expr, title, fmt.Sprint(rules.Len()))
		}
	}
	run(t, rules.String(), promtool, "check", "rules", "/dev/stdin")

	ids, cells := make(map[int]bool), make(map[[2]int]string)
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("%s: id %d is taken", p.Title, p.ID)
		}
		ids[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%s asks for nothing", p.Title)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := cells[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s lies on %q or outside", p.Title, other)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
	}
}

// TestKubernetesManifestsAreValid holds them against the API's own schema, in which unknown fields are refused.
func TestKubernetesManifestsAreValid(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("testdata/kubernetes.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(deploy + "/kubernetes/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	kinds := make(map[string]bool)
	for _, file := range files {
		decoder := yaml.NewDecoder(strings.NewReader(read(t, file)))
		for {
			var object map[string]any
			if err := decoder.Decode(&object); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if err := validate(schema, object); err != nil {
				t.Errorf("%s: %v", file, err)
			}
			if spec, ok := object["spec"].(map[string]any); ok {
				spec["replica"] = 1
				if validate(schema, object) == nil {
					t.Errorf("%s: %s: a misspelt field is taken", file, object["kind"])
				}
			}
			kinds[object["kind"].(string)] = true
			if object["kind"] == "ConfigMap" {
				checkConfigMap(t, object)
			}
		}
	}
	for _, kind := range []string{"StatefulSet", "Service", "ConfigMap", "Secret", "PodMonitor"} {
		if !kinds[kind] {
			t.Errorf("no %s", kind)
		}
	}
}

func validate(schema *jsonschema.Schema, object map[string]any) error {
	text, err := json.Marshal(object)
	if err != nil {
		return err
	}
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return schema.Validate(instance)
}

// checkConfigMap has the recorder check the configuration in a ConfigMap.
func checkConfigMap(t *testing.T, object map[string]any) {
	t.Helper()
	key := filepath.Join(t.TempDir(), "api_key")
	if err := os.WriteFile(key, []byte("pk_live_x"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := object["data"].(map[string]any)["config.yaml"].(string)
	config := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(config, []byte(strings.ReplaceAll(text, "/run/secrets/recorder/api_key", key)), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "", Binary(t), "check", "--config", config)
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

func TestComposeMountsFilesThatExist(t *testing.T) {
	var compose struct {
		Services map[string]struct {
			Volumes   []string `yaml:"volumes"`
			DependsOn []string `yaml:"depends_on"`
		} `yaml:"services"`
		Volumes map[string]any `yaml:"volumes"`
	}
	if err := yaml.Unmarshal([]byte(read(t, deploy+"/compose.yaml")), &compose); err != nil {
		t.Fatal(err)
	}
	for name, service := range compose.Services {
		for _, volume := range service.Volumes {
			source, _, _ := strings.Cut(volume, ":")
			if _, named := compose.Volumes[source]; named {
				continue
			}
			if _, err := os.Stat(filepath.Join(deploy, source)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, other := range service.DependsOn {
			if _, ok := compose.Services[other]; !ok {
				t.Errorf("%s depends on %s, which is not there", name, other)
			}
		}
	}
	for _, want := range []string{"devserver", "recorder", "prometheus", "grafana"} {
		if _, ok := compose.Services[want]; !ok {
			t.Errorf("no %s", want)
		}
	}
}

// TestImageHoldsOneSmallStaticBinary builds as the Dockerfile does, in two places, and compares.
func TestImageHoldsOneSmallStaticBinary(t *testing.T) {
	const most = 40_000_000
	command := regexp.MustCompile(`RUN (CGO_ENABLED=0 go build .*) -o /out/recorder`).FindStringSubmatch(read(t, root+"/Dockerfile"))
	if command == nil {
		t.Fatal("the Dockerfile builds in another way than this test knows")
	}
	var builds [2]string
	for i := range builds {
		dir := t.TempDir()
		builds[i] = filepath.Join(dir, "recorder")
		run(t, "", "sh", "-ec", fmt.Sprintf("cd %s && cp -r go.mod go.sum cmd internal %[2]s && cd %[2]s && %[3]s -o %[4]s ./cmd/recorder",
			root, dir, command[1], builds[i]))
	}
	if read(t, builds[0]) != read(t, builds[1]) {
		t.Error("two builds differ")
	}
	if size := len(read(t, builds[0])); size > most {
		t.Errorf("%d bytes", size)
	}
	binary, err := elf.Open(builds[0])
	if err != nil {
		t.Fatal(err)
	}
	defer binary.Close()
	for _, p := range binary.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("it needs a dynamic loader, which the image does not have")
		}
	}
}
