package remote

import (
	"context"

	"github.com/pion/webrtc/v4"

	"recorder/internal/guard"
)

func (p *Peer) openChannel(d *DataChannel) {
	l, err := p.ensureLink()
	if err != nil {
		d.fail(err)
		return
	}
	p.attachChannel(l, d)
	if p.ladder.exhausted && l.wantsOffer() {
		p.retry()
	}
	p.offerIfWanted()
}

func (p *Peer) attachChannel(l *link, d *DataChannel) {
	if err := l.addChannel(d); err != nil {
		d.fail(err)
	}
}

// channelOpened takes a channel of the member. It is called by pion, off the
// loop, because messages may follow at once.
func (p *Peer) channelOpened(l *link, raw *webrtc.DataChannel) {
	defer guard.Recover(l.inlet.pionFault)
	d := newDataChannel(raw.Label(), nil, p.newHub())
	d.hub.Hold()
	d.bind(raw)
	// The connection may end before the loop gets to this.
	taken := context.AfterFunc(l.ended, d.shut)
	l.post(func(l *link) {
		taken()
		if l != p.link || !l.roomForChannel() {
			_ = d.Close()
			p.refuseChannel(l)
			return
		}
		l.channels = append(l.channels, d)
		if !p.hub.Emit(DataChannelOpened{d}, d.hub.Release) {
			_ = d.Close()
		}
	})
}

// refuseChannel counts a data channel there is no room for. That we close it
// ends it only if the member agrees, so there is an end to this as well.
func (p *Peer) refuseChannel(l *link) {
	p.exceeded(limitDataChannels)
	if l.refused++; l.refused == maxChannels {
		p.abandon(l, errManyChannels)
	}
}
