// Package loglimit keeps what others can repeat at will from filling the log: members that come and go, errors of the
// service, negotiations that fail. It limits the lines of each kind, which are those about one channel with one message.
//
// A kind has a burst of lines, and then one line in a period. That line is the last one that came, with its own time, and
// says in "suppressed" how many before it were left out. So the log always ends with how things stand, at most a period
// late, and no line is lost without being counted.
package loglimit

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

const (
	burst  = 20
	period = 10 * time.Second
	// maxKinds bounds the kinds that are known at once. Beyond it the channels share a limit for each message.
	maxKinds = 16384
)

// Limiter is what the handlers of one log share. It is the collector of its metric.
type Limiter struct {
	suppressed *prometheus.CounterVec

	mu     sync.Mutex
	kinds  map[kind]*flow
	swept  time.Time // when those at rest were last forgotten
	closed bool
}

// kind is what a limit holds for.
type kind struct {
	subject string // the channel, if the line is about one
	level   slog.Level
	message string
}

// flow is the lines of one kind.
type flow struct {
	allowed *rate.Limiter
	last    *line // the newest line that was not written; nil if none waits
	left    int   // lines that were left out since one was written
	timer   *time.Timer
}

// line is a record and the handler that it came to.
type line struct {
	to     slog.Handler
	record slog.Record
}

// New returns a limiter, and a logger that writes to next with its lines limited. Nothing is limited while next takes lines
// at debug level, which somebody has asked for then.
func New(next slog.Handler) (*Limiter, *slog.Logger) {
	l := &Limiter{
		suppressed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "recorder_log_suppressed_lines_total",
			Help: "Lines left out of the log because too many of their kind came, by level: info, warn, error.",
		}, []string{"level"}),
		kinds: make(map[kind]*flow),
	}
	for _, level := range []slog.Level{slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		l.suppressed.WithLabelValues(levelName(level))
	}
	return l, slog.New(&handler{next: next, limiter: l})
}

// Describe implements prometheus.Collector.
func (l *Limiter) Describe(ch chan<- *prometheus.Desc) { l.suppressed.Describe(ch) }

// Collect implements prometheus.Collector.
func (l *Limiter) Collect(ch chan<- prometheus.Metric) { l.suppressed.Collect(ch) }

// Close writes every line that waits. What is logged afterwards is not limited.
func (l *Limiter) Close() {
	l.mu.Lock()
	var waiting []line
	for _, f := range l.kinds {
		if f.last != nil {
			f.timer.Stop()
			waiting = append(waiting, f.release(*f.last))
		}
	}
	l.closed, l.kinds = true, nil
	l.mu.Unlock()
	for _, w := range waiting {
		_ = w.write(context.Background()) // nobody is left to tell
	}
}

// admit returns the line as it is to be written, or false if it waits until it is written or replaced.
func (l *Limiter) admit(k kind, n line) (line, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return n, true
	}
	f := l.flow(&k)
	waits := f.last != nil
	if waits {
		f.left++
		l.suppressed.WithLabelValues(levelName(k.level)).Inc()
	}
	if f.allowed.Allow() {
		if waits {
			f.timer.Stop()
		}
		return f.release(n), true
	}
	n.record = n.record.Clone()
	f.last = &n
	if !waits {
		f.timer = time.AfterFunc(period, func() { l.flush(f) })
	}
	return line{}, false
}

// flush writes the line of f that waits, if it still does.
func (l *Limiter) flush(f *flow) {
	l.mu.Lock()
	if l.closed || f.last == nil {
		l.mu.Unlock()
		return
	}
	f.allowed.Allow() // the period that it waited has allowed one
	w := f.release(*f.last)
	l.mu.Unlock()
	_ = w.write(context.Background()) // nobody is left to tell
}

// release returns n as it is to be written: with the number of lines that were left out.
func (f *flow) release(n line) line {
	if f.left > 0 {
		n.record = n.record.Clone()
		n.record.AddAttrs(slog.Int("suppressed", f.left))
	}
	f.last, f.left = nil, 0
	return n
}

// flow finds the lines of a kind, which is one of all channels together when there are too many.
func (l *Limiter) flow(k *kind) *flow {
	if f := l.kinds[*k]; f != nil {
		return f
	}
	if now := time.Now(); now.Sub(l.swept) >= period {
		l.swept = now
		l.sweep()
	}
	if len(l.kinds) >= maxKinds {
		k.subject = ""
		if f := l.kinds[*k]; f != nil {
			return f
		}
	}
	f := &flow{allowed: rate.NewLimiter(rate.Every(period), burst)}
	l.kinds[*k] = f
	return f
}

// sweep forgets the kinds of which nothing came for so long that they have their burst again.
func (l *Limiter) sweep() {
	for k, f := range l.kinds {
		if f.last == nil && f.allowed.Tokens() >= burst {
			delete(l.kinds, k)
		}
	}
}

func levelName(level slog.Level) string {
	switch {
	case level >= slog.LevelError:
		return "error"
	case level >= slog.LevelWarn:
		return "warn"
	default:
		return "info"
	}
}

// kindOf is the kind of a record: its message up to a colon, as what libraries put after one may be anything.
func kindOf(subject string, r slog.Record) kind {
	message, _, _ := strings.Cut(r.Message, ":")
	return kind{subject, r.Level, message}
}
