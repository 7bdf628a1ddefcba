// Package e2e finds and drives the real parts that tests meet users with: the
// official browser SDK, Chromium and ffmpeg. It holds no product code.
//
// A test that needs a part which is not installed is skipped with a plain
// reason, or fails when the environment says RECORDER_E2E=required.
package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// SDK returns the path of the official SDK's UMD build, as installed by
// "npm ci" in this package's directory, or as named by RECORDER_SDK_UMD.
func SDK(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("RECORDER_SDK_UMD"); path != "" {
		return path
	}
	_, here, _, _ := runtime.Caller(0)
	path := filepath.Join(filepath.Dir(here), "node_modules/@metered-ca/realtime/dist/index.umd.js")
	if _, err := os.Stat(path); err != nil {
		Missing(t, "the official SDK (run: npm ci --prefix internal/e2e)")
	}
	return path
}

// Tool returns the path of an executable, looked up under each name in turn.
func Tool(t testing.TB, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	Missing(t, names[0]+" (Debian's package of that name; ffprobe is in ffmpeg, opusinfo in opus-tools)")
	return ""
}

// Missing ends a test for want of a real part: a skip on a developer's
// machine, a failure where RECORDER_E2E=required.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("RECORDER_E2E") == "required" {
		t.Fatalf("not installed: %s", what)
	}
	t.Skipf("not installed: %s", what)
}
