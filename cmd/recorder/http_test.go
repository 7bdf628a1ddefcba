package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"recorder/internal/sink"
)

// newTestHandler returns a handler whose recorder has started, and what decides its readiness.
func newTestHandler(t *testing.T) (http.Handler, *readiness) {
	t.Helper()
	ready := &readiness{disk: newDiskProbe(t.TempDir(), slog.New(slog.DiscardHandler)), channels: func() []ChannelStatus {
		return []ChannelStatus{{Channel: "a", State: "joined", Peers: 2}, {Channel: "b", State: "failed", Error: "closed with 4001"}}
	}}
	ready.space = func() error { return nil }
	ready.loaded.Store(true)
	ready.disk.probe()
	return newHandler(newRegistry(), ready, false, slog.New(slog.DiscardHandler)), ready
}

func get(h http.Handler, method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w
}

func TestReadyzShowsEveryChannelAndSurvivesAFailedOne(t *testing.T) {
	h, _ := newTestHandler(t)
	w := get(h, "GET", "/readyz")
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("got %d, %q", w.Code, w.Header().Get("Content-Type"))
	}
	want := `{"ready":true,"reasons":[],"channels":[` +
		`{"channel":"a","state":"joined","peers":2},` +
		`{"channel":"b","state":"failed","peers":0,"error":"closed with 4001"}]}`
	if got := strings.TrimSpace(w.Body.String()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestReadyzIs503WithTheReason(t *testing.T) {
	for _, tt := range []struct {
		name   string
		breaks func(*readiness)
		reason string
	}{
		{"starting", func(r *readiness) { r.loaded.Store(false) }, "starting"},
		{"draining", func(r *readiness) { r.draining.Store(true) }, "draining"},
		{"directory gone", func(r *readiness) { os.RemoveAll(r.disk.dir); r.disk.probe() }, "recordings directory: cannot be written: no such file or directory"},
		{"no descriptors", func(r *readiness) { r.disk.try = func(string) error { return syscall.EMFILE }; r.disk.probe() }, "open files: too many open files"},
		{"disk full", func(r *readiness) { r.space = func() error { return sink.ErrDiskFull } }, "recordings directory: too little disk space"},
		{"directory is a file", func(r *readiness) {
			r.disk.dir = filepath.Join(r.disk.dir, "file")
			os.WriteFile(r.disk.dir, nil, 0o600)
			r.disk.probe()
		}, "recordings directory: cannot be written: not a directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, ready := newTestHandler(t)
			tt.breaks(ready)
			w := get(h, "GET", "/readyz")
			var body Readiness
			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
				t.Fatal(err)
			}
			if w.Code != http.StatusServiceUnavailable || body.Ready || len(body.Reasons) != 1 || !strings.HasPrefix(body.Reasons[0], tt.reason) {
				t.Errorf("got %d, %+v", w.Code, body)
			}
			if len(body.Channels) != 2 {
				t.Errorf("the channels are not shown: %+v", body)
			}
			if w := get(h, "GET", "/healthz"); w.Code != http.StatusOK {
				t.Errorf("/healthz is %d: alive is not ready", w.Code)
			}
		})
	}
}

func TestDiskThatHangsIsNotWritable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newDiskProbe(t.TempDir(), slog.New(slog.DiscardHandler))
		if p.Err(time.Now()) == nil {
			t.Error("writable before it was tried")
		}
		p.probe()
		time.Sleep(probeTimeout)
		if err := p.Err(time.Now()); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Nanosecond)
		if err := p.Err(time.Now()); err != errNoAnswer {
			t.Errorf("got %v", err)
		}
	})
}

func TestADirectoryThatTakesNoFileIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	dir := t.TempDir()
	p := newDiskProbe(dir, slog.New(slog.NewTextHandler(&log, nil)))
	p.probe()
	must(t, os.Remove(dir))
	p.probe()
	p.probe()
	must(t, os.Mkdir(dir, 0o750))
	p.probe()
	p.probe()
	if bad, good := strings.Count(log.String(), "takes no file"), strings.Count(log.String(), "takes files again"); bad != 1 || good != 1 {
		t.Errorf("logged:\n%s", log.String())
	}
}

// That the process has too many open files says nothing of the disk.
func TestTooManyOpenFilesIsNotTheDisk(t *testing.T) {
	var log bytes.Buffer
	p := newDiskProbe(t.TempDir(), slog.New(slog.NewTextHandler(&log, nil)))
	p.probe()
	p.try = func(string) error { return fmt.Errorf("cannot be written: %w", syscall.EMFILE) }
	p.probe()
	p.probe()
	if err := p.Err(time.Now()); err != nil || p.Limit() == nil {
		t.Errorf("disk %v, limit %v", err, p.Limit())
	}
	p.try = tryWrite
	p.probe()
	if err := p.Limit(); err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "too many open files") {
		t.Errorf("logged:\n%s", log.String())
	}
}

