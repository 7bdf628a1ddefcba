package signaling

import (
	"time"

	"github.com/coder/websocket"
)

// write sends what is in the outbox, no faster than the service takes it.
func (l *link) write() error {
	for {
		r, err := l.out.next(l.ctx)
		if err != nil {
			return err
		}
		if delay := l.rate.Reserve().Delay(); delay > 0 {
			l.client.opts.Metrics.frameDelayed()
			select {
			case <-time.After(delay):
			case <-l.ctx.Done():
				return l.ctx.Err()
			}
		}
		frame, wanted := l.out.sending(r)
		if !wanted {
			continue
		}
		b, err := encode(frame)
		if err != nil {
			return err
		}
		if err := l.conn.Write(l.ctx, websocket.MessageText, b); err != nil {
			return err
		}
	}
}

// read takes frames in until the connection ends.
func (l *link) read() error {
	for {
		kind, b, err := l.conn.Read(l.ctx)
		if err != nil {
			return err
		}
		l.lastSeen.Store(new(time.Now()))
		if kind != websocket.MessageText {
			l.drop(malformed("not a text message"))
			continue
		}
		frame, err := Parse(b)
		if err != nil {
			l.drop(err)
			continue
		}
		if !l.handle(frame, b) {
			return l.ctx.Err()
		}
	}
}

// drop counts a malformed frame; its content stays out of the log.
func (l *link) drop(err error) {
	l.client.opts.Metrics.malformedFrame()
	l.client.log.Warn("dropped a malformed frame", "err", err)
}

// handle acts on one frame. It reports false when the link has ended meanwhile.
func (l *link) handle(frame Frame, raw []byte) bool {
	size := len(raw)
	if !l.welcomed() {
		switch frame.(type) {
		case Welcome, *ServerError, GoingAway:
		default:
			l.drop(malformed("a frame before the welcome"))
			return true
		}
	}
	switch f := frame.(type) {
	case Welcome:
		if l.welcomed() {
			l.drop(malformed("a second welcome"))
		} else if l.client.attach(l, f) {
			l.welcomedAt.Store(new(time.Now()))
		}
	case Ack:
		if frame, ok := l.out.acked(f.RequestID); ok {
			l.acked(frame)
		}
	case *ServerError:
		return l.serverError(f, size)
	case Presence:
		if f.Snapshot = l.snapshot(f); f.Snapshot {
			return l.tell(f, size)
		}
		return l.tellOnce(f, raw)
	case Message:
		return l.tellOnce(f, raw)
	case Direct:
		return l.tellOnce(f, raw)
	case GoingAway:
		l.retryAfter.Store(int64(f.RetryAfter))
		l.client.log.Info("service is going away", "retry_after", f.RetryAfter)
		return l.tell(f, size)
	case Pong: // being heard of is all it is for
	}
	return true
}

func (l *link) serverError(e *ServerError, size int) bool {
	l.client.opts.Metrics.errorFrame(e.Code)
	if l.out.failed(e) {
		return true
	}
	if e.RequestID == "" && e.Code == CodeUnknownType {
		return true // an old service's answer to our ping
	}
	l.client.log.Warn("service reported an error", "err", e)
	return l.tell(e, size)
}

// tellOnce is tell for a frame that may come over another connection as well.
func (l *link) tellOnce(ev Event, raw []byte) bool { return l.repeated(raw) || l.tell(ev, len(raw)) }

// tell queues an event that came from the service.
func (l *link) tell(ev Event, size int) bool { return l.client.queue.put(l.ctx, ev, size) }

// presences is what the presence of a channel is worth on one link. The
// snapshot of a subscription follows its ack; should a service send the first
// one ahead of it, there is nothing else that it could be.
type presences int

const (
	unsubscribed presences = iota
	awaited                // an ack came: the next is the snapshot
	early                  // the snapshot came, its ack is to follow
	deltas                 // all that follow are
)

// acked notes what the service has granted.
func (l *link) acked(frame ClientFrame) {
	switch frame.Type {
	case "unsubscribe":
		delete(l.presences, frame.Channel)
	case "subscribe":
		if l.presences[frame.Channel] == early {
			l.presences[frame.Channel] = deltas
		} else {
			l.presences[frame.Channel] = awaited
		}
		l.client.tell(Subscribed{frame.Channel})
	}
}

// snapshot reports whether p is one. A presence that names departed peers is
// not: it was on its way before.
func (l *link) snapshot(p Presence) bool {
	if len(p.Left) > 0 {
		return false
	}
	switch l.presences[p.Channel] {
	case unsubscribed:
		if !l.out.subscribing(p.Channel) {
			return false
		}
		l.presences[p.Channel] = early
	case awaited:
		l.presences[p.Channel] = deltas
	default:
		return false
	}
	return true
}
