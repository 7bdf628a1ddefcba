package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

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

const dashboardFile = deploy + "/grafana/recorder.json"

func readDashboard(t testing.TB) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal([]byte(read(t, dashboardFile)), &d); err != nil {
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

// TestDashboardHasTheTypesOfGrafana has the TypeScript compiler hold it against the types that Grafana publishes, those of the
// panels' options included. Fields that they do not know are errors.
func TestDashboardHasTheTypesOfGrafana(t *testing.T) {
	node := Tool(t, "node", "nodejs")
	modules, err := filepath.Abs("node_modules")
	if err != nil {
		t.Fatal(err)
	}
	compiler := filepath.Join(modules, "typescript", "bin", "tsc")
	for _, path := range []string{compiler, filepath.Join(modules, "@grafana", "schema")} {
		if _, err := os.Stat(path); err != nil {
			Missing(t, "the types of Grafana (run: npm ci --prefix internal/e2e)")
		}
	}
	dir := t.TempDir()
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	typed := filepath.Join(dir, "dashboard.ts")
	source := read(t, "testdata/dashboard.ts") + "export const dashboard: InJSON<OurDashboard> = " + read(t, dashboardFile)
	if err := os.WriteFile(typed, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "", node, compiler, "--noEmit", "--strict", "--module", "nodenext", typed)
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
