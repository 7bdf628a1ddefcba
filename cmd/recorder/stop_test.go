package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"recorder/internal/e2e"
)

// initOf is the line that Go's GODEBUG=inittrace=1 prints once our signal handler stands.
const initOf = "init recorder/internal/signals "

// TestTheSignalHandlerStandsBeforeOtherPackages reads the order in which Go initialises packages.
func TestTheSignalHandlerStandsBeforeOtherPackages(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), e2e.Binary(t), "version")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	out, err := cmd.CombinedOutput()
	must(t, err)
	before, after, found := strings.Cut(string(out), initOf)
	if !found {
		t.Fatalf("it is not initialised:\n%s", out)
	}
	for _, late := range []string{"reflect ", "net ", "regexp ", "recorder/", "main "} {
		if strings.Contains(before, "init "+late) || !strings.Contains(after, "init "+late) {
			t.Errorf("%sis not initialised after it", late)
		}
	}
}

// TestASignalAtAnyMomentOfAStartIsACleanStop sends signals within 50 ms of the moment from which on a Go program can take them.
func TestASignalAtAnyMomentOfAStartIsACleanStop(t *testing.T) {
	binary := e2e.Binary(t)
	for i := range 60 {
		sent := []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP}[i%3]
		config := write(t, fmt.Sprintf("signaling: {url: 'ws://127.0.0.1:1', api_key: pk_live_x}\nhttp: {listen: '127.0.0.1:0'}\n"+
			"recordings: {dir: %q, min_free: 0}\nchannels: [{name: a}]\n", filepath.Join(t.TempDir(), "recordings")))
		after := rand.N(50 * time.Millisecond)
		cmd, stderr := startTraced(t, binary, "run", "--config", config)
		time.Sleep(after)
		must(t, cmd.Process.Signal(sent))
		if sent == syscall.SIGHUP { // for run it is a reload
			time.Sleep(20 * time.Millisecond)
			must(t, cmd.Process.Signal(syscall.SIGTERM))
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v after %v: %v\n%s", sent, after, err, stderr)
		}
	}
}

// startTraced starts the recorder and returns once its handler for signals stands.
func startTraced(t *testing.T, binary string, args ...string) (*exec.Cmd, *e2e.Buffer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	r, w := io.Pipe()
	cmd.Stderr = w
	must(t, cmd.Start())
	rest := new(e2e.Buffer)
	stands := make(chan struct{})
	go func() {
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			switch text := lines.Text(); {
			case strings.HasPrefix(text, initOf):
				close(stands)
			case !strings.HasPrefix(text, "init "):
				fmt.Fprintln(rest, text)
			}
		}
	}()
	t.Cleanup(func() { _ = w.Close() })
	select {
	case <-stands:
	case <-ctx.Done():
		t.Fatalf("the handler never stood: %s", rest)
	}
	return cmd, rest
}

// TestEveryCommandEndsWithinTwoSecondsOfASignal has each wait for what never comes: a configuration from a pipe in which nothing
// comes, and the place for its output in pipes that nobody reads.
func TestEveryCommandEndsWithinTwoSecondsOfASignal(t *testing.T) {
	binary := e2e.Binary(t)
	var commands sync.WaitGroup
	for i, args := range []string{
		"run --config /dev/stdin", // the first: on SIGHUP, which it does not get, it goes on
		"check --config /dev/stdin", "healthcheck --config /dev/stdin", "help", "version", "version --json", "check --help", "verify --help",
		"demo", "bench --duration 30s", "devserver --listen 127.0.0.1:0", "nonsense", "completion bash", "verify /proc", "repair /proc",
	} {
		sent := []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGTERM}[i%4]
		commands.Go(func() {
			code, took := stopStuck(t, sent, binary, strings.Fields(args)...)
			if took > 2*time.Second {
				t.Errorf("%s: %v after %v", args, sent, took)
			}
			if want := exitFailed; code != want && args != "devserver --listen 127.0.0.1:0" {
				t.Errorf("%s: exit code %d, want %d", args, code, want)
			}
		})
	}
	commands.Wait()
}

// stopStuck runs the recorder with a standard input in which nothing comes and outputs that take nothing, and signals it.
func stopStuck(t *testing.T, sent os.Signal, binary string, args ...string) (code int, took time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	stdin, out, held := fullPipe(t), fullPipe(t), fullPipe(t)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin.empty, out.full, held.full
	must(t, cmd.Start())
	time.Sleep(time.Second) // until it waits; a command that is slower is stopped earlier
	must(t, cmd.Process.Signal(sent))
	told := time.Now()
	_ = cmd.Wait() // the code says how
	return cmd.ProcessState.ExitCode(), time.Since(told)
}

type stuckPipe struct{ full, empty *os.File }

// fullPipe returns the writing end of a pipe that takes no more, and the reading end of one in which nothing comes.
func fullPipe(t *testing.T) (p stuckPipe) {
	t.Helper()
	r, w, err := os.Pipe()
	must(t, err)
	empty, hold, err := os.Pipe()
	must(t, err)
	t.Cleanup(func() {
		for _, f := range []*os.File{r, w, empty, hold} {
			_ = f.Close()
		}
	})
	raw, err := w.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) {
		for {
			if _, err := syscall.Write(int(fd), make([]byte, 4096)); err != nil {
				return // full: Go's pipes do not block
			}
		}
	}))
	return stuckPipe{w, empty}
}

func TestACommandMayTakeMoreTimeToStopThanOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, allowed := range []time.Duration{0, 20 * time.Millisecond, time.Minute} {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			began := time.Now()
			release := make(chan struct{})
			code := bounded(ctx, io.Discard, func(ctx context.Context) int {
				if allowed > 0 {
					time.Sleep(stopPatience / 2) // it is known some time after the signal, as after a configuration was read
					allowToStop(ctx, allowed, errTooLate(allowed))
				}
				<-release
				return exitOK
			})
			want := max(allowed, stopPatience)
			if took := time.Since(began); code != exitFailed || took != want {
				t.Errorf("%v: exit code %d after %v, want it after %v", allowed, code, took, want)
			}
			close(release)
			synctest.Wait()
		}
	})
}
