package loglimit

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// handler limits the lines on their way to next.
type handler struct {
	next    slog.Handler
	limiter *Limiter
	subject subject // of the attributes that every line has
	grouped bool    // further attributes are not about the line as a whole
}

// subject is what a line is about, and the place of its key in subjects, counted from 1; 0 if it has none.
type subject struct {
	rank  int
	value string
}

// subjects are the keys that set lines of one message apart; the last that a line has counts. Their values are not members':
// configured channels, files of the configuration, what lies in the recordings directory, parts of pion. A peer is none of
// them, because a member chooses its id.
var subjects = []string{"file", "dir", "scope", "channel"}

// or returns a if that says more of what the line is about.
func (s subject) or(a slog.Attr) subject {
	for i, key := range subjects {
		if a.Key == key && i+1 > s.rank {
			return subject{i + 1, a.Value.String()}
		}
	}
	return s
}

// Enabled implements slog.Handler.
func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.next = h.next.WithAttrs(attrs)
	for _, a := range attrs {
		if !h.grouped {
			with.subject = with.subject.or(a)
		}
	}
	return &with
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	with := *h
	with.next, with.grouped = h.next.WithGroup(name), true
	return &with
}

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if h.next.Enabled(ctx, slog.LevelDebug) {
		return h.next.Handle(ctx, r)
	}
	about := h.subject
	if !h.grouped {
		r.Attrs(func(a slog.Attr) bool {
			about = about.or(a)
			return true
		})
	}
	n, ok := h.limiter.admit(kindOf(about.value, r), line{h.next, r})
	if !ok {
		return nil
	}
	return n.write(ctx)
}

func (n line) write(ctx context.Context) error { return n.to.Handle(ctx, shortened(n.record)) }

// How long a value may be. Others' words may be in it; a stack is ours.
const (
	maxValue = 1 << 10
	maxStack = 16 << 10
)

// shortened returns r with its values cut to the length that they may have.
func shortened(r slog.Record) slog.Record {
	short := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		limit := maxValue
		if a.Key == "stack" {
			limit = maxStack
		}
		short.AddAttrs(cut(a, limit))
		return true
	})
	return short
}

// cut shortens a value that is text, or is written as text.
func cut(a slog.Attr, limit int) slog.Attr {
	a.Value = a.Value.Resolve()
	if k := a.Value.Kind(); k != slog.KindString && k != slog.KindAny {
		return a
	}
	if text := a.Value.String(); len(text) > limit {
		a.Value = slog.StringValue(fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(text[:limit], ""), len(text)))
	}
	return a
}
