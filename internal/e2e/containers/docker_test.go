//go:build linux

package containers

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"recorder/internal/e2e"
)

// docker is a daemon that only this test knows.
type docker struct {
	t   testing.TB
	cli string
	env []string
}

// startDocker starts a daemon, which ends with the test.
func startDocker(t testing.TB) *docker {
	t.Helper()
	dir, err := os.MkdirTemp("", "docker-") // its mounts end with this process, and then it is removed, see isolate
	if err != nil {
		t.Fatal(err)
	}
	d := &docker{t: t, cli: e2e.Tool(t, "/usr/bin/docker", "docker"), env: []string{
		"DOCKER_HOST=unix://" + filepath.Join(dir, "docker.sock"), "DOCKER_BUILDKIT=1", "BUILDKIT_PROGRESS=plain",
	}}
	var log bytes.Buffer
	// It compiles for more than a minute and is in no hurry; tests beside it are.
	cmd := exec.Command("nice", "-n", "10", e2e.Tool(t, "dockerd"), "--host", strings.TrimPrefix(d.env[0], "DOCKER_HOST="),
		"--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid"),
		"--log-level", "warn", "--bip", gateway+"/16")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		cmd.Wait()
		close(done)
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
			if t.Failed() || t.Skipped() {
				t.Logf("dockerd printed:\n%s", log.String())
			}
		case <-time.After(time.Minute):
			t.Error("dockerd did not end within a minute of SIGTERM") // it does with this process, which is its init
		}
	})
	for end := time.Now().Add(time.Minute); !d.try("version"); time.Sleep(200 * time.Millisecond) {
		select {
		case <-done:
			e2e.Missing(t, "what dockerd needs to run")
		default:
		}
		if time.Now().After(end) {
			t.Fatal("dockerd does not answer")
		}
	}
	return d
}

// gateway is the address under which containers of the default network reach this process.
const gateway = "172.17.0.1"

// run runs a client's command, which has to succeed, and returns what it printed, less space around it.
func (d *docker) run(args ...string) string {
	d.t.Helper()
	return strings.TrimSpace(command(d.t, 10*time.Minute, d.env, d.cli, args...))
}

// try reports whether a client's command succeeds.
func (d *docker) try(args ...string) bool {
	cmd := exec.Command(d.cli, args...)
	cmd.Env = append(os.Environ(), d.env...)
	return cmd.Run() == nil
}

// logs shows what a container printed if the test fails.
func (d *docker) logs(container string) {
	d.t.Cleanup(func() {
		if d.t.Failed() {
			cmd := exec.Command(d.cli, "logs", container)
			cmd.Env = append(os.Environ(), d.env...)
			out, _ := cmd.CombinedOutput()
			d.t.Logf("%s printed:\n%s", container, out)
		}
	})
}

// awaitHealthy waits until the image's own HEALTHCHECK has called a container healthy.
func (d *docker) awaitHealthy(container string) {
	d.t.Helper()
	var status string
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		if status = d.run("inspect", "-f", "{{.State.Status}} {{.State.Health.Status}}", container); status == "running healthy" {
			return
		}
	}
	d.t.Fatalf("%s is %s: %s", container, status, d.run("inspect", "-f", "{{json .State}}", container))
}

// serveModules is a Go module proxy, which has what is in this machine's module cache. It returns its address for GOPROXY.
func serveModules(t testing.TB) string {
	t.Helper()
	cache := strings.TrimSpace(command(t, time.Minute, nil, "go", "env", "GOMODCACHE"))
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(filepath.Join(cache, "cache", "download")))}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return "http://" + net.JoinHostPort(gateway, port)
}

// get returns the body of a GET that answers 200, or "".
func get(url string) string {
	resp, err := http.Get(url)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return ""
	}
	return string(body)
}
