package session

import (
	"slices"
	"time"

	"github.com/pion/webrtc/v4"

	"recorder/internal/remote"
	"recorder/internal/signaling"
)

const (
	// toldWindow is how long after a connection to the service began a member that
	// closes its own to us is taken to have been told that we left. The service may
	// notice late that our last connection has gone.
	toldWindow = time.Minute

	// offerPatience is how long such a member may take to offer anew. One that was
	// told that we joined again does so at once, one that was not never does.
	offerPatience = 400 * time.Millisecond

	// takeoverWindow is how soon after a takeover members that connect anew have been told of it.
	takeoverWindow = 3 * time.Second
)

// takeover is what the members may have been told as our connection to the
// service changed.
type takeover struct {
	began   time.Time // when the connection in use began; zero if it is the first
	entered time.Time // when we were in the channel again on it, and knew its members
	renewal bool      // it took over, under the same peer id, from one that was up
	left    time.Time // when presence said that we left; zero once it said that we joined
}

// begin notes a connection to the service, and what peer id we had on the last one.
func (t *takeover) begin(e signaling.Connected, before string, now time.Time) {
	*t = takeover{renewal: e.Renewed && e.PeerID == before}
	if e.Resumed {
		t.began = now
	}
}

// enter notes the first snapshot of a connection that is not the first.
func (t *takeover) enter(now time.Time) {
	if t.entered.IsZero() && !t.began.IsZero() {
		t.entered = now
	}
}

// hear looks for ourselves in a presence frame. Members handle who joined before
// who left, so one that names us in both has lost us.
func (t *takeover) hear(p signaling.Presence, self string, now time.Time) {
	joined := slices.ContainsFunc(p.Joined, func(m signaling.Member) bool { return m.PeerID == self })
	switch {
	case slices.Contains(p.Left, self):
		t.left = now
	case joined && !p.Snapshot:
		t.left = time.Time{}
	}
}

// lost reports whether the members were told that we left, and of nothing since.
// What the service says of a re-entry is over before another is allowed.
func (t *takeover) lost(now time.Time) bool {
	ago := now.Sub(t.left)
	return ago >= offerPatience && ago < reentryPause/2
}

// overdue reports whether a member that has sent media has been without a
// connection for too long, and whether it closed that because it was told that we
// left. Then it offers soon after our snapshot, or never.
func (s *Session) overdue(m *participant, now time.Time) (yes, told bool) {
	if now.Sub(m.troubled) >= mediaPatience {
		return true, false
	}
	entered := s.takeover.entered
	if entered.IsZero() || m.troubled.Sub(entered) >= toldWindow || !m.departed.IsZero() || !shut(m.peer) {
		return false, false
	}
	since := m.troubled
	if entered.After(since) {
		since = entered
	}
	told = now.Sub(since) >= offerPatience
	return told, told
}

// shut reports whether a member has closed its connection to us and not offered since.
func shut(peer *remote.Peer) bool {
	pc := peer.PeerConnection()
	if pc == nil {
		return false
	}
	switch pc.ConnectionState() {
	case webrtc.PeerConnectionStateClosed:
		return true
	case webrtc.PeerConnectionStateNew: // it has taken the place of the closed one
		return pc.SignalingState() == webrtc.SignalingStateStable && pc.RemoteDescription() == nil
	}
	return false
}

// reset is called when a member's connection has been replaced. Soon after a
// takeover that says that the service told the members of it.
func (s *Session) reset(cause remote.Cause) {
	if cause == remote.CauseFresh || cause == remote.CauseDead {
		s.told(time.Since(s.takeover.began) < takeoverWindow)
	}
}

// told notes that the members were told of a takeover, if there was one.
func (s *Session) told(yes bool) {
	if yes && s.takeover.renewal {
		s.client.TakeoverTold()
	}
}
