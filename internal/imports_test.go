package internal

import (
	"bytes"
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Imports go one way, from the command to the files and the wire. What a
// package may not import, beside what the compiler forbids:
var forbidden = map[string][]string{
	"recorder/internal/container": {"recorder/", "github.com/pion/webrtc/v4$", "github.com/coder/websocket"},
	"recorder/internal/sink": {"recorder/internal/remote", "recorder/internal/signaling", "recorder/internal/session",
		"github.com/pion/webrtc/v4$", "github.com/coder/websocket"},
	"recorder/internal/signaling":     {"recorder/", "github.com/pion/"},
	"recorder/internal/event":         {"recorder/", "github.com/pion/"},
	"recorder/internal/remote":        {"recorder/internal/sink", "recorder/internal/session", "github.com/coder/websocket"},
	"recorder/internal/session":       {"recorder/internal/lab", "github.com/coder/websocket"},
	"recorder/internal/lab/attack":    {"recorder/internal/session", "recorder/internal/remote", "recorder/internal/sink", "recorder/internal/signaling"},
	"recorder/internal/lab/devserver": {"recorder/internal/session", "recorder/internal/remote", "recorder/internal/sink", "github.com/pion/"},
}

// A library that one room wraps is imported there and nowhere else.
var owners = map[string]string{
	"github.com/spf13/cobra": "recorder/cmd/",
	"github.com/spf13/viper": "recorder/internal/config",
}

func TestImportsGoOneWay(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "recorder/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen[p.ImportPath] = true
		for _, path := range p.Imports {
			if path == "recorder/internal/guard" {
				continue // it imports nothing but the standard library, and anybody may use it
			}
			if slices.ContainsFunc(forbidden[p.ImportPath], func(f string) bool { return matches(path, f) }) {
				t.Errorf("%s imports %s", p.ImportPath, path)
			}
			if owner := owners[path]; owner != "" && !strings.HasPrefix(p.ImportPath, owner) {
				t.Errorf("%s imports %s, which is for %s", p.ImportPath, path, owner)
			}
		}
	}
	for path := range forbidden {
		if !seen[path] {
			t.Errorf("%s is no longer there", path)
		}
	}
}

// matches reports whether path begins with rule, or is it when that ends in $.
func matches(path, rule string) bool {
	if exact, ok := strings.CutSuffix(rule, "$"); ok {
		return path == exact
	}
	return strings.HasPrefix(path, rule)
}
