package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// newRegistry returns a registry with what every process tells of itself.
func newRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		newBuildInfoMetric(buildInfo()),
	)
	return reg
}

// ChannelStatus is one channel in the body of /readyz.
type ChannelStatus struct {
	Channel string `json:"channel"`
	State   string `json:"state"`           // idle, joining, joined, reconnecting, leaving, closed or failed
	Peers   int    `json:"peers"`           // other members that the bot has in view
	Error   string `json:"error,omitempty"` // why it failed or is not joined, or what keeps media from coming or from being recorded

	unrecorded error // why nothing of it can be recorded at present
}

// Readiness is the body of /readyz.
type Readiness struct {
	Ready    bool            `json:"ready"`
	Reasons  []string        `json:"reasons"` // why not; empty if ready
	Channels []ChannelStatus `json:"channels"`
}

// readiness decides whether new work may be sent here. A failed channel does not count: it is shown, but restarting or
// bypassing the process would cut the others.
type readiness struct {
	loaded   atomic.Bool
	draining atomic.Bool
	disk     *diskProbe
	space    func() error // why nothing new is recorded for want of space
	channels func() []ChannelStatus
}

// report returns the state of now.
func (r *readiness) report() Readiness {
	report := Readiness{Reasons: []string{}, Channels: []ChannelStatus{}}
	if !r.loaded.Load() {
		report.Reasons = append(report.Reasons, "starting")
	}
	if r.draining.Load() {
		report.Reasons = append(report.Reasons, "draining")
	}
	if err := r.disk.Err(time.Now()); err != nil {
		report.Reasons = append(report.Reasons, fmt.Sprintf("recordings directory: %v", err))
	}
	if err := r.disk.Limit(); err != nil {
		report.Reasons = append(report.Reasons, fmt.Sprintf("open files: %v", err))
	}
	if err := r.space(); err != nil {
		report.Reasons = append(report.Reasons, fmt.Sprintf("recordings directory: %v", err))
	}
	report.Channels = append(report.Channels, r.channels()...)
	for _, c := range report.Channels {
		if c.unrecorded != nil {
			report.Reasons = append(report.Reasons, fmt.Sprintf("channel %q is not recorded: %v", c.Channel, c.unrecorded))
		}
	}
	report.Ready = len(report.Reasons) == 0
	return report
}

// newHandler serves /metrics, /healthz and /readyz and, if asked, Go's profiles.
func newHandler(reg *prometheus.Registry, ready *readiness, profiles bool, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		Registry:            reg,
		ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelError),
		ErrorHandling:       promhttp.ContinueOnError, // a broken collector must not hide the others
		MaxRequestsInFlight: 4,
		Timeout:             10 * time.Second,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n")) // the client has gone if it fails
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		report := ready.report()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if !report.Ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(report) // the client has gone if it fails
	})
	if profiles {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}
