package remote

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// What a member can have too much of, as label values.
const (
	limitConnections  = "connections"
	limitDataChannels = "data_channels"
	limitMetadata     = "metadata"
	limitSources      = "sources"
	limitStreams      = "streams"
	limitTracks       = "tracks"
	limitSections     = "sections"
	limitNames        = "names"
)

var limits = []string{limitConnections, limitDataChannels, limitMetadata, limitSources, limitStreams, limitTracks,
	limitSections, limitNames}

// metrics are counted over all peers of an API. Label values are closed sets.
type metrics struct {
	signalsDropped    *prometheus.CounterVec // reason
	limits            *prometheus.CounterVec // limit
	candidatesDropped *prometheus.CounterVec // reason
	checksDropped     prometheus.Counter
	negotiationErrors prometheus.Counter
	replaced          *prometheus.CounterVec // cause
	restarts          *prometheus.CounterVec // outcome
	eventsDropped     prometheus.Counter
	panics            *prometheus.CounterVec // where
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		signalsDropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "recorder_remote_signals_dropped_total",
			Help: "Inbound signals dropped: malformed, overflow, unexpected, superseded.",
		}, []string{"reason"}),
		limits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "recorder_remote_limits_exceeded_total",
			Help: "Times that a member wanted more than it may have: " +
				"connections, data_channels, metadata, sources, streams, tracks, sections, names.",
		}, []string{"limit"}),
		candidatesDropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "recorder_remote_candidates_dropped_total",
			Help: "Inbound ICE candidates dropped: " + strings.Join(dropReasons, ", ") + ".",
		}, []string{"reason"}),
		checksDropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "recorder_remote_checks_dropped_total",
			Help: "ICE connectivity checks that were not sent, as a member had too many made.",
		}),
		negotiationErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "recorder_remote_negotiation_errors_total",
			Help: "Descriptions that could not be created or applied.",
		}),
		replaced: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "recorder_remote_connections_replaced_total",
			Help: "PeerConnections replaced under a live peer, by cause.",
		}, []string{"cause"}),
		restarts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "recorder_remote_ice_restarts_total",
			Help: "ICE restarts that we offered, by outcome: offered, unanswered, exhausted.",
		}, []string{"outcome"}),
		eventsDropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "recorder_remote_events_dropped_total",
			Help: "Events dropped because their handlers fell behind.",
		}),
		panics: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "recorder_remote_panics_total",
			Help: "Panics that cost one member its connection, or what it sent, by where: " + strings.Join(faults, ", ") + ".",
		}, []string{"where"}),
	}
	for vec, values := range map[*prometheus.CounterVec][]string{ // shown from the start, as 0
		m.signalsDropped:    {"malformed", "overflow", "unexpected", "superseded"},
		m.limits:            limits,
		m.candidatesDropped: dropReasons,
		m.replaced:          {string(CauseFresh), string(CauseGlare), string(CauseDead), string(CauseUnanswered)},
		m.panics:            faults,
		m.restarts:          {"offered", "unanswered", "exhausted"},
	} {
		for _, value := range values {
			vec.WithLabelValues(value)
		}
	}
	if r != nil {
		r.MustRegister(m.signalsDropped, m.limits, m.candidatesDropped, m.checksDropped, m.negotiationErrors, m.replaced, m.restarts,
			m.eventsDropped, m.panics)
	}
	return m
}
