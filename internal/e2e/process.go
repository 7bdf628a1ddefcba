package e2e

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Binary builds the recorder once per test process and returns its path.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Main runs the tests of a package that uses [Binary], and removes that.
func Main(m *testing.M) {
	code := m.Run()
	RemoveBinary()
	os.Exit(code)
}

// RemoveBinary removes what [Binary] built.
func RemoveBinary() { os.RemoveAll(binDir) }

var binDir string // of the built recorder; empty until then

var buildOnce = sync.OnceValues(func() (path string, err error) {
	if binDir, err = os.MkdirTemp("", "recorder-bin-"); err != nil {
		return "", err
	}
	path = filepath.Join(binDir, "recorder")
	if out, err := exec.Command("go", "build", "-o", path, "recorder/cmd/recorder").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the recorder: %w\n%s", err, out)
	}
	return path, nil
})

// Process is a running recorder command. What it printed is shown when the
// test fails.
type Process struct {
	t      testing.TB
	cmd    *exec.Cmd
	output Buffer
	done   chan error
}

// Start runs the recorder with the given arguments; it ends with the test.
func Start(t testing.TB, args ...string) *Process {
	t.Helper()
	return start(t, exec.Command(Binary(t), args...))
}

// start runs a command that is the recorder, or becomes it.
func start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{t: t, cmd: cmd, done: make(chan error, 1)}
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.done <- p.cmd.Wait() }()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		if t.Failed() {
			t.Logf("%v printed:\n%s", cmd.Args, p.Output())
		}
	})
	return p
}

// Output returns what the process has printed so far.
func (p *Process) Output() string { return p.output.String() }

// Kill ends the process at once, as a crash would.
func (p *Process) Kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// Signal sends the process a signal.
func (p *Process) Signal(s syscall.Signal) { p.cmd.Process.Signal(s) }

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Wait returns the exit code of the process, which has to end within the limit.
func (p *Process) Wait(limit time.Duration) (code int) {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(limit):
		p.t.Fatalf("recorder did not end within %v", limit)
		return -1
	}
}

// Stop asks the process to end, as a supervisor does, and expects exit 0.
func (p *Process) Stop() {
	p.t.Helper()
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(20 * time.Second); code != 0 {
		p.t.Errorf("recorder: exit code %d", code)
	}
}

// FreeAddr returns a loopback address that nothing listens on.
func FreeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// WaitHTTP waits until a GET of the URL answers 200.
func WaitHTTP(t testing.TB, url string, limit time.Duration) {
	t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(url)
		if err != nil {
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return
		}
	}
	t.Fatalf("%s did not answer 200 within %v", url, limit)
}

// Buffer is a [bytes.Buffer] for many goroutines.
type Buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write appends to the buffer.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String returns what was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
