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

var buildOnce = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "recorder-bin-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "recorder")
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
	output lockedBuffer
	done   chan error
}

// Start runs the recorder with the given arguments; it ends with the test.
func Start(t testing.TB, args ...string) *Process {
	t.Helper()
	p := &Process{t: t, cmd: exec.Command(Binary(t), args...), done: make(chan error, 1)}
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.done <- p.cmd.Wait() }()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		if t.Failed() {
			t.Logf("recorder %v printed:\n%s", args, p.Output())
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

// Stop asks the process to end, as a supervisor does, and expects exit 0.
func (p *Process) Stop() {
	p.t.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-p.done:
		if err != nil {
			p.t.Errorf("recorder: %v", err)
		}
	case <-time.After(20 * time.Second):
		p.t.Error("recorder did not end within 20 s of SIGTERM")
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

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