func TestDiskProbeLeavesNothingBehind(t *testing.T) {
	p := newDiskProbe(t.TempDir(), slog.New(slog.DiscardHandler))
	p.probe()
	if err := p.Err(time.Now()); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(p.dir); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

func TestMetricsTellOfProcessGoAndBuild(t *testing.T) {
	h, _ := newTestHandler(t)
	w := get(h, "GET", "/metrics")
	if w.Code != http.StatusOK {
		t.Fatalf("got %d", w.Code)
	}
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes", "recorder_build_info{goversion=", "promhttp_metric_handler_errors_total"} {
		if !strings.Contains(w.Body.String(), "\n"+name) {
			t.Errorf("no %s", name)
		}
	}
	problems, err := testutil.GatherAndLint(newRegistry())
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

func TestBrokenCollectorDoesNotHideTheOthers(t *testing.T) {
	reg := newRegistry()
	reg.MustRegister(brokenCollector{})
	h := newHandler(reg, &readiness{disk: newDiskProbe(t.TempDir(), slog.New(slog.DiscardHandler)), space: func() error { return nil }}, false, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if w := get(h, "GET", "/metrics"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "recorder_build_info") {
		t.Errorf("got %d", w.Code)
	}
}

type brokenCollector struct{}

var brokenDesc = prometheus.NewDesc("recorder_broken", "Never works.", nil, nil)

func (brokenCollector) Describe(ch chan<- *prometheus.Desc) { ch <- brokenDesc }
func (brokenCollector) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.NewInvalidMetric(brokenDesc, io.ErrUnexpectedEOF)
}

func TestOnlyKnownPathsAndMethodsAreServed(t *testing.T) {
	h, _ := newTestHandler(t)
	for _, tt := range []struct {
		method, path string
		code         int
	}{
		{"GET", "/", http.StatusNotFound},
		{"GET", "/debug/pprof/", http.StatusNotFound},
		{"POST", "/metrics", http.StatusMethodNotAllowed},
		{"DELETE", "/readyz", http.StatusMethodNotAllowed},
		{"HEAD", "/healthz", http.StatusOK},
	} {
		if w := get(h, tt.method, tt.path); w.Code != tt.code {
			t.Errorf("%s %s: got %d, want %d", tt.method, tt.path, w.Code, tt.code)
		}
	}
}

func TestHealthcheckFollowsTheConfiguredAddress(t *testing.T) {
	h, _ := newTestHandler(t)
	server := httptest.NewServer(h)
	defer server.Close()
	// The file is no good for run, having no credential and no channel: a probe does not mind.
	file := write(t, "http: {listen: '"+server.Listener.Addr().String()+"'}\n")
	if code, _, stderr := try(t, t.Context(), "healthcheck", "-c", file); code != exitOK {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	t.Setenv("RECORDER_HTTP_LISTEN", server.Listener.Addr().String())
	if code, _, stderr := try(t, t.Context(), "healthcheck"); code != exitOK {
		t.Errorf("exit code %d from the environment: %s", code, stderr)
	}
	if code, _, stderr := try(t, t.Context(), "healthcheck", "-c", "none.yaml"); code != exitUsage || !strings.Contains(stderr, "open none.yaml: ") {
		t.Errorf("exit code %d for a file that is named and not there: %s", code, stderr)
	}
	sick := httptest.NewServer(http.NotFoundHandler())
	defer sick.Close()
	t.Setenv("RECORDER_HTTP_LISTEN", sick.Listener.Addr().String())
	if code, _, _ := try(t, t.Context(), "healthcheck", "-c", file); code != exitFailed {
		t.Errorf("exit code %d for one that answers 404", code)
	}
}

func TestHealthcheckAsksNobodyIfTheAddressIsNotKnown(t *testing.T) {
	for _, tt := range []struct{ name, file, env, want string }{
		{"bad variable", "http: {listen: '127.0.0.1:1'}", "bogus", "config.yaml: http.listen (from RECORDER_HTTP_LISTEN): want host:port"},
		{"bad value", "http: {listen: bogus}", "", "config.yaml:1: http.listen: want host:port"},
		{"unknown key", "http: {lisen: '127.0.0.1:1'}", "", "config.yaml:1: http.lisen: unknown key"},
		{"wrong section", "http: 127.0.0.1", "", "config.yaml:1: http: want a map"},
		{"no YAML", "http: {", "", "config.yaml:1: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("RECORDER_HTTP_LISTEN", tt.env)
			code, _, stderr := try(t, t.Context(), "healthcheck", "-c", write(t, tt.file))
			if code != exitUsage || !strings.Contains(stderr, tt.want) {
				t.Errorf("exit code %d: %s", code, stderr)
			}
		})
	}
}
