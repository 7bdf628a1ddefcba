package remote

import (
	"errors"
	"fmt"
	"time"

	"github.com/pion/webrtc/v4"

	"recorder/internal/signaling"
)

// handle carries out one inbound signal.
func (p *Peer) handle(s signal) {
	switch {
	case s.trackMeta != nil:
		p.labelled(*s.trackMeta)
	case s.candidate != nil:
		p.remoteCandidate(*s.candidate)
	case s.description.Type == "offer":
		p.offered(*s.description)
	default:
		p.answered(*s.description)
	}
}

// labelled takes what the member says of a track.
func (p *Peer) labelled(m trackMeta) {
	evicted, replaces := p.meta.set(m)
	for range evicted {
		p.exceeded(limitMetadata)
	}
	for _, l := range []*link{p.draining, p.link} {
		if l != nil {
			p.meta.describe(l.names(), nil)
		}
	}
	if replaces {
		time.AfterFunc(offerDelay, func() { p.in.put(func() { p.meta.replaced(m.trackID) }) })
	}
}

func (p *Peer) remoteDescription(envelope sdpEnvelope) {
	if envelope.Type == "answer" && (p.link == nil || !p.link.neg.pending) {
		p.dropDescription(envelope.Type)
		return
	}
	d, err := parseDescription(envelope)
	if err != nil {
		p.negotiationFailed(err)
		return
	}
	if d.kind == webrtc.SDPTypeAnswer {
		p.perform(answerReceived, d)
		p.offerIfWanted()
		return
	}
	l, err := p.ensureLink()
	if err != nil {
		p.negotiationFailed(err)
		return
	}
	e := offerReceived
	if l.closed() || l.wedged || l.remote != nil && !d.sameConnection(l.remote) {
		e = freshReceived
	}
	if e == offerReceived && l.outgrown(d) {
		p.exceeded(limitSections)
		p.abandon(l, errManySections)
		return
	}
	p.perform(e, d)
	p.offerIfWanted()
}

// offerIfWanted is "update the negotiation-needed flag" of the W3C text.
func (p *Peer) offerIfWanted() {
	if l := p.link; l != nil && p.signalling && !l.neg.pending && !l.closed() && l.wantsOffer() && !p.ladder.exhausted {
		p.perform(offerWanted, nil)
	}
}

// perform runs an event through the negotiation function and does what it says.
func (p *Peer) perform(e negotiationEvent, d *description) {
	p.sendDraft() // before the connection changes
	l := p.link
	neg, action := next(l.neg, e)
	if action == doSwapAnswer && !p.swaps.Allow() {
		p.exceeded(limitConnections)
		p.negotiationFailed(errSwapLimit)
		return
	}
	l.neg = neg
	switch action {
	case doOffer:
		p.offer(l)
	case doAnswer:
		p.answer(l, d)
	case doRollbackAnswer:
		p.ladder.stop()
		if err := l.rollback(); err != nil {
			p.negotiationFailed(err)
			p.swapAnswer(l, neg, CauseGlare, d)
			return
		}
		p.answer(l, d)
	case doSwapAnswer:
		cause := CauseFresh
		if e == offerReceived {
			cause = CauseGlare
		}
		p.swapAnswer(l, neg, cause, d)
	case doApplyAnswer:
		p.applyAnswer(l, d)
	case doRollback:
		if err := l.rollback(); err != nil {
			p.negotiationFailed(err)
			p.replaceLink(l, CauseUnanswered)
		}
	case doSwap:
		p.replaceLink(l, CauseUnanswered)
	case doIgnore:
		p.dropDescription(d.kind.String())
	case doNothing:
	}
}

// dropDescription ignores an offer that lost a collision, or an answer to nothing.
func (p *Peer) dropDescription(kind string) {
	p.api.metrics.signalsDropped.WithLabelValues("unexpected").Inc()
	p.log.Debug("description was ignored", "type", kind)
}

func (p *Peer) swapAnswer(l *link, neg negotiation, cause Cause, d *description) {
	if p.replaceLink(l, cause) {
		p.link.neg = neg
		p.answer(p.link, d)
	}
}

// answer applies an offer of the member to l and answers it.
func (p *Peer) answer(l *link, d *description) {
	candidates := d.candidates()
	_, events, err := l.answer(d)
	if err != nil {
		p.negotiationFailed(err)
		return
	}
	p.moved, p.heard = false, true
	p.refresh() // before the answer, with which the transport may come up at once
	p.describe(l, "answer", answerRepeats)
	p.emit(events...)
	if restarted := p.newGeneration(candidates); !restarted {
		p.climbIfFailed(l)
	}
}

