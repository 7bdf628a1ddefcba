package remote

// negotiation is one connection's place in perfect negotiation (W3C WebRTC
// §10.7). The event loop is the operations chain of that text: an event is
// carried out completely before the next is looked at, so an answer is never
// "being applied" and an offer of ours is never overtaken while it is made.
type negotiation struct {
	polite     bool // we give way when offers cross
	pending    bool // our offer is out and unanswered: have-local-offer
	negotiated bool // a remote description was applied to this connection
	ignoring   bool // the last offer was ignored; its candidates fail silently
}

// negotiationEvent is something that can happen to a connection.
type negotiationEvent int

const (
	offerWanted    negotiationEvent = iota // we have something to offer: a channel, an ICE restart
	offerReceived                          // by the connection we talk to, or by the first one
	freshReceived                          // an offer by another connection of the same member
	answerReceived                         //
	answerMissing                          // the watchdog ran out on our offer
)

// negotiationAction is what has to be done about it.
type negotiationAction int

const (
	doNothing        negotiationAction = iota
	doOffer                            // create, apply and send an offer
	doAnswer                           // apply the offer, create, apply and send an answer
	doRollbackAnswer                   // take our offer back, then as doAnswer
	doSwapAnswer                       // a new connection takes the offer and answers it
	doApplyAnswer                      // apply the answer
	doIgnore                           // drop the description
	doRollback                         // take our offer back
	doSwap                             // start over on a new connection
)

// next is the whole of perfect negotiation:
//
//	event           pending  polite  negotiated │ pending  negotiated  action
//	offerWanted     no       ·       ·          │ yes      ·           offer
//	offerWanted     yes      ·       ·          │ ·        ·           nothing: asked again once stable
//	offerReceived   no       ·       ·          │ ·        yes         answer
//	offerReceived   yes      no      ·          │ ·        ·           ignore (glare, impolite)
//	offerReceived   yes      yes     yes        │ no       ·           roll back, answer (glare, polite)
//	offerReceived   yes      yes     no         │ no       yes         swap, answer (glare, polite)
//	freshReceived   ·        ·       ·          │ no       yes         swap, answer
//	answerReceived  yes      ·       ·          │ no       yes         apply
//	answerReceived  no       ·       ·          │ ·        ·           ignore: too late
//	answerMissing   yes      ·       yes        │ no       ·           roll back
//	answerMissing   yes      ·       no         │ no       no          swap
//	answerMissing   no       ·       ·          │ ·        ·           nothing
//
// An offer from another connection of the member is never a collision: the
// connection that our own offer was for is gone.
func next(s negotiation, e negotiationEvent) (negotiation, negotiationAction) {
	switch e {
	case offerWanted:
		if s.pending {
			return s, doNothing
		}
		s.pending = true
		return s, doOffer
	case offerReceived:
		switch {
		case !s.pending:
			s.negotiated, s.ignoring = true, false
			return s, doAnswer
		case !s.polite:
			s.ignoring = true
			return s, doIgnore
		case s.negotiated:
			s.pending = false
			return s, doRollbackAnswer
		default:
			return negotiation{polite: s.polite, negotiated: true}, doSwapAnswer
		}
	case freshReceived:
		return negotiation{polite: s.polite, negotiated: true}, doSwapAnswer
	case answerReceived:
		if !s.pending {
			return s, doIgnore
		}
		s.pending, s.negotiated, s.ignoring = false, true, false
		return s, doApplyAnswer
	case answerMissing:
		switch {
		case !s.pending:
			return s, doNothing
		case s.negotiated:
			s.pending, s.ignoring = false, false
			return s, doRollback
		default:
			return negotiation{polite: s.polite}, doSwap
		}
	default:
		return s, doNothing
	}
}

// polite reports who gives way when offers cross: the smaller peer id. Ids
// are printable ASCII, so comparing bytes is comparing code units.
func polite(local, remote string) bool { return local < remote }
