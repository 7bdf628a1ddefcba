package session

import "github.com/prometheus/client_golang/prometheus"

// refusal is what a channel's members wanted more of than there is room for.
// The set is closed: it is used as a metric label.
type refusal string

const (
	refusedMembers refusal = "members" // times that one could not be taken in
	refusedStreams refusal = "streams" // tracks that had to wait for a place
	refusedEarly   refusal = "early"   // signals of peers that presence had not named
	refusedEvents  refusal = "events"  // events no handler had time for
)

var refusals = []refusal{refusedMembers, refusedStreams, refusedEarly, refusedEvents}

// metrics are counted by the sessions of a Set, by channel.
type metrics struct {
	outages *prometheus.HistogramVec
	refused *prometheus.CounterVec
}

func newMetrics() *metrics {
	return &metrics{
		outages: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "recorder_session_outage_seconds",
			Help:    "How long streams that came back within the reconnect window had been away.",
			Buckets: []float64{0.25, 0.5, 1, 2, 5, 10, 30, 60, 300},
		}, []string{"channel"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "recorder_session_refused_total",
			Help: "What members wanted more of than there is room for: members, streams, early signals, events.",
		}, []string{"channel", "what"}),
	}
}

// of returns the metrics of one channel, all of which are shown from then on.
func (m *metrics) of(channel string) channelMetrics {
	c := channelMetrics{m.outages.WithLabelValues(channel), m.refused.MustCurryWith(prometheus.Labels{"channel": channel})}
	for _, what := range refusals {
		c.refused.WithLabelValues(string(what))
	}
	return c
}

// forget removes the series of a channel.
func (m *metrics) forget(channel string) {
	m.outages.DeleteLabelValues(channel)
	m.refused.DeletePartialMatch(prometheus.Labels{"channel": channel})
}

// channelMetrics are those of one channel.
type channelMetrics struct {
	outages prometheus.Observer
	refused *prometheus.CounterVec
}

func (c channelMetrics) refuse(what refusal) { c.refused.WithLabelValues(string(what)).Inc() }
