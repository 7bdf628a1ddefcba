package remote

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"

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

// levelTrace is below what a person asks for.
const levelTrace = slog.LevelDebug - 4

// pionLogs turns pion's loggers into slog. pion calls much of what happens in
// a normal call a warning or an error, so its levels are taken one step down.
type pionLogs struct{ log *slog.Logger }

func (f pionLogs) NewLogger(scope string) logging.LeveledLogger {
	return &pionLog{log: f.log.With("scope", "pion/"+scope)}
}

type pionLog struct{ log *slog.Logger }

func (l *pionLog) write(level slog.Level, format string, args []any) {
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	if len(args) > 0 {
		format = fmt.Sprintf(format, args...)
	}
	l.log.Log(context.Background(), level, "pion reported", "text", unscrubbed(format))
}

// unscrubbed is text of pion's. It is scrubbed only if it is written, as a
// member can have pion say the same at every packet.
type unscrubbed string

func (u unscrubbed) LogValue() slog.Value { return slog.StringValue(scrubText(string(u))) }
func (u unscrubbed) String() string       { return scrubText(string(u)) }

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
