package session

import (
	"time"

	"recorder/internal/signaling"
)

const (
	// crowdPause is how often the service is asked who is there, for the sake of
	// members for whom there was no place.
	crowdPause = 10 * time.Second

	maxCrowd = earlyPeers // members that are known to wait for a place; more may
)

// crowd is the members that were not taken in. What they say to the bot is kept
// until there is a place, as a member offers but once.
type crowd struct {
	waits   bool // somebody does
	members map[string]bool
	signals earlySignals
	asked   time.Time // when the service was asked last
}

// refuseMember notes a member for whom there is no place.
func (s *Session) refuseMember(id string) {
	s.metrics.refuse(refusedMembers)
	c := &s.crowd
	if !c.waits {
		c.waits = true
		s.log.Warn("members are not taken in: there are as many as may be", "limit", s.limits.members())
	}
	if len(c.members) < maxCrowd && !c.members[id] {
		if c.members == nil {
			c.members = make(map[string]bool)
		}
		c.members[id] = true
		for _, d := range s.early.take(id) {
			c.signals.hold(d, time.Time{})
		}
	}
}

// checkCrowd asks for a snapshot, which names those for whom there was no
// place, once there is one.
func (s *Session) checkCrowd(now time.Time) {
	if s.crowd.waits && s.state == StateJoined && len(s.members) < s.limits.members() && now.Sub(s.crowd.asked) >= crowdPause {
		s.crowd.waits, s.crowd.asked = false, now
		s.subscribe()
	}
}

// leave forgets a member, and returns what it said.
func (c *crowd) leave(id string) []signaling.Direct {
	delete(c.members, id)
	return c.signals.take(id)
}

// hold keeps a signal and reports whether it is of a member that waits and
// there was room for it.
func (c *crowd) hold(d signaling.Direct) bool {
	return c.members[d.From] && c.signals.hold(d, time.Time{})
}
