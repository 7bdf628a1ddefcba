package session

import (
	"time"

	"recorder/internal/remote"
)

const (
	// flowTimeout is how long after its last packet media counts as flowing.
	// Chromium sends 50 audio packets a second even when muted.
	flowTimeout = time.Second

	// claimTimeout is how long a track waits for a stream whose owner is there to
	// turn out to have left. A member that returns under a new peer id has closed
	// its old connection by then. One that has not is somebody else.
	claimTimeout = 1500 * time.Millisecond
	claimSilence = 400 * time.Millisecond // without a packet media counts as interrupted

	// ownerGrace is how long after its connection went down an owner is expected
	// to make another under its own peer id. The SDK closes one 30 ms before it
	// offers the next.
	ownerGrace = time.Second

	// ownerPatience is how long a track waits for what becomes of an owner.
	ownerPatience = 3 * time.Second

	// connecting is how long a connection may take to deliver its first packet
	// before its streams count as away.
	connecting = 15 * time.Second
)

// standing is where the member stands that sent a stream last.
type standing int

const (
	there standing = iota // its connection is up, or being made
	away                  // its connection is down, and it may be about to make another
	gone                  // it has left, or its connection stays down
)

// holder is a stream of the id that a track asks for.
type holder struct {
	peer     string // who sent it last
	standing standing
	since    time.Time // since when that peer has sent it; zero for one that is not open yet

	binding *binding // nil for one of a recording that goes on after a restart, which sleeps or is being reopened
	asleep  bool
}

// claim is a track that asks for a stream by its id.
type claim struct {
	peer      string
	joined    time.Time // when that peer came into the channel
	waited    time.Duration
	displaced bool // it was taken off a stream that another sends now
}

// verdict is what becomes of a claim.
type verdict int

const (
	begins    verdict = iota // a stream of its own
	continues                // a stream there is
	waits                    // for what becomes of the stream's owner
)

// decide says which stream a track continues, and is the only one to say so. A member gets what it sent
// itself, by its peer id. What another sent it gets only if that member has left or has lost its connection
// for good, as a member with a publishable key returns under a new peer id; if it came into the channel after
// the other began to send, as only then it can be that member; and if there is one such stream alone. The
// owner of a stream that is silent, but whose connection is up, keeps it.
func decide(c claim, holders []holder) (verdict, *holder) {
	var heirloom *holder
	several, undecided, contested := false, false, false
	for i := range holders {
		h := &holders[i]
		switch {
		case h.peer == c.peer:
			return continues, h
		case c.displaced || !c.joined.After(h.since):
		case h.standing == gone:
			several = heirloom != nil
			heirloom = h
		case h.standing == away:
			undecided = true
		default:
			contested = true
		}
	}
	switch {
	case undecided && c.waited < ownerPatience:
		return waits, nil
	case heirloom != nil && !several:
		return continues, heirloom
	case contested && c.waited < claimTimeout:
		return waits, nil
	}
	return begins, nil
}

// decide says which stream a track continues. What is open comes before what sleeps.
func (b *bindings) decide(a arrival, now time.Time) (verdict, *holder) {
	var holders []holder
	for _, s := range b.streams {
		if s.id == a.streamID {
			holders = append(holders, holder{peer: s.peer.ID(), standing: s.standing(now), since: s.since, binding: s})
		}
	}
	for _, r := range b.reopening {
		if r.id == a.streamID {
			holders = append(holders, holder{peer: r.peer.ID()})
		}
	}
	for _, owner := range b.recording.Asleep(a.streamID) {
		holders = append(holders, holder{peer: owner, standing: b.standingOf(owner, now), asleep: true})
	}
	id := a.peer.ID()
	return decide(claim{peer: id, joined: b.present[id].since, waited: now.Sub(a.since), displaced: a.displaced}, holders)
}

// standing is where the stream's sender stands. Its own silence says nothing.
func (s *binding) standing(now time.Time) standing {
	switch {
	case s.peer.State() == remote.StateClosed:
		return gone
	case connected(s.peer), s.flowed(now, claimSilence), s.expected(now):
		return there
	case now.Sub(s.alive) < ownerGrace:
		return away
	}
	return gone
}

// standingOf is where a member stands that sent a stream before the recorder was started again. It may
// come back a moment later than others.
func (b *bindings) standingOf(peer string, now time.Time) standing {
	switch _, present := b.present[peer]; {
	case present:
		return there
	case now.Sub(b.began) < ownerGrace:
		return away
	}
	return gone
}
