package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"recorder/internal/config"

	"go.uber.org/goleak"

	"recorder/internal/e2e"
	"recorder/internal/lab/devserver"
)

// stuckEnv makes the test binary a process that does not stop when it is asked to.
const stuckEnv = "TEST_STUCK_PROCESS"

// mainEnv makes the test binary the recorder.
const mainEnv = "TEST_RECORDER"

func TestMain(m *testing.M) {
	if os.Getenv(stuckEnv) != "" {
		ctx := untilSignal()
		fmt.Println("started")
		<-ctx.Done()
		fmt.Println("stopping")
		time.Sleep(sameSignal)
		fmt.Println("still stopping")
		time.Sleep(time.Hour)
	}
	if os.Getenv(mainEnv) != "" {
		main()
	}
	signal.Reset(os.Interrupt, syscall.SIGTERM) // a person who runs the tests may end them
	// What the developer's shell says must not decide what a test sees.
	singles, _ := config.KeyPaths(reflect.TypeFor[config.Config](), "")
	for _, key := range singles {
		os.Unsetenv(config.EnvName(key))
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		e2e.RemoveBinary()
		os.Exit(code)
	}))
}

func TestExitCodeSaysWhoseFaultItIs(t *testing.T) {
	good := filepath.Join(t.TempDir(), "good.yaml")
	if err := os.WriteFile(good, []byte("signaling: {api_key: pk_live_x}\nhttp: {listen: '127.0.0.1:1'}\nchannels: [{name: a}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name       string
		args       []string
		code       int
		stdout     string // prefix
		stderrLine string // prefix of the first line
	}{
		{"no command", nil, exitOK, "recorder joins channels", ""},
		{"help", []string{"check", "--help"}, exitOK, "check reads a configuration", ""},
		{"version", []string{"version"}, exitOK, "recorder ", ""},
		{"good configuration", []string{"check", "-c", good}, exitOK, good + ": good: channels 1, recordings ./recordings", ""},
		{"bad configuration", []string{"check", "-c", "../../internal/config/testdata/bad/channels-none.yaml"}, exitUsage, "", "../../internal/config/testdata/bad/channels-none.yaml:2: channels: needs at least one channel"},
		{"no configuration", []string{"check", "-c", "none.yaml"}, exitUsage, "", "recorder: read configuration: open none.yaml: "},
		{"unknown command", []string{"recrod"}, exitUsage, "", `recorder: unknown command "recrod" for "recorder"`},
		{"unknown flag", []string{"check", "--fast"}, exitUsage, "", "recorder: unknown flag: --fast"},
		{"extra argument", []string{"version", "now"}, exitUsage, "", `recorder: version takes no argument, got "now"`},
		{"configuration as an argument", []string{"run", "config.yaml"}, exitUsage, "", `recorder: run takes no argument, got "config.yaml"; the configuration is --config`},
		{"no directory", []string{"verify"}, exitUsage, "", "recorder: verify wants one DIR, got 0"},
		{"two directories", []string{"repair", "a", "b"}, exitUsage, "", "recorder: repair wants one DIR, got 2"},
		{"bad secret key", []string{"devserver", "--secret-key", "TOPSECRET"}, exitUsage, "", "recorder: --secret-key number 1: want id=secret"},
		{"SDK that is not there", []string{"devserver", "--sdk", "/nonexist"}, exitUsage, "", "recorder: --sdk /nonexist: stat /nonexist: no such file or directory"},
		{"SDK that is a directory", []string{"devserver", "--sdk", "."}, exitUsage, "", "recorder: --sdk .: want a file"},
		{"version as a flag", []string{"--version"}, exitOK, "recorder ", ""},
		{"address in use or forbidden", []string{"devserver", "--listen", "256.0.0.1:1"}, exitFailed, "", "recorder: devserver: listen tcp: "},
		{"nothing to check", []string{"healthcheck", "-c", good}, exitFailed, "", `recorder: Get "http://127.0.0.1:1/healthz": `},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, stdout, stderr := try(t, t.Context(), tt.args...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if !strings.HasPrefix(stdout, tt.stdout) || tt.stdout == "" && stdout != "" {
				t.Errorf("stdout:\n%s\nwant it to begin with %q", stdout, tt.stdout)
			}
			if !strings.HasPrefix(stderr, tt.stderrLine) || tt.stderrLine == "" && stderr != "" {
				t.Errorf("stderr:\n%s\nwant it to begin with %q", stderr, tt.stderrLine)
			}
			if strings.Contains(stderr, "TOPSECRET") {
				t.Error("stderr holds a credential")
			}
		})
	}
}

