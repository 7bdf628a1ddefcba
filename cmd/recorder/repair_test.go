package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"recorder/internal/sink"
)

// crashed makes a directory with a recording whose recorder died before its first packet, and one
// that is finished.
func crashed(t *testing.T) string {
	t.Helper()
	live, dir := t.TempDir(), t.TempDir()
	root, err := sink.Open(sink.Options{Dir: live})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	finished, err := root.NewRecording(sink.RecordingInfo{Channel: "hall"})
	if err != nil {
		t.Fatal(err)
	}
	if err := finished.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	rec, err := root.NewRecording(sink.RecordingInfo{Channel: "room"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(live)); err != nil {
		t.Fatal(err)
	}
	if err := rec.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestRepairFinishesWhatACrashLeft(t *testing.T) {
	dir := crashed(t)
	if code, stdout, _ := try(t, t.Context(), "verify", dir); code != exitFailed || !strings.Contains(stdout, "BAD cut short: ") {
		t.Errorf("verify before: %d %q", code, stdout)
	}
	if code, stdout, stderr := try(t, t.Context(), "repair", dir); code != exitOK || stderr != "" ||
		!strings.Contains(stdout, `channel "room", recovered`) || !strings.HasSuffix(stdout, "recordings repaired: 1\n") {
		t.Errorf("%d %q %q", code, stdout, stderr)
	}
	if code, stdout, _ := try(t, t.Context(), "repair", dir); code != exitOK || stdout != "recordings repaired: 0\n" {
		t.Errorf("again: %d %q", code, stdout)
	}
	if code, stdout, _ := try(t, t.Context(), "verify", dir); code != exitOK {
		t.Errorf("verify: %d %q", code, stdout)
	}
}

func TestRepairSaysWhatItCannotDo(t *testing.T) {
	dir := crashed(t)
	found, _ := filepath.Glob(filepath.Join(dir, "room", "*", sink.ManifestName))
	if err := os.WriteFile(found[0], []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, _ := try(t, t.Context(), "repair", "--json", dir)
	if code != exitFailed || !strings.Contains(stdout, `"ok": false`) || !strings.Contains(stdout, "invalid manifest") {
		t.Errorf("%d %q", code, stdout)
	}
	if code, _, stderr := try(t, t.Context(), "repair", filepath.Join(dir, "nowhere")); code != exitFailed || stderr == "" {
		t.Errorf("nowhere: %d %q", code, stderr)
	}
	if code, _, _ := try(t, t.Context(), "repair"); code != exitUsage {
		t.Errorf("no directory: %d", code)
	}
}

func TestRepairEndsWhenItIsTold(t *testing.T) {
	dir := crashed(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("interrupted"))
	if code, _, stderr := try(t, ctx, "repair", dir); code != exitFailed || !strings.Contains(stderr, "interrupted") {
		t.Errorf("%d %q", code, stderr)
	}
	if code, stdout, _ := try(t, t.Context(), "repair", dir); code != exitOK || !strings.HasSuffix(stdout, "recordings repaired: 1\n") {
		t.Errorf("again: %d %q", code, stdout)
	}
}

// A directory that was named by mistake is no directory in which all is well.
func TestRepairSaysThatThereIsNoRecording(t *testing.T) {
	empty := t.TempDir()
	if code, stdout, stderr := try(t, t.Context(), "repair", empty); code != exitFailed || stdout != "" || !strings.HasPrefix(stderr, "recorder: no recordings in "+empty+": ") {
		t.Errorf("%d %q %q", code, stdout, stderr)
	}
	if code, stdout, _ := try(t, t.Context(), "repair", "--json", empty); code != exitFailed || !strings.Contains(stdout, `"ok": false`) {
		t.Errorf("as JSON: %d %q", code, stdout)
	}
	finished := filepath.Join(crashed(t), "hall")
	if code, stdout, stderr := try(t, t.Context(), "repair", finished); code != exitOK || stdout != "recordings repaired: 0\n" {
		t.Errorf("nothing to repair: %d %q %q", code, stdout, stderr)
	}
}

func TestRepairNamesARecordingAsVerifyDoes(t *testing.T) {
	found, _ := filepath.Glob(filepath.Join(crashed(t), "room", "*"))
	for _, command := range []string{"verify", "repair"} {
		if _, stdout, _ := try(t, t.Context(), command, found[0]); !strings.HasPrefix(stdout, found[0]+`  channel "room", `) {
			t.Errorf("%s: %q", command, stdout)
		}
	}
}

// What reads the lists of a report, as the examples of --help do, need not ask whether they are there.
func TestReportsListThePartsOfARecordingWithoutAny(t *testing.T) {
	dir := crashed(t)
	for _, command := range []string{"repair", "verify"} {
		if _, stdout, stderr := try(t, t.Context(), command, "--json", dir); !strings.Contains(stdout, `"parts": []`) {
			t.Errorf("%s: %q %q", command, stdout, stderr)
		}
	}
}
