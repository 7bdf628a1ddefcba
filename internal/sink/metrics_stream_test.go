package sink

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// gathered returns the value of every series of a name, by its labels without channel and peer.
func gathered(t *testing.T, registry *prometheus.Registry, name string) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				if n := l.GetName(); n != "channel" && n != "peer" {
					labels = append(labels, n+"="+l.GetValue())
				}
			}
			values[strings.Join(labels, " ")] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return values
}

// The series of a stream say how it is, and end with it.
func TestStreamMetricsTellOfTheStreamAndEndWithIt(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	inCall(t, Options{Registerer: registry}, func(c *call) {
		a, v := c.audio(), c.video()
		for i := range 100 {
			c.step(a, v, i == 0)
		}
		c.wait(3 * time.Second)
		for name, want := range map[string][2]float64{ // of sound and pictures
			"frames_written_total":       {200, 100},
			"completeness_ratio":         {1, 1},
			"queued_packets":             {0, 0},
			"queued_bytes":               {0, 0},
			"last_packet_age_seconds":    {3, 3},
			"last_key_frame_age_seconds": {-1, 6.7}, // of the first of 100 pictures, written once the clock had settled
		} {
			got := gathered(t, registry, "recorder_sink_stream_"+name)
			for i, kind := range kinds {
				value, ok := got["kind="+kind+" stream="+c.stream.ID()]
				if !ok {
					value = -1
				}
				if d := value - want[i]; d < -0.2 || d > 0.2 {
					t.Errorf("%s of %s: %v, want %v", name, kind, value, want[i])
				}
			}
		}
		c.stream.Close("test")
		c.wait(time.Second)
		if got := gathered(t, registry, "recorder_sink_stream_frames_written_total"); len(got) != 0 {
			t.Errorf("after the stream: %v", got)
		}
		if got := gathered(t, registry, "recorder_sink_frames_written_total"); got["kind=video"] != 100 {
			t.Errorf("of the channel: %v", got)
		}
	})
}

// Names that differ only in what no label holds share their series, and break nothing.
func TestStreamsWhoseNamesAreCutShareTheirSeries(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	inCall(t, Options{Registerer: registry}, func(c *call) {
		for _, end := range []string{"one", "other", "\xff"} {
			s, err := c.rec.Stream(StreamInfo{PeerID: "bob", StreamID: strings.Repeat("x", 2*maxLabel) + end})
			if err != nil {
				t.Fatal(err)
			}
			s.Track(TrackInfo{ID: "t", Kind: audio})
		}
		if got := gathered(t, registry, "recorder_sink_stream_completeness_ratio"); len(got) != 1 {
			t.Errorf("%d series", len(got))
		}
	})
}
