package remote

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pion/webrtc/v4"
)

const (
	// drainAfterMedia is how long a replaced connection goes on once its
	// successor delivers some of its tracks.
	drainAfterMedia = 5 * time.Second
	// drainAfterConnect is the same once the successor is connected.
	drainAfterConnect = 10 * time.Second
)

var (
	errSwapLimit   = errors.New("member starts connections too fast")
	errOtherAnswer = errors.New("answer comes from another connection than the one that was asked")
	errDTLSFailed  = errors.New("dtls failed")
	errNoData      = errors.New("member refused data channels")

	errManySources  = errors.New("packets of too many sources came")
	errManyChannels = errors.New("member opened too many data channels")
)

// run is the event loop: the only place where negotiation happens.
func (p *Peer) run() {
	for range p.in.wake {
		for _, item := range p.in.take() {
			p.do(item)
		}
		if p.in.ended() {
			break
		}
	}
	p.closers.Wait()
	close(p.done)
}

// refresh publishes what the accessors show and tells of a new state.
func (p *Peer) refresh() {
	c := dormant
	var pc *webrtc.PeerConnection
	if p.link != nil {
		c, pc = p.link.condition(), p.link.pc
	}
	p.mu.Lock()
	from := p.state
	p.state = from.next(c, p.signalling)
	to := p.state
	p.pc = pc
	if p.link != nil && p.link.remote != nil {
		p.streams, p.tracks = slices.Clone(p.link.streams), slices.Clone(p.link.tracks)
	}
	p.mu.Unlock()
	if from != to {
		p.log.Info("peer state changed", "from", from.String(), "to", to.String())
		p.emit(StateChange{from, to})
	}
}

func (p *Peer) emit(events ...Event) {
	for _, e := range events {
		p.hub.Emit(e, nil)
	}
}

func (p *Peer) negotiationFailed(err error) {
	err = scrub(err)
	p.api.metrics.negotiationErrors.Inc()
	if limit, ok := errors.AsType[*limitError](err); ok {
		p.exceeded(limit.limit)
	}
	p.log.Warn("negotiation failed", "err", err)
	p.emit(NegotiationError{err})
}

// exceeded counts that the member wanted more than it may have.
func (p *Peer) exceeded(limit string) { p.api.metrics.limits.WithLabelValues(limit).Inc() }

// onLink returns a function that posts work for one connection: it is
// dropped if, by then, the connection is neither current nor draining.
func (p *Peer) onLink(gen uint64) func(func(*link)) {
	return func(f func(*link)) {
		p.in.put(func() {
			for _, l := range []*link{p.link, p.draining} {
				if l != nil && l.gen == gen {
					f(l)
				}
			}
		})
	}
}

// after calls f on the loop after d, if l is still the current connection.
func (p *Peer) after(d time.Duration, l *link, f func(*link)) *time.Timer {
	post := p.onLink(l.gen)
	return time.AfterFunc(d, func() {
		post(func(l *link) {
			if l == p.link {
				f(l)
			}
		})
	})
}

// ensureLink returns the current connection and makes the first one.
func (p *Peer) ensureLink() (*link, error) {
	if p.link == nil {
		l, err := p.newLink()
		if err != nil {
			return nil, err
		}
		p.link = l
	}
	return p.link, nil
}

func (p *Peer) newLink() (*link, error) {
	in := newInlet()
	in.fault, in.pionFault = p.faulty(faultMedia, p.gen+1), p.faulty(faultPion, p.gen+1)
	pc, err := p.api.newPeerConnection(p.servers, in, p.checks)
	if err != nil {
		return nil, fmt.Errorf("create connection: %w", err)
	}
	p.gen++
	return newLink(p.gen, pc, in, &p.meta, p.Polite(), p.onLink(p.gen), callbacks{
		candidate: p.localCandidate,
		changed:   p.linkChanged,
		crowded:   p.crowded,
		channel:   p.channelOpened,
		track:     p.trackStarted,
		delivered: p.delivered,
	}), nil
}

// replaceLink puts a new connection in the place of broken and reports
// whether it did: not if broken is no longer the current one, and not if a
// connection cannot be made. The old one goes on delivering until the new
// one does.
func (p *Peer) replaceLink(broken *link, cause Cause) bool {
	if p.link != broken {
		return false
	}
	l, err := p.newLink()
	if err != nil {
		p.negotiationFailed(err)
		return false
	}
	p.ladder.reset()
	p.link = l
	p.api.metrics.replaced.WithLabelValues(string(cause)).Inc()
	p.log.Info("connection was replaced", "cause", string(cause), "generation", l.gen)

	// A channel that never had a connection has lost nothing.
	kept := broken.dropChannels(cause == CauseGlare || cause == CauseUnanswered)
	p.retire(p.draining)
	p.draining = broken
	if broken.closed() || len(broken.tracks) == 0 {
		p.retire(broken)
	}
	if broken.remote != nil { // else nobody ever had it
		p.refresh()
		p.emit(ConnectionReset{cause})
	}
	for _, d := range kept {
		p.attachChannel(l, d)
	}
	return true
}

