package signaling

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what the clients of one process do. It is made once and shared
// by all of them. A nil *Metrics counts nothing.
type Metrics struct {
	connections   prometheus.Gauge
	reconnects    *prometheus.CounterVec
	terminal      *prometheus.CounterVec
	tokenFailures prometheus.Counter
	errors        *prometheus.CounterVec
	malformed     prometheus.Counter
	ackTimeouts   prometheus.Counter
	delayed       prometheus.Counter
}

// NewMetrics registers the metrics with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "recorder_signaling_" + name, Help: help})
	}
	counterVec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "recorder_signaling_" + name, Help: help}, []string{label})
	}
	m := &Metrics{
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "recorder_signaling_connections", Help: "Connections that have been welcomed and are open."}),
		reconnects:    counterVec("reconnects_total", "Connection attempts after a drop or a failed attempt, by what ended the one before.", "reason"),
		terminal:      counterVec("terminal_closes_total", "Closes after which a client does not connect again, by close code.", "code"),
		tokenFailures: counter("token_failures_total", "Failures to obtain a credential."),
		errors:        counterVec("errors_total", "Error frames received, by code.", "code"),
		malformed:     counter("malformed_frames_total", "Frames received that were not as the protocol describes."),
		ackTimeouts:   counter("ack_timeouts_total", "Requests that got no answer in time."),
		delayed:       counter("delayed_frames_total", "Frames held back to stay under the message rate of the service."),
	}
	reg.MustRegister(m.connections, m.reconnects, m.terminal, m.tokenFailures, m.errors, m.malformed, m.ackTimeouts, m.delayed)
	return m
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
		code = "other"
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
