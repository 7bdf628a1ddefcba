package main

import (
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"recorder/internal/config"

	"github.com/pion/webrtc/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"recorder/internal/lab/devserver"
	"recorder/internal/lab/member"
	"recorder/internal/series"
)

var update = flag.Bool("update", false, "write the list of metrics to docs/operating.md")

//go:generate go test -run TestTheOperatingGuideListsEveryMetric . -update

// The table of metrics in the operating guide stands between these.
const (
	guide        = "../../docs/operating.md"
	metricsBegin = "<!-- metrics: made by go generate ./cmd/recorder -->\n"
	metricsEnd   = "<!-- end of metrics -->\n"
)

// visit has somebody with camera and microphone join a channel.
// Members who call themselves visitors ignore one another.
func visit(t testing.TB, url, channel, name string, length time.Duration) *member.Member {
	t.Helper()
	return visitWith(t, url, channel, name, first(length, member.Picture()), first(length, member.Sound()))
}

func visitWith(t testing.TB, url, channel, name string, picture, sound member.Source) *member.Member {
	t.Helper()
	credential, err := config.NewCredential(config.SignalingConfig{SecretKey: config.SecretKeyConfig{ID: "sk_id_1", Secret: testSecret}},
		config.BotConfig{}, name, channel)
	if err != nil {
		t.Fatal(err)
	}
	camera := map[string]any{"role": "camera"}
	m, err := member.Join(t.Context(), member.Options{
		URL: url, Credential: credential, Channel: channel, Settings: loopbackOnly,
		Meet: func(peer string) bool { return !strings.HasPrefix(peer, "visitor") },
		Tracks: []member.Track{
			{StreamID: "camera", TrackID: "picture", MimeType: webrtc.MimeTypeVP8, Source: picture, Metadata: camera},
			{StreamID: "camera", TrackID: "sound", MimeType: webrtc.MimeTypeOpus, Source: sound, Metadata: camera},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Leave)
	return m
}

// metricsTable is what a registry shows of the recorder, as a Markdown table.
func metricsTable(t *testing.T, reg *prometheus.Registry) string {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| metric | type | labels | meaning |\n|---|---|---|---|\n")
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "recorder_") {
			continue
		}
		var labels []string
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if name := "`" + l.GetName() + "`"; !slices.Contains(labels, name) {
					labels = append(labels, name)
				}
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp())
	}
	return b.String()
}

// TestTheOperatingGuideListsEveryMetric compares the guide's table with what a recorder shows during a call.
func TestTheOperatingGuideListsEveryMetric(t *testing.T) {
	url := startDevserver(t)
	cfg := testConfig(t, url, testSecret, "a")
	app := startApp(t, cfg)
	watch, err := newWatcher(write(t, channelFile("a")), nil, app.reg, app.Reload, slog.New(slog.DiscardHandler))
	must(t, err)
	defer watch.notify.Close()
	visit(t, url, "a", "visitor", time.Hour)

	text, err := os.ReadFile(guide)
	must(t, err)
	before, rest, ok := strings.Cut(string(text), metricsBegin)
	want, after, ok2 := strings.Cut(rest, metricsEnd)
	if !ok || !ok2 {
		t.Fatal("no place for the table in the operating guide")
	}
	got, limit := "", time.Minute
	if *update {
		limit = 10 * time.Second // nothing says when it is complete
	}
	for deadline := time.Now().Add(limit); time.Now().Before(deadline) && (*update || got != want); time.Sleep(200 * time.Millisecond) {
		got = "\n" + metricsTable(t, app.reg) + "\n" // grows as reports and checks come in
	}
	if problems, err := testutil.GatherAndLint(app.reg); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	if *update {
		must(t, os.WriteFile(guide, []byte(before+metricsBegin+got+metricsEnd+after), 0o644))
		return
	}
	if got != want {
		t.Errorf("the guide's table is out of date: go generate ./cmd/recorder\ngot:\n%s\nwant:\n%s", got, want)
	}
}

// BenchmarkScrape is one scrape of a recorder that has the streams of 40 members open, each of sound and picture. They have
// fallen silent, so that it is the scrape that is measured. It is held against what the Prometheus library alone takes in
// the same run to show as many samples that are there already: 2 ms on a processor for which this scrape may take 5.
func BenchmarkScrape(b *testing.B) {
	const peers, most = 40, 2.5
	server := devserver.New(devserver.Options{Secrets: map[string]string{"sk_id_1": testSecret}, Limits: devserver.Limits{Connects: -1, Rate: -1}})
	web := httptest.NewServer(server)
	b.Cleanup(func() {
		server.Close()
		web.Close()
	})
	url := "ws://" + web.Listener.Addr().String()
	app := startApp(b, testConfig(b, url, testSecret, "a"))
	for i := range peers {
		visit(b, url, "a", fmt.Sprintf("visitor-%02d", i), 4*time.Second)
	}
	time.Sleep(6 * time.Second)
	if n, err := testutil.GatherAndCount(app.reg, "recorder_sink_stream_last_key_frame_age_seconds"); err != nil || n != peers {
		b.Fatalf("%d members are recorded, %v", n, err)
	}
	samples := sampled(b, app.reg)
	library := prometheus.NewRegistry()
	library.MustRegister(samples)
	request := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/metrics", nil)
	scrape := func(h http.Handler) time.Duration {
		began := time.Now()
		h.ServeHTTP(httptest.NewRecorder(), request)
		return time.Since(began)
	}
	plain := promhttp.HandlerFor(library, promhttp.HandlerOpts{})
	var ours, least []time.Duration
	for b.Loop() {
		ours = append(ours, scrape(app.web.Handler))
		least = append(least, scrape(plain))
	}
	slices.Sort(ours)
	slices.Sort(least)
	undisturbed := len(ours) / 10 // what else the machine does is not the scrape's
	ratio := float64(ours[undisturbed]) / float64(least[undisturbed])
	allocs := testing.AllocsPerRun(10, func() { scrape(app.web.Handler) }) / float64(len(samples))
	b.ReportMetric(float64(ours[undisturbed])/1e6, "ms/undisturbed")
	b.ReportMetric(float64(ours[len(ours)/2])/1e6, "ms/median")
	b.ReportMetric(ratio, "of-library")
	b.ReportMetric(allocs, "allocs/sample")
	if ratio > most {
		b.Errorf("a scrape took %v, %.1f times as long as the library alone, want at most %v", ours[undisturbed], ratio, most)
	}
	if allocs > 8 {
		b.Errorf("%.1f allocations for a sample, want at most 8", allocs)
	}
}

// samples are shown as they are.
type samples []prometheus.Metric

func (samples) Describe(chan<- *prometheus.Desc) {}

func (s samples) Collect(ch chan<- prometheus.Metric) {
	for _, sample := range s {
		ch <- sample
	}
}

// sampled is what a registry shows, as gauges.
func sampled(t testing.TB, reg *prometheus.Registry) (all samples) {
	families, err := reg.Gather()
	must(t, err)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			var names []string
			for _, label := range metric.GetLabel() {
				names = append(names, label.GetName())
			}
			all = append(all, series.Gauge(prometheus.NewDesc(family.GetName(), family.GetHelp(), names, nil), 1234.5, metric.GetLabel()))
		}
	}
	return all
}
