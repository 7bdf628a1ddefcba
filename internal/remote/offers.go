package remote

import (
	"time"

	"golang.org/x/time/rate"
)

// A member may make this many offers at once, and one more per offerEvery
// after that.
const (
	maxOffers  = 20
	offerEvery = 500 * time.Millisecond
)

// offerPace spaces a member's offers. Each makes us send an answer at least,
// and what we may send is shared by all members of the channel. Of the offers
// that wait the newest is kept: it describes all the member has.
type offerPace struct {
	limit  *rate.Limiter
	newest *sdpEnvelope // waits
	timed  bool         // the next turn is being waited for
}

func newOfferPace() offerPace {
	return offerPace{limit: rate.NewLimiter(rate.Every(offerEvery), maxOffers)}
}

// offered takes an offer of the member, or keeps it until its turn.
func (p *Peer) offered(offer sdpEnvelope) {
	if !p.offers.timed {
		wait := p.offers.limit.Reserve().Delay()
		if wait == 0 {
			p.remoteDescription(offer)
			return
		}
		p.offers.timed = true
		time.AfterFunc(wait, func() { p.in.put(p.offerDue) })
	}
	p.dropOffer()
	p.offers.newest = &offer
}

func (p *Peer) offerDue() {
	offer := p.offers.newest
	p.offers.newest, p.offers.timed = nil, false
	if offer != nil {
		p.remoteDescription(*offer)
	}
}

// answered takes an answer of the member. To give one it has to have taken
// back the offer that waits, if there is one.
func (p *Peer) answered(answer sdpEnvelope) {
	p.dropOffer()
	p.remoteDescription(answer)
}

func (p *Peer) dropOffer() {
	if p.offers.newest != nil {
		p.offers.newest = nil
		p.api.metrics.signalsDropped.WithLabelValues("superseded").Inc()
	}
}
