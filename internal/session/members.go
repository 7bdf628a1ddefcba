package session

import (
	"errors"
	"slices"
	"time"

	"recorder/internal/event"
	"recorder/internal/remote"
	"recorder/internal/signaling"
)

const (
	maxMembers = 256 // per channel, the protocol's own bound

	// departureGrace is how long a member that presence says has left is kept
	// while its connection lasts: a restarted member's fresh offer usually
	// follows within a second. Then the service is asked, as a leave may be
	// stale. One that is said to have left once more is let go of when nothing
	// has come of it for as long: it may have lost its socket only.
	departureGrace = 3 * time.Second

	maxFormer = 16 // peer ids of ours that presence may still name

	maxReentries = 3 // for the sake of one member, until it is connected again
)

// participant is one other member of the channel.
type participant struct {
	peer      *remote.Peer
	departed  time.Time // when presence said it left; zero while it is present
	asked     time.Time // when the service was asked whether it really did
	confirmed bool      // the service said so again
	troubled  time.Time // since when its connection has been down; zero while it is not
	hadMedia  bool      // media of it has arrived, so its silence is a fault
	apart     time.Time // since when there has been no connection, though one is wanted; zero while there is one
	missed    time.Time // when that was said, or it was last tried again; zero if it was not
	unmet     time.Time // when it was found to have come while our socket was away, if it has not offered since
	reentries int       // since it was connected last
}

// connected is called on the first and on every later welcome.
func (s *Session) connected(e signaling.Connected) {
	now := time.Now()
	if e.TookOver {
		s.remember(e.PeerID)
	}
	s.takeover.begin(e, s.peerID, now)
	s.offline, s.trouble, s.peerID = nil, nil, e.PeerID
	s.ice = iceServers(s.opts.ICEServers, e.ICEServers)
	for _, m := range s.members {
		m.peer.SetICEServers(s.ice)
	}
	s.reconcile.await(now)
	// The first time, and when the last connection ended in a re-entry. One that is
	// under way subscribes itself.
	if !s.client.Tracked(s.cfg.Channel) && !s.reentry.running {
		s.subscribe()
	}
	s.publish()
}

// remember keeps our peer id in mind, which presence may still name, unless it stays ours.
func (s *Session) remember(next string) {
	if s.peerID != next && !slices.Contains(s.former, s.peerID) {
		s.former = append(s.former[max(0, len(s.former)-maxFormer+1):], s.peerID)
	}
}

// disconnected keeps every connection: media does not need the socket. Who has
// left is for the next snapshot to say.
func (s *Session) disconnected(why error) {
	s.offline, s.lostID = why, s.peerID
	s.remember("")
	s.reconcile.stop()
	for _, m := range s.members {
		m.stay()
		// Our answer may be lost, in which case it waits for that and ignores our offers.
		m.hadMedia = m.hadMedia || m.peer.State() == remote.StateConnecting
		m.peer.SignalingLost()
	}
	if s.state == StateJoined {
		s.setState(StateReconnecting)
	}
	s.publish()
}

// presence applies a frame: departures before arrivals, because a member in
// both has restarted. Only a snapshot that is awaited tells who is missing: one
// after a subscription that was sent again may be a delta, should the service
// have answered with an ack alone.
func (s *Session) presence(p signaling.Presence) {
	now := time.Now()
	left := p.Left
	s.takeover.hear(p, s.peerID, now)
	if p.Snapshot {
		missing := s.missingFrom(p.Joined)
		for _, id := range missing {
			if m := s.members[id]; m != nil {
				m.confirmed = m.confirmed || !m.asked.IsZero()
			}
		}
		if s.reconcile.awaits() {
			left = append(left, missing...)
		}
	}
	for _, id := range left {
		s.crowd.leave(id)
		if m := s.members[id]; m != nil && m.departed.IsZero() {
			m.departed = now
		}
	}
	for _, j := range p.Joined {
		if j.PeerID != s.peerID && !slices.Contains(s.former, j.PeerID) {
			s.join(j)
		}
	}
	s.settleDepartures(now)
	if p.Snapshot {
		s.snapshotArrived()
	}
	s.publish()
}

// missingFrom lists the members that a snapshot does not name.
func (s *Session) missingFrom(snapshot []signaling.Member) []string {
	named := make(map[string]bool, len(snapshot))
	for _, j := range snapshot {
		named[j.PeerID] = true
	}
	var missing []string
	for id := range s.members {
		if !named[id] {
			missing = append(missing, id)
		}
	}
	for id := range s.crowd.members {
		if !named[id] {
			missing = append(missing, id)
		}
	}
	return missing
}

