package session

import (
	"testing"
	"time"

	"recorder/internal/lab/devserver"
)

func TestStatusSaysWhyTheChannelIsNotJoinedForAsLongAsItIsNot(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		s, leave := r.attend(func(*Session) {})
		time.Sleep(settling)
		if err := s.Status().Err; err != nil {
			t.Errorf("joined, and the reason for not being so is %v", err)
		}
		for range 2 {
			r.server.Drop("recorder", devserver.Drop{})
			time.Sleep(time.Millisecond)
			if status := s.Status(); status.State != StateReconnecting || status.Err == nil {
				t.Errorf("dropped: %v, %v", status.State, status.Err)
			}
			time.Sleep(settling)
			if status := s.Status(); status.State != StateJoined || status.Err != nil {
				t.Errorf("joined again: %v, %v", status.State, status.Err)
			}
		}
		r.server.Drop("recorder", devserver.Drop{})
		time.Sleep(time.Millisecond)
		leave()
		if status := s.Status(); status.State != StateClosed || status.Err != nil {
			t.Errorf("left while it was reconnecting: %v, %v", status.State, status.Err)
		}
	})
}