// sendAnswer sends an answer, and again while the transport does not come up: a
// member that lost it waits for ever and never offers again. One that has it
// refuses the repeat without harm. The repeat brings the candidates along: a
// browser forgets those that came before an answer.
func (p *Peer) sendAnswer(l *link, repeats int) {
	p.sendDescription(l, "answer")
	if repeats == 0 {
		return
	}
	answered := l.remote
	p.after(answerRepeat, l, func(l *link) {
		if l.remote == answered && l.condition() == negotiating {
			p.sendAnswer(l, repeats-1)
		}
	})
}

// offer makes and sends an offer, and starts its watchdog.
func (p *Peer) offer(l *link) {
	if _, err := l.offer(); err != nil {
		l.neg.pending = false
		p.negotiationFailed(err)
		return
	}
	p.describe(l, "offer", 0)
	p.ladder.stop()
	p.ladder.timer = p.after(answerTimeout, l, p.unanswered)
}

func (p *Peer) applyAnswer(l *link, d *description) {
	p.ladder.stop()
	if l.remote != nil && !d.sameConnection(l.remote) {
		p.negotiationFailed(errOtherAnswer)
		p.replaceLink(l, CauseDead)
		return
	}
	candidates := d.candidates()
	events, err := l.applyAnswer(d)
	if err != nil {
		p.negotiationFailed(err)
		return
	}
	if l.wantsOffer() {
		for _, c := range l.channels {
			if c.unopened() {
				c.fail(errNoData)
			}
		}
	}
	p.refresh()
	p.emit(events...)
	p.newGeneration(candidates)
	p.climbIfFailed(l)
}

// climbIfFailed goes on with the ladder if ICE failed while an answer was waited for.
func (p *Peer) climbIfFailed(l *link) {
	if l.pc.ICEConnectionState() == webrtc.ICEConnectionStateFailed {
		p.climb(l)
	}
}

// climb makes the next attempt of the ladder, or gives up.
func (p *Peer) climb(l *link) {
	if p.ladder.busy() || p.ladder.exhausted || !p.signalling || p.moved {
		return
	}
	delay, ok := p.ladder.step()
	if !ok {
		p.ladder.exhausted = true
		p.api.metrics.restarts.WithLabelValues("exhausted").Inc()
		p.negotiationFailed(fmt.Errorf("%w after %d attempts", ErrICERestartExhausted, maxRestarts))
		return
	}
	attempt := func(l *link) {
		p.ladder.stop()
		if l.neg.pending || l.condition() == up && !l.wantsOffer() {
			return
		}
		l.restart = l.condition() != up
		p.api.metrics.restarts.WithLabelValues("offered").Inc()
		p.perform(offerWanted, nil)
	}
	if delay == 0 {
		attempt(l)
		return
	}
	p.ladder.timer = p.after(delay, l, attempt)
}

// retry is Retry.
func (p *Peer) retry() {
	l := p.link
	if l == nil || l.closed() || l.neg.pending || p.ladder.busy() || !p.signalling || p.moved {
		return
	}
	if down := l.remote != nil && l.condition() != up; !down && !l.wantsOffer() {
		return
	}
	p.ladder.renew()
	p.climb(l)
}

// unanswered is the watchdog of an offer.
func (p *Peer) unanswered(l *link) {
	p.ladder.stop()
	if !l.neg.pending {
		return
	}
	p.api.metrics.restarts.WithLabelValues("unanswered").Inc()
	budget := p.ladder // a swap resets it, and this was an attempt
	p.perform(answerMissing, nil)
	p.ladder = budget
	if l := p.link; l.condition() != up || l.wantsOffer() {
		p.climb(l)
	}
}

// signal sends a payload. That it does not arrive is no negotiation error: the
// ladder and the reconcile recover from it. That the service will not take a
// description is one; of candidates it would only say so again.
func (p *Peer) signal(payload any, what string) {
	sent := p.opts.Signal(payload)
	if what != "candidate" {
		p.offers.leaving++
	}
	go func() {
		select {
		case err := <-sent:
			if _, refused := errors.AsType[*signaling.RequestError](err); refused && what != "candidate" {
				p.negotiationFailed(fmt.Errorf("send %s: %w", what, err))
			} else if err != nil {
				p.log.Warn(what+" was not sent", "err", scrub(err))
			}
			if what != "candidate" {
				p.in.put(p.descriptionLeft)
			}
		case <-p.ended.Done():
		}
	}()
}
