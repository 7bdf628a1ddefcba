package signaling

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// MetricsVec counts what the clients of one process do, by channel. It is made
// once and shared by all of them.
type MetricsVec struct {
	connections *prometheus.GaugeVec
	reconnects  *prometheus.CounterVec
	terminal    *prometheus.CounterVec
	errors      *prometheus.CounterVec
	renewals    *prometheus.CounterVec

	tokenFailures, malformed, ackTimeouts, delayed, refused *prometheus.CounterVec
}

// Metrics counts what the clients of one channel do. A nil *Metrics counts
// nothing.
type Metrics struct {
	connections prometheus.Gauge
	reconnects  *prometheus.CounterVec
	terminal    *prometheus.CounterVec
	errors      *prometheus.CounterVec
	renewals    *prometheus.CounterVec

	tokenFailures, malformed, ackTimeouts, delayed, refused prometheus.Counter
}

// NewMetrics registers the metrics with reg.
func NewMetrics(reg prometheus.Registerer) *MetricsVec {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "recorder_signaling_" + name, Help: help},
			append([]string{labelChannel}, labels...))
	}
	v := &MetricsVec{
		connections: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "recorder_signaling_connections", Help: "Connections that have been welcomed and are open."}, []string{labelChannel}),
		reconnects:    counter("reconnects_total", "Connection attempts after a drop or a failed attempt, by what ended the one before.", "reason"),
		terminal:      counter("terminal_closes_total", "Closes after which a client does not connect again, by close code.", "code"),
		errors:        counter("errors_total", "Error frames received, by code.", "code"),
		renewals:      counter("renewals_total", "Connections renewed before their token ended, by what came of it.", "result"),
		tokenFailures: counter("token_failures_total", "Failures to obtain a credential."),
		malformed:     counter("malformed_frames_total", "Frames received that were not as the protocol describes."),
		ackTimeouts:   counter("ack_timeouts_total", "Requests that got no answer in time."),
		delayed:       counter("delayed_frames_total", "Frames held back to stay under the message rate of the service."),
		refused:       counter("refused_frames_total", "Frames not sent because too many waited."),
	}
	for _, c := range v.all() {
		reg.MustRegister(c)
	}
	return v
}

const (
	labelChannel = "channel"
	otherCode    = "other" // of an error frame, where the service documents none
)

// What may come of a renewal.
const (
	renewalTookOver = "took_over" // the next connection was up first
	renewalReplaced = "replaced"  // the last connection was closed first
	renewalFailed   = "failed"    // there is no next one yet
)

var renewalResults = []string{renewalTookOver, renewalReplaced, renewalFailed}

type channelVec interface {
	prometheus.Collector
	DeletePartialMatch(prometheus.Labels) int
}

func (v *MetricsVec) all() []channelVec {
	return []channelVec{v.connections, v.reconnects, v.terminal, v.errors, v.renewals, v.tokenFailures, v.malformed, v.ackTimeouts, v.delayed, v.refused}
}

// Channel returns the metrics of one channel. Everything that can happen to it
// is shown from then on, most of it as 0.
func (v *MetricsVec) Channel(name string) *Metrics {
	of := prometheus.Labels{labelChannel: name}
	m := &Metrics{
		connections:   v.connections.With(of),
		reconnects:    v.reconnects.MustCurryWith(of),
		terminal:      v.terminal.MustCurryWith(of),
		errors:        v.errors.MustCurryWith(of),
		renewals:      v.renewals.MustCurryWith(of),
		tokenFailures: v.tokenFailures.With(of),
		malformed:     v.malformed.With(of),
		ackTimeouts:   v.ackTimeouts.With(of),
		delayed:       v.delayed.With(of),
		refused:       v.refused.With(of),
	}
	for _, r := range reconnectReasons {
		m.reconnects.WithLabelValues(string(r))
	}
	for _, result := range renewalResults {
		m.renewals.WithLabelValues(result)
	}
	for _, code := range terminalCodes {
		m.terminal.WithLabelValues(strconv.Itoa(int(code)))
	}
	for _, code := range errorCodes {
		m.errors.WithLabelValues(string(code))
	}
	m.errors.WithLabelValues(otherCode)
	return m
}

// Forget removes the series of a channel that is not used any more.
func (v *MetricsVec) Forget(name string) {
	for _, c := range v.all() {
		c.DeletePartialMatch(prometheus.Labels{labelChannel: name})
	}
}

func (m *Metrics) connected(delta float64) {
	if m != nil {
		m.connections.Add(delta)
	}
}

func (m *Metrics) reconnect(r Reason) {
	if m != nil {
		m.reconnects.WithLabelValues(string(r)).Inc()
	}
}

// closedForGood takes one of the terminal codes only, see backoff.next.
func (m *Metrics) closedForGood(code CloseCode) {
	if m != nil {
		m.terminal.WithLabelValues(strconv.Itoa(int(code))).Inc()
	}
}

func (m *Metrics) renewal(result string) {
	if m != nil {
		m.renewals.WithLabelValues(result).Inc()
	}
}

func (m *Metrics) tokenFailure() {
	if m != nil {
		m.tokenFailures.Inc()
	}
}

func (m *Metrics) errorFrame(code ErrorCode) {
	if m == nil {
		return
	}
	if !code.known() {
		code = otherCode
	}
	m.errors.WithLabelValues(string(code)).Inc()
}

func (m *Metrics) malformedFrame() {
	if m != nil {
		m.malformed.Inc()
	}
}

func (m *Metrics) ackTimeout() {
	if m != nil {
		m.ackTimeouts.Inc()
	}
}

func (m *Metrics) frameDelayed() {
	if m != nil {
		m.delayed.Inc()
	}
}

func (m *Metrics) frameRefused() {
	if m != nil {
		m.refused.Inc()
	}
}
