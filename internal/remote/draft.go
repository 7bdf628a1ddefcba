package remote

import (
	"strings"
	"time"

	"github.com/pion/webrtc/v4"
)

// gatherPatience is how long a description of ours waits for candidates. Those
// of this host are there within it; a STUN or TURN server may take its time, and
// what it brings follows the description.
const gatherPatience = 5 * time.Millisecond

// draft is a description of ours that is to be sent in a moment, with the
// candidates that are known by then. What comes later has to wait until the
// service has taken the description, and that is a round trip.
type draft struct {
	link    *link
	kind    string // offer, answer
	repeats int    // of an answer
	timer   *time.Timer
}

// describe sends the description that l has been given: at once if no candidate
// is to come, else with the first ones.
func (p *Peer) describe(l *link, kind string, repeats int) {
	d := &draft{link: l, kind: kind, repeats: repeats}
	p.draft = d
	if l.pc.ICEGatheringState() == webrtc.ICEGatheringStateComplete {
		p.sendDraft()
		return
	}
	d.timer = p.after(gatherPatience, l, func(*link) {
		if p.draft == d {
			p.sendDraft()
		}
	})
}

// sendDraft sends the description that waits, if there is one.
func (p *Peer) sendDraft() {
	d := p.draft
	if d == nil {
		return
	}
	p.draft = nil
	if d.timer != nil {
		d.timer.Stop()
	}
	if d.link != p.link {
		return // nobody waits for it
	}
	if d.kind == "answer" {
		p.sendAnswer(d.link, d.repeats)
	} else {
		p.sendDescription(d.link, d.kind)
	}
}

// sendDescription sends the description that l has now.
func (p *Peer) sendDescription(l *link, kind string) {
	sdp := l.described(kind)
	if sdp == "" {
		return // the connection was closed meanwhile
	}
	p.signal(descriptionSignal{"rtc-description", sdpEnvelope{kind, p.api.conceal(sdp)}}, kind)
}

// described is our description with the candidates that are known by now.
func (l *link) described(kind string) string {
	edit, d := l.answering, l.pc.CurrentLocalDescription()
	if kind == "offer" {
		edit, d = nameDataSection, l.pc.PendingLocalDescription()
	}
	if d == nil {
		return ""
	}
	l.sent = d.SDP
	return edit(d.SDP)
}

// knows reports whether the description that was sent last has a candidate in it.
func (l *link) knows(c webrtc.ICECandidateInit) bool {
	return strings.Contains(l.sent, "\r\na="+c.Candidate+"\r\n")
}