func TestVersionLeavesOutWhatIsNotKnown(t *testing.T) {
	for want, info := range map[string]BuildInfo{
		"recorder devel (go1.26.0, linux/amd64)":        {Version: "devel", Go: "go1.26.0", Platform: "linux/amd64"},
		"recorder 1.2.3 0abc12 (go1.26.0, linux/amd64)": {Version: "1.2.3", Revision: "0abc12", Go: "go1.26.0", Platform: "linux/amd64"},
	} {
		if got := info.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	_, flag, _ := try(t, t.Context(), "--version")
	if _, command, _ := try(t, t.Context(), "version"); flag != command || strings.Contains(flag, "(devel)") {
		t.Errorf("got %q and %q", flag, command)
	}
}

// The join page, the example configuration and the manual meet in one channel without anybody typing.
func TestJoinPageOffersTheChannelOfTheExampleConfiguration(t *testing.T) {
	t.Setenv("RECORDER_SIGNALING_API_KEY", testKey)
	cfg, err := config.Load("../../config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	page := httptest.NewRecorder()
	server := devserver.New(devserver.Options{})
	defer server.Close()
	server.ServeHTTP(page, httptest.NewRequest("GET", "/", nil))
	if want := `value="` + cfg.Channels[0].Name + `"`; !strings.Contains(page.Body.String(), want) {
		t.Errorf("the page has no %s", want)
	}
}

func TestCheckPrintsItsFindingsAsJSON(t *testing.T) {
	code, stdout, _ := try(t, t.Context(), "check", "--json", "-c", "../../internal/config/testdata/bad/all-at-once.yaml")
	if code != exitUsage {
		t.Errorf("exit code %d", code)
	}
	var result struct {
		OK     bool
		Faults []config.Fault
	}
	if err := json.Unmarshal([]byte(stdout), &result); err != nil {
		t.Fatal(err)
	}
	if result.OK || len(result.Faults) < 10 {
		t.Errorf("got %+v", result)
	}
	for _, f := range result.Faults {
		if f.Key == "" || f.Line == 0 || f.Message == "" {
			t.Errorf("got %+v", f)
		}
	}
}

func TestMisspeltVariableIsReportedOnceWithoutItsValue(t *testing.T) {
	t.Setenv("RECORDER_SIGNALING_APIKEY", testKey)
	t.Setenv("RECORDER_SIGNALING_API_KEY", testKey)
	config := write(t, "signaling: {url: 'ws://127.0.0.1:1'}\nhttp: {listen: '127.0.0.1:0'}\nrecordings: {dir: '"+t.TempDir()+"'}\nchannels: [{name: a}]\n")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, command := range []string{"run", "check"} {
		code, stdout, stderr := try(t, ctx, command, "-c", config)
		if n := strings.Count(stderr, "RECORDER_SIGNALING_APIKEY"); code != exitOK || n != 1 {
			t.Errorf("%s: exit code %d, said %d times:\n%s", command, code, n, stderr)
		}
		if strings.Contains(stdout+stderr, "TOPSECRET") || strings.Contains(stderr, "API_KEY") {
			t.Errorf("%s: said too much:\n%s", command, stderr)
		}
	}
}

func TestBrokenYAMLIsPlacedByItsLineInJSONToo(t *testing.T) {
	_, stdout, _ := try(t, t.Context(), "check", "--json", "-c", "../../internal/config/testdata/bad/key-twice.yaml")
	if !strings.Contains(stdout, `"line": 3`) {
		t.Errorf("got %s", stdout)
	}
}

func TestEveryCommandHasHelpWithAnExampleAndItsExitCodes(t *testing.T) {
	for _, cmd := range newRootCommand().Commands() {
		if cmd.Example == "" {
			t.Errorf("%s has no example", cmd.Name())
		}
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: short text %q", cmd.Name(), cmd.Short)
		}
		if cmd.Name() != "version" && !strings.Contains(cmd.Long, "Exit codes:") {
			t.Errorf("%s does not tell its exit codes", cmd.Name())
		}
	}
}

func TestDevserverStopsWhenAsked(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	code, stdout, stderr := try(t, ctx, "devserver", "--listen", "127.0.0.1:0")
	if code != exitOK || !strings.Contains(stdout, "ws://127.0.0.1:") {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

func TestSecondSignalEndsTheProcessAtOnceAndSaysSo(t *testing.T) {
	for _, first := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(first.String(), func(t *testing.T) {
			t.Parallel()
			for range 5 {
				if !echoWasLate(t, first) {
					return
				}
			}
			t.Fatal("the machine is too busy to deliver two signals within a second")
		})
	}
}

// echoWasLate sends a process that does not stop a signal, its echo and another one. If the echo ended it a second or more after
// the first one, that was rightly so, and says nothing of the rest.
func echoWasLate(t *testing.T, first os.Signal) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), stuckEnv+"=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(out)
	var began time.Time
	for _, step := range []struct {
		said string
		sent os.Signal
	}{{"started", first}, {"stopping", os.Interrupt}, {"still stopping", os.Interrupt}} {
		if !lines.Scan() || lines.Text() != step.said {
			if took := time.Since(began); step.said == "still stopping" && took >= sameSignal && ctx.Err() == nil {
				_ = cmd.Wait() // it has ended
				t.Logf("the echo ended it after %v", took)
				return true
			}
			t.Fatalf("it said %q instead of %q", lines.Text(), step.said)
		}
		if began.IsZero() {
			began = time.Now()
		}
		must(t, cmd.Process.Signal(step.sent))
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exitFailed {
		t.Errorf("ended with %v", err)
	}
	if !strings.Contains(stderr.String(), "recorder: a second signal") {
		t.Errorf("it said %q", stderr.String())
	}
	return false
}

func TestSignalsWithinASecondAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signals := make(chan os.Signal)
		done := make(chan struct{})
		go func() {
			defer close(done)
			awaitSecond(signals, func() {})
		}()
		for range 3 {
			synctest.Wait()
			signals <- os.Interrupt
			time.Sleep(sameSignal / 3)
		}
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("the echo of a signal was taken for another")
		default:
		}
		time.Sleep(sameSignal)
		signals <- os.Interrupt
		<-done
	})
}

func TestASecondAfterASignalAnotherCountsHoweverLongTheStopTookToBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signals := make(chan os.Signal, 1)
		signals <- os.Interrupt
		done := make(chan struct{})
		go func() {
			defer close(done)
			awaitSecond(signals, func() { time.Sleep(sameSignal / 2) })
		}()
		time.Sleep(sameSignal)
		signals <- os.Interrupt
		synctest.Wait()
		select {
		case <-done:
		default:
			t.Error("a second signal was taken for an echo")
			signals <- os.Interrupt
			time.Sleep(sameSignal)
			signals <- os.Interrupt
			<-done
		}
	})
}

// try runs the recorder with args, in this process.
func try(t *testing.T, ctx context.Context, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err e2e.Buffer // of a run that could not end in time, something is left that may log
	code = execute(ctx, append([]string{}, args...), &out, &err)
	return code, out.String(), err.String()
}