// join takes in a member that presence names: a newcomer, a survivor of our
// own outage, or one that left a moment ago.
func (s *Session) join(j signaling.Member) {
	if m := s.members[j.PeerID]; m != nil {
		m.stay()
		m.peer.SignalingRestored(s.peerID, j.Metadata)
		s.bindings.peerJoined(j.PeerID, j.Metadata)
		return
	}
	if len(s.members) >= s.limits.members() && !s.makeRoom() {
		s.refuseMember(j.PeerID)
		return
	}
	peer := remote.NewPeer(remote.Options{
		ID:             j.PeerID,
		LocalID:        s.peerID,
		Metadata:       j.Metadata,
		API:            s.opts.API,
		ICEServers:     s.ice,
		Signal:         func(payload any) <-chan error { return s.client.SendAsync(j.PeerID, payload) },
		MaxMessageSize: s.client.MaxMessageSize,
		Logger:         s.log,
	})
	m := &participant{peer: peer}
	if s.lostID == s.peerID {
		m.unmet = time.Now() // its offer may have gone to the socket that we lost
	}
	s.members[j.PeerID] = m
	s.publish()
	s.listen(m)
	s.announce(peer)
	s.bindings.peerJoined(j.PeerID, j.Metadata)
	s.log.Info("peer joined", "peer", j.PeerID)
	for _, d := range append(s.crowd.leave(j.PeerID), s.early.take(j.PeerID)...) {
		s.direct(d)
	}
}

// stay takes back that the member has left.
func (m *participant) stay() { m.departed, m.asked, m.confirmed = time.Time{}, time.Time{}, false }

// listen posts the peer's events to Run.
func (s *Session) listen(m *participant) {
	event.Subscribe(m.peer, func(e remote.StreamAdded) {
		s.post(func() { s.log.Info("stream added", "peer", m.peer.ID(), "stream", e.Stream.ID()) })
	})
	event.Subscribe(m.peer, func(e remote.TrackAdded) {
		s.post(func() { s.bindings.add(m.peer, e, time.Now()) })
	})
	event.Subscribe(m.peer, func(e remote.StreamRemoved) {
		s.post(func() {
			m.hadMedia = m.hadMedia && len(m.peer.Streams()) > 0
			s.log.Info("stream removed", "peer", m.peer.ID(), "stream", e.Stream.ID())
		})
	})
	event.Subscribe(m.peer, func(e remote.ConnectionReset) { s.post(func() { s.reset(e.Cause) }) })
	event.Subscribe(m.peer, func(e remote.NegotiationError) {
		var refused *signaling.RequestError
		if errors.As(e.Err, &refused) && refused.Code == signaling.CodeActionNotPermitted {
			s.post(func() { s.refuseSend() })
		}
	})
	event.Subscribe(m.peer, func(e remote.ICECandidateError) {
		s.log.Debug("candidate was refused", "peer", m.peer.ID(), "err", e.Err)
	})
}

// settleDepartures lets go of members that have left: at once when their
// connection has ended, and when it lasts, once the service has been asked and
// has not taken it back, and their media has ended.
func (s *Session) settleDepartures(now time.Time) {
	ask := false
	for id, m := range s.members {
		switch {
		case m.departed.IsZero():
		case !s.reachable(m, now) && !s.bindings.awaited(m.peer, now):
			s.removeMember(id, remote.CauseLeft)
		case m.confirmed:
			if !s.bindings.flowing(m.peer, now, departureGrace) {
				s.removeMember(id, remote.CauseLeft)
			}
		case s.state != StateJoined: // there is no one to ask
		case !m.asked.IsZero() && now.Sub(m.asked) >= snapshotTimeout && !s.bindings.flowing(m.peer, now, departureGrace):
			s.removeMember(id, remote.CauseLeft) // nobody contradicts it
		case now.Sub(m.departed) >= departureGrace && now.Sub(m.asked) >= snapshotTimeout:
			m.asked, ask = now, true
		}
	}
	if ask {
		s.subscribe()
	}
}

// makeRoom lets go of the member that has left longest ago and goes on sending, if there is one.
func (s *Session) makeRoom() bool {
	var first *participant
	for _, m := range s.members {
		if m.confirmed && (first == nil || m.departed.Before(first.departed)) {
			first = m
		}
	}
	if first == nil {
		return false
	}
	s.removeMember(first.peer.ID(), remote.CauseLeft)
	return true
}

// reachable reports whether media of a member comes, or could.
func (s *Session) reachable(m *participant, now time.Time) bool {
	return connected(m.peer) || s.bindings.flowing(m.peer, now, flowTimeout)
}

func (s *Session) removeMember(id string, cause remote.Cause) {
	m := s.members[id]
	delete(s.members, id)
	m.peer.Close(cause)
	if cause == remote.CauseLeft { // not as it is the bot that leaves
		s.bindings.peerLeft(id)
	}
	s.publish()
	s.hub.Emit(PeerLeft{m.peer}, nil)
	s.log.Info("peer left", "peer", id, "cause", cause)
}

// direct routes what one member sent us alone.
func (s *Session) direct(d signaling.Direct) {
	if m := s.members[d.From]; m != nil {
		if !m.peer.HandleDirect(d.Data) {
			s.hub.Emit(Data{SenderPeerID: d.From, Data: d.Data, Kind: Direct, SenderMetadata: d.FromMetadata}, nil)
		}
		return
	}
	if !s.crowd.hold(d) && !s.early.hold(d, time.Now()) {
		s.metrics.refuse(refusedEarly)
	}
}

// refuseSend says once, and clearly, why a call that looks joined has no media.
func (s *Session) refuseSend() {
	if s.trouble == nil {
		s.trouble = errNoSendPermission
		s.log.Error("no media can come", "err", s.trouble)
		s.publish()
	}
}
