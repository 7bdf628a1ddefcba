//go:build linux

package containers

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"recorder/internal/e2e"
)

// isolated is in the environment of the process that isolate made.
const isolated = "RECORDER_E2E_ISOLATED"

// isolate runs the calling test once more, in a process with a network, mounts and process ids of its own, and reports whether
// this is that process. Ports are free there whatever this machine runs, no rule or mount of it is touched, and all that is
// started there ends with it.
func isolate(t *testing.T) bool {
	t.Helper()
	if os.Getenv(isolated) != "" {
		if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
			t.Fatalf("mount /proc: %v", err)
		}
		command(t, time.Minute, nil, "ip", "link", "set", "lo", "up")
		return true
	}
	if os.Getuid() != 0 {
		e2e.Missing(t, "root's rights, to make namespaces with")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v"}
	if end, ok := t.Deadline(); ok {
		args = append(args, "-test.timeout="+(time.Until(end)-10*time.Second).String())
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), isolated+"=1", "TMPDIR="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:   syscall.CLONE_NEWPID | syscall.CLONE_NEWNET,
		Unshareflags: syscall.CLONE_NEWNS,
		Pdeathsig:    syscall.SIGKILL,
	}
	runtime.LockOSThread() // the death of the thread that starts it would be taken for the parent's
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	t.Logf("in its own namespaces:\n%s", out)
	switch {
	case errors.Is(err, syscall.EPERM):
		e2e.Missing(t, "the right to make namespaces")
	case err != nil:
		t.Error(err)
	case bytes.Contains(out, []byte("--- SKIP: "+t.Name())):
		t.SkipNow()
	}
	return false
}

// command runs a program that has to exit with 0 in time, and returns its standard output. env is added to the environment.
func command(t testing.TB, limit time.Duration, env []string, name string, args ...string) string {
	t.Helper()
	var stdout, stderr strings.Builder
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Start()
	if err == nil {
		timer := time.AfterFunc(limit, func() { cmd.Process.Kill() })
		defer timer.Stop()
		err = cmd.Wait()
	}
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String()
}
