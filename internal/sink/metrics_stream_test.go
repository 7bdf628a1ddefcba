package sink

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// gathered returns the value of every series of a name, of a histogram the count, by its labels without
// channel and peer.
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
			values[strings.Join(labels, " ")] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
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

// A stream that is away has no series. When it is back its counters go on where they were.
func TestAStreamThatIsAwayHasNoSeries(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	inCall(t, Options{Registerer: registry}, func(c *call) {
		const name, key = "recorder_sink_stream_frames_written_total", "kind=audio stream=camera"
		last := 0.0
		for stay := range 3 {
			a := c.audio()
			a.ssrc = uint32(stay)
			c.connection++
			a.speak(200)
			there := gathered(t, registry, name)[key]
			if there <= last {
				t.Errorf("%v packets after %v", there, last)
			}
			last = there
			a.Close()
			c.stream.Outage(ReasonReconnect, time.Time{})
			if got := gathered(t, registry, name); len(got) != 0 {
				t.Errorf("while it is away: %v", got)
			}
			c.wait(5 * time.Second)
			c.stream.Resume("alice")
			if back := gathered(t, registry, name)[key]; back < last {
				t.Errorf("it is back with %v packets, had %v", back, last)
			}
		}
	})
}

// What is wrong with a stream shows in its series: what is missing and why, what waits, and pictures
// that are not where the sender's clock has them.
func TestStreamMetricsTellWhatIsWrong(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	inCall(t, Options{Registerer: registry}, func(c *call) {
		d := new(disk)
		c.rec.create = d.wrap(c.rec.create)
		a, v := c.audio(), c.video()
		expect := func(name, kind, reason string, least, most float64) {
			t.Helper()
			got, ok := gathered(t, registry, "recorder_sink_stream_"+name)["kind="+kind+reason+" stream="+c.stream.ID()]
			if !ok || got < least || got > most {
				t.Errorf("%s of %s%s is %v, want %v to %v", name, kind, reason, got, least, most)
			}
		}
		c.talk(a, v, 4*time.Second)
		if got := gathered(t, registry, "recorder_sink_stream_av_drift_seconds"); len(got) != 0 {
			t.Errorf("before the sender's clock is known pictures are off by %v", got)
		}
		a.WriteSenderReport(ntp(time.Hour), a.rtp, time.Now())
		v.WriteSenderReport(ntp(time.Hour-60*ms), v.rtp, time.Now())
		c.talk(a, v, 40*ms)
		expect("av_drift_seconds", video, "", 0.050, 0.061)
		c.talk(a, v, 10*time.Second)
		expect("av_drift_seconds", video, "", -0.005, 0.005)

		for _, l := range []*leg{a, v} { // half a second is lost, and a key frame 2 s away
			l.seq += 25
		}
		a.rtp, v.rtp = a.rtp+24_000, v.rtp+45_000
		c.wait(500 * ms)
		for i := range 50 {
			c.step(a, v, i == 49)
			if i == 25 {
				expect("queued_packets", audio, "", 45, 55)
				expect("queued_packets", video, "", 20, 30)
			}
		}
		c.talk(a, v, 6*time.Second)
		expect("queued_packets", audio, "", 0, 5)
		expect("gap_seconds_total", audio, " reason=loss", 0.48, 0.52)
		expect("gap_seconds_total", video, " reason=keyframe_wait", 1.9, 2.6)
		expect("frames_dropped_total", video, " reason=undecodable", 45, 50)
		expect("completeness_ratio", audio, "", 0.97, 0.98)
		expect("completeness_ratio", video, "", 0.87, 0.92)

		stall := make(chan struct{})
		d.set(stall, nil)
		c.talk(a, v, 3*time.Second)
		expect("queued_bytes", audio, "", 100, partQueue)
		expect("queued_bytes", video, "", 100, partQueue)
		d.set(nil, nil)
		close(stall)
		c.wait(2 * time.Second)
		expect("queued_bytes", video, "", 0, 0)
		if n := gathered(t, registry, "recorder_sink_sync_duration_seconds")[""]; n < 20 {
			t.Errorf("%v syncs are timed", n)
		}
	})
}

// Names that differ only in what no label holds share their series, and break nothing.
func TestStreamsWhoseNamesAreCutShareTheirSeries(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	inCall(t, Options{Registerer: registry}, func(c *call) {
		for _, end := range []string{"one", "other", "\xff"} {
			s, err := c.rec.NewStream(StreamInfo{PeerID: "bob", StreamID: strings.Repeat("x", 2*maxLabel) + end})
			if err != nil {
				t.Fatal(err)
			}
			trackOf(s, TrackInfo{ID: "t", Kind: audio})
		}
		if got := gathered(t, registry, "recorder_sink_stream_completeness_ratio"); len(got) != 1 {
			t.Errorf("%d series", len(got))
		}
	})
}
