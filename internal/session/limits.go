package session

import (
	"context"
	"fmt"
	"time"
)

// limits end a session by its configuration. Owned by Session.Run.
type limits struct {
	cfg    Config    // as it is now
	joined time.Time // when the bot first was in the channel; zero before
	alone  time.Time // since when it has been alone there; zero while it is not
}

// check returns why the session is over, or nil. The limits of a stay begin
// when the bot is in the channel; a lost signalling connection stops no clock,
// and nobody is missed during one.
func (l *limits) check(now time.Time, state State, members int, size int64) error {
	if !l.cfg.Stop.IsZero() && !now.Before(l.cfg.Stop) {
		return fmt.Errorf("left at the configured time, %s", l.cfg.Stop.Format(time.RFC3339))
	}
	if state == StateJoined && l.joined.IsZero() {
		l.joined = now
	}
	if l.cfg.MaxDuration > 0 && !l.joined.IsZero() && now.Sub(l.joined) >= l.cfg.MaxDuration {
		return fmt.Errorf("left after the longest stay configured, %v", l.cfg.MaxDuration)
	}
	if l.cfg.MaxSize > 0 && size >= l.cfg.MaxSize {
		return fmt.Errorf("left with the largest recording configured, %d bytes", l.cfg.MaxSize)
	}
	switch {
	case members > 0:
		l.alone = time.Time{}
	case state != StateJoined:
	case l.alone.IsZero():
		l.alone = now
	case l.cfg.AloneTimeout > 0 && now.Sub(l.alone) >= l.cfg.AloneTimeout:
		return fmt.Errorf("left, having been alone for %v", l.cfg.AloneTimeout)
	}
	return nil
}

// members is how many are taken in at once.
func (l *limits) members() int {
	if l.cfg.MaxMembers > 0 {
		return min(l.cfg.MaxMembers, maxMembers)
	}
	return maxMembers
}

// waiting reports whether it is too early to join.
func (l *limits) waiting(now time.Time) bool {
	return now.Before(l.cfg.Start) && (l.cfg.Stop.IsZero() || now.Before(l.cfg.Stop))
}

// awaitStart returns when it is time to join. It reports false when ctx ended
// before that.
func (s *Session) awaitStart(ctx context.Context) bool {
	if !s.limits.waiting(time.Now()) {
		return true
	}
	s.log.Info("session waits for its time", "start", s.limits.cfg.Start)
	tick := time.NewTicker(housekeeping) // and no timer, as the clock may be set
	defer tick.Stop()
	for s.limits.waiting(time.Now()) {
		select {
		case <-ctx.Done():
			return false
		case work := <-s.inbox:
			work()
		case <-tick.C:
		}
	}
	return true
}

// configure changes the rules of a session that runs. What they do not concern
// goes on untouched.
func (s *Session) configure(cfg Config) {
	s.post(func() {
		s.log.Info("session configured anew")
		s.limits.cfg = cfg
		s.bindings.configure(cfg, time.Now())
	})
}
