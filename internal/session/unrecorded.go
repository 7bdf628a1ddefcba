package session

import (
	"errors"
	"syscall"
)

// checkRecording shows whether what comes can be recorded.
func (s *Session) checkRecording() {
	unwritten, stalled := s.bindings.unrecorded(), s.opts.Root.Stalled(s.cfg.Channel)
	if !sameCause(unwritten, s.unwritten) || stalled != s.stalled || s.bindings.wait != s.status.Load().Waiting {
		s.unwritten, s.stalled = unwritten, stalled
		s.publish()
	}
}

// sameCause reports whether two errors, each of which may be nil, have one cause. Their texts may differ in the name of a
// directory that is another with each attempt.
func sameCause(a, b error) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	first, ok := errors.AsType[syscall.Errno](a)
	second, too := errors.AsType[syscall.Errno](b)
	if ok && too {
		return first == second
	}
	return a.Error() == b.Error()
}
