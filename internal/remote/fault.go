package remote

import (
	"errors"
	"fmt"
	"log/slog"

	"recorder/internal/guard"
)

// Where code of ours that runs for one member panicked, as label values.
const (
	faultSignal  = "signal"  // reading or carrying out what it signalled
	faultEvent   = "event"   // a handler of its events
	faultPion    = "pion"    // what pion calls, but for media
	faultMedia   = "media"   // the way of its packets
	faultSession = "session" // the channel's work for its members
	faultPort    = "port"    // the shared port, before it is known whose a datagram is
)

var faults = []string{faultSignal, faultEvent, faultPion, faultMedia, faultSession, faultPort}

var errFault = errors.New("a fault of the recorder was met")

// onFault takes the reason and the stack of a panic, see [guard.Recover].
type onFault = func(reason any, stack []byte)

// fault counts and logs a panic, with its stack for the first one at a place.
func (a *API) fault(where string, log *slog.Logger, reason any, stack []byte) {
	a.metrics.panics.WithLabelValues(where).Inc()
	if _, again := a.faults.LoadOrStore(where, true); !again {
		log = log.With("stack", string(stack))
	}
	log.Error("recovered from a panic", "where", where, "err", scrubText(fmt.Sprint(reason)))
}

// Panicked counts and logs a panic in the work of a channel, see [guard.Recover].
func (a *API) Panicked(log *slog.Logger, reason any, stack []byte) {
	a.fault(faultSession, log, reason, stack)
}

// faulty returns what ends the member's connection after a panic: the one of a
// generation, or all if that is 0. The member may make another.
func (p *Peer) faulty(where string, gen uint64) onFault {
	return func(reason any, stack []byte) {
		p.api.fault(where, p.log, reason, stack)
		p.in.put(func() {
			for _, l := range []*link{p.link, p.draining} {
				if l != nil && (gen == 0 || l.gen == gen) && !l.faulty {
					l.faulty, l.wedged = true, true
					p.abandon(l, errFault)
				}
			}
		})
	}
}

// do carries out one item of the loop.
func (p *Peer) do(item func()) {
	defer guard.Recover(p.signalFault)
	item()
	p.refresh()
}
