package session

import (
	"fmt"
	"testing"
	"time"

	"recorder/internal/lab/devserver"
	"recorder/internal/sink"
)

// Members and streams beyond what the configuration allows are left alone, and take nothing from
// those within.
func TestNoMoreMembersAndStreamsThanConfigured(t *testing.T) {
	for name, tt := range map[string]struct {
		config  Config
		members int // in the manifest, of two
		streams int // of four
	}{
		"as many as come": {Config{}, 2, 4},
		"one member":      {Config{MaxMembers: 1}, 1, 2},
		"three streams":   {Config{MaxStreams: 3}, 2, 3},
		"both":            {Config{MaxMembers: 1, MaxStreams: 1}, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			inRig(t, devserver.Options{}, func(r *rig) {
				r.start(true)
				tt.config.Channel = "limited"
				r.apply(tt.config)
				time.Sleep(settling)
				for _, id := range []string{"alice", "bob"} {
					member := r.enter("limited", id, append(camera(id+"-camera"), camera(id+"-screen")...))
					defer member.Leave()
				}
				time.Sleep(10 * time.Second)
				r.set.Close()
				m := r.recordings()["limited"][0]
				r.set = nil
				recorded := recordedOf(m)
				if len(m.Peers) != tt.members || len(recorded) != tt.streams {
					t.Errorf("%d members with %d streams, want %d with %d", len(m.Peers), len(recorded), tt.members, tt.streams)
				}
				if wait := tt.members*2 - tt.streams; len(m.Streams) != tt.streams+wait {
					t.Errorf("%d streams in the manifest, want those that are recorded and %d that wait", len(m.Streams), wait)
				}
				for _, s := range recorded {
					for _, track := range s.Tracks {
						if len(track.Parts) != 1 || track.Recorded < sink.Seconds(4*time.Second) {
							t.Errorf("%s: %v recorded", track.ID, track.Recorded.Duration())
						}
					}
				}
			})
		})
	}
}

// What has gone with its page is not waited for when there is somebody to record.
func TestMembersThatReloadTakeTheirPlacesAgain(t *testing.T) {
	for name, again := range map[string]string{"under another id": "-again", "under the same id": ""} {
		t.Run(name, func(t *testing.T) {
			inRig(t, devserver.Options{}, func(r *rig) {
				r.set = NewSet(r.options(true))
				r.apply(Config{Channel: channel, Bot: "recorder", ReconnectWindow: time.Minute, MaxStreams: 2})
				time.Sleep(settling)
				for page, suffix := range []string{"", again} {
					alice := r.join(r.token("alice"+suffix), fmt.Sprint("alice-camera-", page))
					bob := r.join(r.token("bob"+suffix), fmt.Sprint("bob-camera-", page))
					time.Sleep(20 * time.Second)
					alice.Leave()
					bob.Leave()
				}
				m := r.finish()
				if len(m.Streams) != 4 {
					t.Errorf("%d streams, want two of each", len(m.Streams))
				}
				for _, s := range m.Streams {
					for _, track := range s.Tracks {
						if track.Recorded.Duration() < 18*time.Second {
							t.Errorf("%s: %v recorded", track.ID, track.Recorded.Duration())
						}
					}
				}
			})
		})
	}
}

// Whoever waits for a place has none of a member that is there, and cannot be heard for a while.
func TestAnOutageCostsNobodyItsPlace(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.set = NewSet(r.options(true))
		r.apply(Config{Channel: channel, Bot: "recorder", ReconnectWindow: time.Minute, MaxStreams: 1})
		time.Sleep(settling)
		r.join(r.token("alice"), "alice-camera")
		time.Sleep(5 * time.Second)
		r.join(r.token("bob"), "bob-camera")
		time.Sleep(5 * time.Second)
		r.dead.Store("10.0.0.2", true) // alice
		time.Sleep(10 * time.Second)
		r.dead.Delete("10.0.0.2")
		time.Sleep(20 * time.Second)
		m := r.finish()
		if s := recordedOf(m); len(s) != 1 || s[0].PeerID != "alice" {
			t.Errorf("%d streams are recorded, the first of %s", len(s), s[0].PeerID)
		}
		wantWaited(t, of(m, "bob"), 35*time.Second, false)
	})
}

func TestARecordingNoLargerThanConfigured(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.start(true)
		r.apply(Config{Channel: "limited", MaxSize: 50_000})
		alice := r.enter("limited", "alice", camera("alice"))
		defer alice.Leave()
		session := r.set.sessions["limited"]
		<-session.done
		if status := session.Status(); status.State != StateClosed || status.Err == nil ||
			status.Err.Error() != "left with the largest recording configured, 50000 bytes" {
			t.Errorf("%v, %v", status.State, status.Err)
		}
		var size int64
		m := r.recordings()["limited"][0]
		for _, s := range m.Streams {
			for _, track := range s.Tracks {
				for _, part := range track.Parts {
					size += part.Size
				}
			}
		}
		if m.State != sink.StateComplete || size < 50_000 || size > 80_000 {
			t.Errorf("%s with %d bytes", m.State, size)
		}
	})
}
