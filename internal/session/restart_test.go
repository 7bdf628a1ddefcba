package session

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"recorder/internal/lab/devserver"
	"recorder/internal/sink"
)

// restart stops the bot as a process does that is told to, and begins anew after a while, as the next
// one does. With ctx it recovers recordings.
func (r *rig) restart(ctx context.Context, down, window time.Duration) {
	r.set.Close()
	r.must(r.root.Close())
	time.Sleep(down)
	root, err := sink.Open(sink.Options{Dir: r.dir, Logger: r.log})
	r.must(err)
	r.root = root
	recovered := root.Recover(ctx)
	r.defers(func() {
		<-recovered
		root.Close()
	})
	r.startWith(window)
}

// checkRestarted expects one file for each track, in which nothing but the time of the restart is
// missing: what was sent to the bot before and after is there.
func (r *rig) checkRestarted(m sink.Manifest, down time.Duration) {
	r.t.Helper()
	r.checkOneStream(m, outcome{minGap: down, maxGap: down + settling, reason: sink.ReasonRestart})
	for _, s := range m.Streams {
		if len(s.Reconnects) != 1 || s.Reconnects[0].Reason != sink.ReasonRestart || s.Reconnects[0].Resumed == nil {
			r.t.Errorf("reconnects %+v", s.Reconnects)
		}
		for _, track := range s.Tracks {
			if len(track.Gaps) != 1 {
				r.t.Errorf("%s: %d gaps", track.Kind, len(track.Gaps))
			}
		}
	}
}

func TestAMemberStaysThroughARestartOfTheRecorder(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		alice := r.join(r.token("alice"), "camera")
		r.startWith(aWindow)
		time.Sleep(8 * time.Second)
		r.restart(context.Background(), 5*time.Second, aWindow)
		time.Sleep(8 * time.Second)
		alice.Leave()
		r.checkRestarted(r.finish(), 5*time.Second)
	})
}

// held is a context under which nothing is read before it is released.
type held struct {
	context.Context
	release chan struct{}
}

func (h held) Err() error {
	<-h.release
	return nil
}

func TestJoiningWaitsForNoRepairAndNothingIsLostMeanwhile(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		alice := r.join(r.token("alice"), "camera")
		r.startWith(aWindow)
		time.Sleep(8 * time.Second)
		repair := held{context.Background(), make(chan struct{})}
		r.restart(repair, 3*time.Second, aWindow)
		time.Sleep(settling)
		if s := r.set.Status()[0]; s.State != StateJoined || len(s.Peers) != 1 {
			t.Errorf("the bot is %s, with %d members", s.State, len(s.Peers))
		}
		close(repair.release)
		time.Sleep(8 * time.Second)
		alice.Leave()
		r.checkRestarted(r.finish(), 3*time.Second)
	})
}

func TestOnlyAShutdownLeavesARecordingToTheNextProcess(t *testing.T) {
	for name, c := range map[string]struct {
		window time.Duration
		reason string // why the stream ends
		end    func(r *rig)
	}{
		"the channel is removed": {aWindow, sink.Closed, func(r *rig) { r.must(r.set.Apply(nil)) }},
		"the longest stay is over": {aWindow, sink.Closed, func(r *rig) {
			r.must(r.set.Apply([]Config{{Channel: channel, Bot: "recorder", ReconnectWindow: aWindow, MaxDuration: time.Second}}))
			time.Sleep(time.Second)
		}},
		"nobody is there": {aWindow, sink.MemberLeft, func(r *rig) {
			r.must(r.set.Apply([]Config{{Channel: channel, Bot: "recorder", ReconnectWindow: aWindow, AloneTimeout: time.Second}}))
			r.stops[len(r.stops)-1]() // alice leaves
			time.Sleep(settling)
		}},
		"no window": {0, sink.Closed, func(*rig) {}},
		"its window is taken": {aWindow, sink.Closed, func(r *rig) {
			r.must(r.set.Apply([]Config{{Channel: channel, Bot: "recorder"}}))
			time.Sleep(time.Second)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			inRig(t, devserver.Options{}, func(r *rig) {
				r.join(r.token("alice"), "camera")
				r.startWith(c.window)
				time.Sleep(5 * time.Second)
				c.end(r)
				m := r.finish()
				if m.State != sink.StateComplete || m.ContinuableUntil != nil {
					t.Errorf("%s, continuable until %v", m.State, m.ContinuableUntil)
				}
				if s := m.Streams[0]; s.EndReason != c.reason {
					t.Errorf("its stream ended: %s", s.EndReason)
				}
			})
		})
	}
}

// A member that is gone again before the files of its stream were read leaves no stream open.
func TestAStreamThatIsBackForAMomentEnds(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		alice := r.join(r.token("alice"), "camera")
		r.startWith(aWindow)
		time.Sleep(5 * time.Second)
		r.restart(context.Background(), time.Second, aWindow)
		session := r.set.sessions[channel]
		session.post(func() { session.bindings.nudge = nil }) // what has been read is looked at ten times a second only
		for waits := false; !waits; {
			time.Sleep(time.Millisecond)
			asked := make(chan bool)
			session.post(func() { asked <- len(session.bindings.reopening) > 0 && len(session.bindings.waiting) > 0 })
			waits = <-asked
		}
		alice.Leave()
		time.Sleep(aWindow + settling)
		m := r.recordings()[channel][0]
		if s := m.Streams[0]; s.Ended == nil || s.EndReason == sink.Stopped {
			t.Errorf("ended %v, %q", s.Ended, s.EndReason)
		}
		r.finish()
	})
}

// stuck is a context that has whoever asks it wait.
type stuck struct {
	context.Context
	release chan struct{}
}

func (c stuck) Err() error {
	<-c.release
	return nil
}

func TestARepairThatTakesLongCostsNoMedia(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.must(os.MkdirAll(filepath.Join(r.dir, "other", "recording"), 0o750))
		r.must(os.WriteFile(filepath.Join(r.dir, "other", "recording", sink.ManifestName), nil, 0o640))
		ctx := stuck{context.Background(), make(chan struct{})}
		recovered := r.root.Recover(ctx)
		r.start(true)
		time.Sleep(settling)
		alice := r.join(r.token(aliceID), "camera")
		time.Sleep(30 * time.Second)
		alice.Leave()
		close(ctx.release)
		<-recovered
		r.must(os.RemoveAll(filepath.Join(r.dir, "other")))
		m := r.finish()
		r.checkOneStream(m, outcome{})
		for _, s := range m.Streams {
			if began := s.Started.UTC.Sub(m.Started.UTC); began < 0 || began > settling+time.Second {
				t.Errorf("the stream began %v after the recording", began)
			}
		}
	})
}
