package session

import (
	"testing"
	"time"

	"recorder/internal/event"
	"recorder/internal/lab/devserver"
	"recorder/internal/remote"
)

// TestAPanicInTheWorkForAMemberLosesNothingOfAnother: on the channel's loop,
// and in a handler of the channel's events.
func TestAPanicInTheWorkForAMemberLosesNothingOfAnother(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.start(true)
		time.Sleep(settling)
		alice := r.join(r.token("alice"), "alice-camera")
		time.Sleep(settling)
		s := r.set.sessions[channel].Session
		event.Subscribe(s, func(e PeerJoined) {
			event.Subscribe(e.Peer, func(remote.StateChange) { panic("a handler of a member's events") })
			panic("a handler of the channel's events")
		})
		s.post(func() { panic("the loop") })
		mallory := r.join(r.token("mallory"), "mallory-camera")
		time.Sleep(5 * time.Second)
		mallory.Leave()
		alice.Leave()
		families, err := r.reg.Gather()
		r.must(err)
		counted := map[string]float64{}
		for _, f := range families {
			if f.GetName() == "recorder_remote_panics_total" {
				for _, m := range f.GetMetric() {
					counted[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
				}
			}
		}
		if counted["session"] != 2 || counted["event"] == 0 {
			t.Errorf("panics: %v", counted)
		}
		for _, stream := range r.finish().Streams {
			for _, track := range stream.Tracks {
				if stream.PeerID == "alice" && (track.Completeness != 1 || track.Recorded < 6) {
					t.Errorf("alice's %s: %v of it, %v s", track.Kind, track.Completeness, track.Recorded)
				}
			}
		}
	})
}
