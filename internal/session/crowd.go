package session

import "time"

// crowdPause is how often the service is asked who is there, for the sake of
// members for whom there was no place, and how often they are logged.
const crowdPause = 10 * time.Second

// crowd is what is known of members that were not taken in: that there are
// some. Who they are is asked for when there is a place, as members come and
// go and any number of them could.
type crowd struct {
	waits bool
	asked time.Time // or, at first, refused
}

func (s *Session) refuseMember() {
	s.metrics.refuse(refusedMembers)
	if !s.crowd.waits {
		s.crowd.waits, s.crowd.asked = true, time.Now()
		s.log.Warn("members are not taken in: there are as many as may be", "limit", s.limits.members())
	}
}

// checkCrowd asks for a snapshot, which names those for whom there was no
// place, once there is one.
func (s *Session) checkCrowd(now time.Time) {
	if s.crowd.waits && s.state == StateJoined && len(s.members) < s.limits.members() && now.Sub(s.crowd.asked) >= crowdPause {
		s.crowd.waits = false
		s.subscribe()
	}
}
