package remote

import (
	"fmt"

	"github.com/pion/webrtc/v4"
)

// localCandidate tells the member of a candidate of ours that its description
// does not have; nil is the end. It
// waits until the service has taken the description before it, which may have to
// be sent again: a browser forgets candidates that come first.
func (p *Peer) localCandidate(l *link, c *webrtc.ICECandidate) {
	if l != p.link {
		return
	}
	if c == nil {
		p.sendDraft() // with all there is
	}
	ufrag := l.ufrag
	s := candidateSignal{Type: "rtc-ice"}
	if c != nil {
		init := c.ToJSON()
		if candidateUfrag(init) != ufrag {
			return // it was found before ICE was restarted
		}
		if p.draft != nil && p.draft.link == l || l.knows(init) {
			return // the description has it
		}
		s.Candidate = &wireCandidate{
			Candidate: p.api.conceal(init.Candidate), SDPMid: init.SDPMid, SDPMLineIndex: init.SDPMLineIndex,
			UsernameFragment: &ufrag,
		}
	}
	if p.offers.leaving > 0 {
		p.candidates = append(p.candidates, func() {
			if l == p.link && l.ufrag == ufrag {
				p.signal(s, "candidate")
			}
		})
		return
	}
	p.signal(s, "candidate")
}

// descriptionLeft is called when a description of ours left, or never will.
func (p *Peer) descriptionLeft() {
	if p.offers.leaving--; p.offers.leaving > 0 {
		return
	}
	for _, send := range p.candidates {
		send()
	}
	p.candidates = nil
	p.takeOffer()
}

// remoteCandidate takes a candidate from the wire. One without text is the end
// of candidates, which nobody waits for.
func (p *Peer) remoteCandidate(init webrtc.ICECandidateInit) {
	if init.Candidate == "" {
		return
	}
	c, reason, err := p.api.addresses.check(init)
	if err != nil {
		p.emit(ICECandidateError{err})
	}
	if reason != "" {
		p.dropCandidate(reason)
		return
	}
	p.takeCandidate(c)
}

// takeCandidate takes a candidate that was checked: at once if it belongs to
// the description we have, later if it may belong to one to come.
func (p *Peer) takeCandidate(c checkedCandidate) {
	l := p.link
	switch {
	case l != nil && l.remote != nil && (c.ufrag == "" && !l.neg.ignoring || l.remote.ufrags[c.ufrag]):
		if l.candidates >= maxCandidates || !p.admits.Allow() {
			p.dropCandidate(dropLimit)
			return
		}
		l.candidates++
		p.addCandidate(l, c)
	case l != nil && l.neg.ignoring:
		p.dropCandidate(dropIgnored)
	case len(p.held) >= maxCandidates:
		p.dropCandidate(dropLimit)
	default:
		p.held = append(p.held, c)
	}
}

// newGeneration adds the candidates of the description that was applied, and
// those that waited for it. Only one with other ICE credentials makes pion
// forget those it has, and so starts counting anew; it reports whether that was so.
func (p *Peer) newGeneration(candidates []webrtc.ICECandidateInit) (renewed bool) {
	if g := attribute(p.link.applied.SDP, "ice-ufrag"); g != p.link.generation {
		renewed = true
		p.link.generation, p.link.candidates = g, 0
	}
	held := p.held
	p.held = nil
	for _, init := range candidates {
		p.remoteCandidate(init)
	}
	for _, c := range held {
		if c.ufrag != "" && !p.link.remote.ufrags[c.ufrag] {
			p.dropCandidate(dropUfrag)
			continue
		}
		p.takeCandidate(c)
	}
	return renewed
}

func (p *Peer) addCandidate(l *link, c checkedCandidate) {
	if err := l.pc.AddICECandidate(webrtc.ICECandidateInit{Candidate: c.text}); err != nil {
		p.dropCandidate(dropRejected)
		p.emit(ICECandidateError{scrub(fmt.Errorf("add candidate: %w", err))})
	}
}

func (p *Peer) dropCandidate(reason string) {
	p.api.metrics.candidatesDropped.WithLabelValues(reason).Inc()
}
