package series

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
)

var (
	descHeld = prometheus.NewDesc("held", "What is held.", []string{"room", "door", "key"}, nil)
	descSeen = prometheus.NewDesc("seen_total", "What was seen.", []string{"room"}, nil)
	descAll  = prometheus.NewDesc("all", "Everything.", nil, nil)
)

type shown []prometheus.Metric

func (shown) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{descHeld, descSeen, descAll} {
		ch <- desc
	}
}

func (s shown) Collect(ch chan<- prometheus.Metric) {
	for _, metric := range s {
		ch <- metric
	}
}

func TestSamplesReadLikeThoseOfThePrometheusLibrary(t *testing.T) {
	room := Labels{}.With("room", `one "1"`)
	ours := shown{
		Gauge(descHeld, 1.5, room.With("key", "a").With("door", "x")),
		Gauge(descHeld, 2.5, room.With("door", "y").With("key", "b")),
		Counter(descSeen, 1e21, room),
		Gauge(descAll, -1, nil),
	}
	theirs := shown{
		prometheus.MustNewConstMetric(descHeld, prometheus.GaugeValue, 1.5, `one "1"`, "x", "a"),
		prometheus.MustNewConstMetric(descHeld, prometheus.GaugeValue, 2.5, `one "1"`, "y", "b"),
		prometheus.MustNewConstMetric(descSeen, prometheus.CounterValue, 1e21, `one "1"`),
		prometheus.MustNewConstMetric(descAll, prometheus.GaugeValue, -1),
	}
	var text [2]string
	for i, metrics := range []shown{ours, theirs} {
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(metrics)
		b, err := testutil.CollectAndFormat(metrics, expfmt.TypeTextPlain, "held", "seen_total", "all")
		if err != nil {
			t.Fatal(err)
		}
		if n, err := testutil.GatherAndCount(registry); n != 4 || err != nil {
			t.Fatalf("%d samples, %v", n, err)
		}
		text[i] = string(b)
	}
	if text[0] != text[1] || strings.Count(text[0], "\n") < 4 {
		t.Errorf("%s\nis not\n%s", text[0], text[1])
	}
}

func TestLabelsThatAreSharedStayAsTheyAre(t *testing.T) {
	shared := Labels{}.With("b", "1").With("d", "2")
	for _, name := range []string{"a", "c", "e"} {
		if got := shared.With(name, "3"); len(got) != 3 || len(shared) != 2 || shared[0].GetName() != "b" || shared[1].GetName() != "d" {
			t.Fatalf("%v with %s is %v", shared, name, got)
		}
	}
}

func TestASampleIsOneAllocation(t *testing.T) {
	labels := Labels{}.With("room", "1")
	var kept prometheus.Metric
	if n := testing.AllocsPerRun(100, func() { kept = Counter(descSeen, 1, labels) }); n != 1 {
		t.Errorf("%v allocations, %v", n, kept.Desc())
	}
}