// retire ends a draining connection. It is closed off the loop, since that
// waits for callbacks.
func (p *Peer) retire(l *link) {
	if l == nil || l != p.draining {
		return
	}
	p.draining = nil
	p.discard(l)
}

func (p *Peer) discard(l *link) {
	l.end()
	p.closers.Go(func() {
		if err := l.pc.GracefulClose(); err != nil {
			p.log.Debug("connection was not closed cleanly", "err", scrub(err))
		}
	})
}

// linkChanged looks at the states of a connection, which pion's callbacks
// tell of in no particular order.
func (p *Peer) linkChanged(l *link) {
	if l == p.draining {
		switch l.pc.ConnectionState() {
		case webrtc.PeerConnectionStateFailed, webrtc.PeerConnectionStateClosed:
			p.retire(l)
		}
		return
	}
	switch {
	case l.condition() == up:
		p.ladder.renew()
		if !l.neg.pending { // else the timer is the watchdog of our offer
			p.ladder.stop()
		}
		if p.draining != nil {
			p.after(drainAfterConnect, l, func(*link) { p.retire(p.draining) })
		}
	case l.closed():
		l.end()
	case l.pc.ICEConnectionState() == webrtc.ICEConnectionStateFailed:
		p.climb(l)
	case l.pc.SCTP().Transport().State() == webrtc.DTLSTransportStateFailed && !l.failed:
		l.failed = true
		p.negotiationFailed(errDTLSFailed)
	}
}

// trackStarted binds what pion receives to the track the description told of.
func (p *Peer) trackStarted(l *link, remote *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
	t := l.trackFor(remote, receiver)
	if t == nil {
		p.log.Debug("received track without section", "kind", remote.Kind().String())
		return
	}
	t.attach(remote, receiver)
}

// delivered ends the predecessor of a connection that delivers.
func (p *Peer) delivered(l *link) {
	if l != p.link || p.draining == nil {
		return
	}
	if !slices.ContainsFunc(l.tracks, func(t *Track) bool { return !t.first.Load() }) {
		p.retire(p.draining)
		return
	}
	old := p.draining
	p.after(drainAfterMedia, l, func(*link) { p.retire(old) })
}

func (p *Peer) crowded(l *link) {
	p.exceeded(limitSources)
	p.abandon(l, errManySources)
}

// abandon closes a connection on which the member wants too much of something
// that pion keeps for as long as it lasts. The member may make another one.
func (p *Peer) abandon(l *link, why error) {
	p.log.Warn("connection was closed", "err", why)
	l.end()
	p.closers.Go(func() { _ = l.pc.GracefulClose() })
}

func (p *Peer) signalingLost() {
	p.signalling, p.heard = false, false
	p.ladder.stop()
}

func (p *Peer) signalingRestored(moved bool) {
	if p.signalling && !moved {
		return
	}
	// An offer that came already was made to our new id.
	p.moved = p.moved || moved && (p.signalling || !p.heard)
	p.signalling = true
	l := p.link
	if l == nil {
		return
	}
	l.neg.polite = p.Polite()
	failed := l.pc.ICEConnectionState() == webrtc.ICEConnectionStateFailed
	if l.closed() || failed && p.moved {
		// With another id of ours the member saw us leave and join, and is
		// about to offer from a new connection: an ICE restart of this one
		// would only get in its way.
		p.replaceLink(l, CauseDead)
		return
	}
	if l.neg.pending {
		// Our offer or its answer may be among what was lost.
		p.perform(answerMissing, nil)
	}
	p.ladder.reset()
	p.offerIfWanted()
	if failed {
		p.climb(p.link)
	}
}

func (p *Peer) setICEServers(servers []webrtc.ICEServer) {
	p.servers = servers
	for _, l := range []*link{p.link, p.draining} {
		if l == nil {
			continue
		}
		cfg := webrtc.Configuration{ICEServers: servers, ICETransportPolicy: l.pc.GetConfiguration().ICETransportPolicy}
		if err := l.pc.SetConfiguration(cfg); err != nil {
			p.log.Warn("ice servers were not applied", "err", scrub(err))
		}
	}
}

func (p *Peer) shutdown(cause Cause) {
	p.ladder.stop()
	p.retire(p.draining)
	if p.link != nil {
		p.discard(p.link)
	}
	p.link = nil
	p.mu.Lock()
	from, streams := p.state, p.streams
	p.state, p.pc, p.streams, p.tracks = StateClosed, nil, nil, nil
	p.mu.Unlock()
	p.endSignal()
	for _, s := range streams {
		p.emit(StreamRemoved{Stream: s, Closed: true})
	}
	p.log.Debug("peer was closed", "cause", string(cause))
	p.emit(StateChange{from, StateClosed})
	p.hub.Close()
}
