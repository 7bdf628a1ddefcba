package session

import (
	"context"
	"time"

	"recorder/internal/remote"
)

const (
	// mediaPatience is how long a member that has sent media may be without a
	// connection before leaving and re-entering the channel is the remedy.
	// ICE has been restarted twice by then.
	mediaPatience = 20 * time.Second

	// newcomerPatience is how long a member that came while our socket was away may take to offer.
	newcomerPatience = 10 * time.Second

	// retryPause is how often a member that cannot be reached is tried again once that was given up.
	retryPause = 5 * time.Minute

	reentryPause    = 30 * time.Second // before the second re-entry; doubles
	reentryPauseMax = 10 * time.Minute
)

// reentry is the last resort for a member whose connection is dead and who
// will never offer a fresh one, because nobody told it that we were gone:
// leaving and re-entering the channel makes every publisher connect anew. It
// cuts everyone for a moment, so it backs off.
type reentry struct {
	allowed time.Time // not before
	pause   time.Duration
	running bool
	unmet   time.Time // not before, for members that may have nothing to offer
}

// checkMedia looks for members whose media died and has not come back.
func (s *Session) checkMedia(now time.Time) {
	dead, told := false, s.takeover.lost(now)
	for _, m := range s.members {
		s.noteApart(m, now)
		m.hadMedia = m.hadMedia || s.bindings.flowing(m.peer, now, flowTimeout)
		switch {
		case s.reachable(m, now):
			m.troubled, m.reentries = time.Time{}, 0
		case !m.hadMedia || m.reentries >= maxReentries:
			m.troubled = time.Time{}
		case m.troubled.IsZero():
			m.troubled = now
		}
		if m.peer.State() != remote.StateIdle {
			m.unmet = time.Time{}
		}
		if !m.troubled.IsZero() {
			overdue, wasTold := s.overdue(m, now)
			dead, told = dead || overdue, told || wasTold
		}
		dead = dead || !m.unmet.IsZero() && now.Sub(m.unmet) >= newcomerPatience &&
			!now.Before(s.reentry.unmet)
	}
	s.told(told)
	switch {
	case !dead && !s.takeover.lost(now):
		if !s.reentry.running && now.Sub(s.reentry.allowed) > reentryPauseMax {
			s.reentry.pause = 0
		}
	case s.state == StateJoined && !s.reentry.running && !now.Before(s.reentry.allowed):
		s.reenter(now)
	}
}

// noteApart says once of a member that it cannot be connected to, and when that is over. One that sends
// nothing needs no connection.
func (s *Session) noteApart(m *participant, now time.Time) {
	switch {
	case connected(m.peer) || m.peer.State() == remote.StateIdle:
		if !m.missed.IsZero() {
			s.log.Info("member was reached", "peer", m.peer.ID())
		}
		m.apart, m.missed = time.Time{}, time.Time{}
	case m.apart.IsZero():
		m.apart = now
	case !m.missed.IsZero() && now.Sub(m.missed) >= retryPause:
		m.missed = now
		m.peer.Retry()
	case m.missed.IsZero() && now.Sub(m.apart) >= mediaPatience:
		m.missed = now
		s.log.Warn("member could not be reached, nothing of it is recorded", "peer", m.peer.ID(),
			"hint", "is UDP blocked, or a TURN server needed in webrtc.ice_servers?")
	}
}

func (s *Session) reenter(now time.Time) {
	s.reentry.pause = min(max(2*s.reentry.pause, reentryPause), reentryPauseMax)
	s.reentry.allowed = now.Add(s.reentry.pause)
	s.reentry.running = true
	s.takeover.left = time.Time{}
	for _, m := range s.members {
		if !m.unmet.IsZero() { // once, as it may be a viewer
			m.unmet, s.reentry.unmet = time.Time{}, now.Add(reentryPauseMax)
		}
		if !m.troubled.IsZero() {
			m.reentries++
		}
	}
	s.log.Warn("a member's media is dead, re-entering the channel", "next_not_before", s.reentry.pause)
	go func() {
		err := s.client.Unsubscribe(context.Background(), s.cfg.Channel)
		s.post(func() {
			s.reentry.running = false
			if s.offline != nil {
				return // the next connection enters
			}
			if err != nil { // we may have left all the same
				s.log.Warn("could not leave the channel to re-enter it", "err", err)
			}
			s.reconcile.await(time.Now())
			s.subscribe()
		})
	}()
}
