package remote

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"time"

	"github.com/pion/logging"
)

// secrets are ICE credentials as they appear in SDP, in candidates and in
// pion's messages.
var secrets = regexp.MustCompile(`(?i)\b([\w-]*(?:ufrags?|pwd|password|username|credential))("?\s*[:= ]\s*"?)[^\s"',;]+`)

func scrubText(s string) string { return secrets.ReplaceAllString(s, "$1$2***") }

// scrub removes ICE credentials from an error's text. What the error is
// stays visible to errors.Is and errors.As.
func scrub(err error) error {
	if err == nil {
		return nil
	}
	if text := scrubText(err.Error()); text != err.Error() {
		return &scrubbedError{text, err}
	}
	return err
}

type scrubbedError struct {
	text string
	err  error
}

func (e *scrubbedError) Error() string { return e.text }
func (e *scrubbedError) Unwrap() error { return e.err }

// logEvery is how often one kind of pion's messages may repeat.
const logEvery = 10 * time.Second

// pionLogs turns pion's loggers into slog. pion calls much of what happens in
// a normal call a warning or an error, so its levels are taken one step down,
// and one message is logged at most every 10 s.
type pionLogs struct{ log *slog.Logger }

func (f pionLogs) NewLogger(scope string) logging.LeveledLogger {
	return &pionLog{log: f.log.With("scope", "pion/"+scope)}
}

type pionLog struct {
	log *slog.Logger
	repetitions
}

// repetitions allow each message once in logEvery. The zero value is ready.
type repetitions struct {
	mu   sync.Mutex
	last map[string]*repeated // by format
}

type repeated struct {
	at         time.Time
	suppressed int
}

const (
	levelTrace  = slog.LevelDebug - 4
	maxMessages = 256 // formats of one logger; some of pion's "formats" are finished text
)

func (l *pionLog) write(level slog.Level, format string, args []any) {
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	suppressed, ok := l.admit(format)
	if !ok {
		return
	}
	text := format
	if len(args) > 0 {
		text = fmt.Sprintf(format, args...)
	}
	l.log.Log(context.Background(), level, "pion reported", "text", scrubText(text), "suppressed", suppressed)
}

// admit reports whether a message may be logged now, and how many like it were
// not since the last.
func (l *repetitions) admit(format string) (suppressed int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	r := l.last[format]
	if r != nil && now.Sub(r.at) < logEvery {
		r.suppressed++
		return 0, false
	}
	if r == nil {
		if l.last == nil || len(l.last) >= maxMessages {
			l.last = map[string]*repeated{}
		}
		r = &repeated{}
		l.last[format] = r
	}
	suppressed, r.suppressed, r.at = r.suppressed, 0, now
	return suppressed, true
}

func (l *pionLog) Trace(msg string)               { l.write(levelTrace, msg, nil) }
func (l *pionLog) Tracef(format string, a ...any) { l.write(levelTrace, format, a) }
func (l *pionLog) Debug(msg string)               { l.write(levelTrace, msg, nil) }
func (l *pionLog) Debugf(format string, a ...any) { l.write(levelTrace, format, a) }
func (l *pionLog) Info(msg string)                { l.write(slog.LevelDebug, msg, nil) }
func (l *pionLog) Infof(format string, a ...any)  { l.write(slog.LevelDebug, format, a) }
func (l *pionLog) Warn(msg string)                { l.write(slog.LevelDebug, msg, nil) }
func (l *pionLog) Warnf(format string, a ...any)  { l.write(slog.LevelDebug, format, a) }
func (l *pionLog) Error(msg string)               { l.write(slog.LevelInfo, msg, nil) }
func (l *pionLog) Errorf(format string, a ...any) { l.write(slog.LevelInfo, format, a) }
