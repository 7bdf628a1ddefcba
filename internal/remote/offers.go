package remote

import (
	"time"

	"golang.org/x/time/rate"
)

// A member may make this many offers at once, and one more per offerEvery
// after that. Each offerSize of bytes makes one count for one more.
const (
	maxOffers  = 20
	offerEvery = 500 * time.Millisecond
	offerSize  = 16 << 10
)

// offerPace spaces a member's offers. Each makes us send an answer at least,
// and what we may send is shared by all members of the channel. Of the offers
// that wait the newest is kept: it describes all the member has.
type offerPace struct {
	limit  *rate.Limiter
	newest *sdpEnvelope // waits
	timed  bool         // the next turn is being waited for

	// leaving are our descriptions that the service has not taken yet. An offer
	// that had to wait goes on doing so meanwhile, lest answers pile up that
	// were overtaken long ago.
	leaving int
}

func newOfferPace() offerPace {
	return offerPace{limit: rate.NewLimiter(rate.Every(offerEvery), maxOffers)}
}

// offered takes an offer of the member, or keeps it until its turn.
func (p *Peer) offered(offer sdpEnvelope) {
	if !p.offers.timed && p.offers.newest == nil {
		wait := p.offers.limit.ReserveN(time.Now(), 1+len(offer.SDP)/offerSize).Delay()
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
	p.offers.timed = false
	p.takeOffer()
}

// takeOffer takes the offer that waits, if there is one and it is its turn.
func (p *Peer) takeOffer() {
	if offer := p.offers.newest; offer != nil && !p.offers.timed && p.offers.leaving == 0 {
		p.offers.newest = nil
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
