package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"recorder/internal/event"
	"recorder/internal/lab/devserver"
	"recorder/internal/remote"
)

// witness writes down what a session and its peers tell. The order of one
// source's events is promised, that between two is not.
type witness struct {
	mu      sync.Mutex
	session []string
	peers   []string
}

func (w *witness) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.session = append(w.session, fmt.Sprintf(format, args...))
}

func (w *witness) peer(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.peers = append(w.peers, fmt.Sprintf(format, args...))
}

// since returns what was noted since the last call, the session's own first.
func (w *witness) since() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := append(w.session, w.peers...)
	w.session, w.peers = nil, nil
	return lines
}

func (w *witness) watch(s *Session) {
	event.Subscribe(s, func(e StateChange) { w.note("%v → %v", e.From, e.To) })
	event.Subscribe(s, func(e Joined) { w.note("joined %s as %s", e.Channel, e.PeerID) })
	event.Subscribe(s, func(e Left) { w.note("left %s: %v", e.Channel, e.Reason) })
	event.Subscribe(s, func(e FatalError) { w.note("fatal") })
	event.Subscribe(s, func(e PeerLeft) { w.note("- %s", e.Peer.ID()) })
	event.Subscribe(s, func(e Data) { w.note("%s %s: %s", e.Kind, e.SenderPeerID, e.Data) })
	event.Subscribe(s, func(e PeerJoined) {
		w.note("+ %s", e.Peer.ID())
		event.Subscribe(e.Peer, func(c remote.StateChange) { w.peer("%s: %v → %v", e.Peer.ID(), c.From, c.To) })
		event.Subscribe(e.Peer, func(a remote.StreamAdded) { w.peer("%s: stream %s added", e.Peer.ID(), a.Stream.ID()) })
		event.Subscribe(e.Peer, func(a remote.StreamRemoved) { w.peer("%s: stream %s removed", e.Peer.ID(), a.Stream.ID()) })
		event.Subscribe(e.Peer, func(remote.ConnectionReset) { w.peer("%s: connection reset", e.Peer.ID()) })
	})
}

// attend runs a session of its own, watched from before it began.
func (r *rig) attend(watch func(*Session)) (s *Session, leave func()) {
	s, err := New(Config{Channel: channel, Bot: "recorder", ReconnectWindow: aWindow}, r.options(true))
	r.must(err)
	watch(s)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		s.Run(ctx)
		close(done)
	}()
	leave = func() { cancel(); <-done }
	r.defers(leave)
	return s, leave
}

func wantLines(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

func TestASessionTellsOfItsLifeInOrder(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		var w witness
		_, leave := r.attend(w.watch)
		time.Sleep(settling)
		wantLines(t, "joining", w.since(), "idle → joining", "joining → joined", "joined room-42 as recorder")

		alice := r.join(r.token("alice"), "camera")
		time.Sleep(settling)
		wantLines(t, "a member", w.since(), "+ alice", "alice: idle → connecting", "alice: stream camera added", "alice: connecting → connected")

		alice.Leave()
		time.Sleep(settling)
		wantLines(t, "it leaves", w.since(), "- alice", "alice: connected → reconnecting", "alice: stream camera removed", "alice: reconnecting → closed")

		leave()
		time.Sleep(settling)
		wantLines(t, "leaving", w.since(), "joined → leaving", "leaving → closed", "left room-42: <nil>")
	})
}

func TestOnlyASessionInTheChannelSends(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		s, err := New(Config{Channel: channel, Bot: "recorder", ReconnectWindow: aWindow}, r.options(true))
		r.must(err)
		refused := func(want State) {
			t.Helper()
			var refusal *StateError
			if err := s.Send(context.Background(), 1); !errors.As(err, &refusal) || *refusal != (StateError{"Send", want}) {
				t.Errorf("%v while %v", err, want)
			}
		}
		refused(StateIdle)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			s.Run(ctx)
			close(done)
		}()
		r.defers(cancel)
		time.Sleep(settling)
		r.must(s.Send(context.Background(), 1))
		cancel()
		<-done
		refused(StateClosed)
	})
}

func TestAKeptConnectionIsReconnectingAndConnectedAgainAndNothingIsAdded(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		var w witness
		s, _ := r.attend(w.watch)
		r.join(r.token("alice"), "camera")
		time.Sleep(settling)
		w.since()
		before := s.Status().Peers[0]
		pc := before.PeerConnection()
		r.server.Drop("recorder", devserver.Drop{Presence: devserver.Silent})
		time.Sleep(settling)
		wantLines(t, "our socket", w.since(), "joined → reconnecting", "reconnecting → joined",
			"alice: connected → reconnecting", "alice: reconnecting → connected")
		if after := s.Status().Peers[0]; after != before || after.PeerConnection() != pc {
			t.Error("the peer or its connection was replaced")
		}
	})
}

func TestSurvivorsNewcomersAndDeparturesAreToldApartByTheSnapshot(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		var w witness
		r.attend(w.watch)
		r.join(r.token("alice"), "alice")
		bob := r.join(r.token("bob"), "bob")
		time.Sleep(settling)
		w.since()
		r.server.Refuse(503)
		r.server.Drop("recorder", devserver.Drop{Presence: devserver.Silent})
		time.Sleep(settling)
		bob.Leave()
		r.server.Refuse(0)
		carol := r.speak("carol")
		defer carol.Reset(nil)
		time.Sleep(10 * time.Second)
		got := w.since()
		for _, want := range []string{"+ carol", "- bob", "bob: reconnecting → closed", "alice: connected → reconnecting", "alice: reconnecting → connected"} {
			if !slices.Contains(got, want) {
				t.Errorf("missing %q in %q", want, got)
			}
		}
		if slices.Contains(got, "- alice") || slices.Contains(got, "+ alice") {
			t.Errorf("a survivor left or joined: %q", got)
		}
	})
}

func TestMetadataIsFreshBeforeTheSurvivorIsConnectedAgain(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		seen := make(chan string, 8)
		r.attend(func(s *Session) {
			event.Subscribe(s, func(e PeerJoined) {
				event.Subscribe(e.Peer, func(c remote.StateChange) {
					if c.To == remote.StateConnected {
						seen <- string(e.Peer.Metadata())
					}
				})
			})
		})
		r.join(r.token("alice"), "camera")
		time.Sleep(settling)
		r.server.Intercept(func(to string, frame any) devserver.Verdict {
			if p, ok := frame.(*devserver.Presence); ok && to == "recorder" {
				for i := range p.Joined {
					p.Joined[i].Metadata = json.RawMessage(`{"name":"Alice B."}`)
				}
			}
			return devserver.Pass
		})
		r.server.Drop("recorder", devserver.Drop{Presence: devserver.Silent})
		time.Sleep(settling)
		if first, second := <-seen, <-seen; first != `{"name":"alice"}` || second != `{"name":"Alice B."}` {
			t.Errorf("metadata was %s, then %s", first, second)
		}
	})
}

func TestASessionMayBeEndedFromInsideAHandler(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		left := make(chan struct{})
		var leave func()
		ready := make(chan struct{})
		_, leave = r.attend(func(s *Session) {
			event.Subscribe(s, func(e PeerJoined) {
				<-ready
				e.Peer.Close(remote.CauseShutdown)
				go leave()
			})
			event.Subscribe(s, func(Left) { close(left) })
		})
		close(ready)
		alice := r.join(r.token("alice"), "camera")
		<-left
		alice.Leave()
	})
}

func TestASnapshotThatNeverComesStartsTheConnectionOver(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		var w witness
		r.attend(w.watch)
		time.Sleep(settling)
		r.join(r.token("alice"), "camera")
		time.Sleep(settling)
		w.since()
		var lost, welcomes atomic.Int64
		remove := r.server.Intercept(func(to string, frame any) devserver.Verdict {
			switch frame.(type) {
			case *devserver.Welcome:
				welcomes.Add(1)
			case *devserver.Presence:
				lost.Add(1)
				return devserver.Lose
			}
			return devserver.Pass
		})
		r.server.Drop("recorder", devserver.Drop{Presence: devserver.Silent})
		time.Sleep(35 * time.Second)
		if lost.Load() < snapshotAttempts || welcomes.Load() != 2 {
			t.Errorf("subscribed %d times over %d connections, want at least %d over 2", lost.Load(), welcomes.Load(), snapshotAttempts)
		}
		wantLines(t, "no snapshot", w.since(), "joined → reconnecting", "alice: connected → reconnecting")
		remove()
		time.Sleep(35 * time.Second)
		wantLines(t, "recovered", w.since(), "reconnecting → joined", "alice: reconnecting → connected")
	})
}

func TestMessagesOfMembersBecomeData(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		var w witness
		r.attend(w.watch)
		time.Sleep(settling)
		bob := r.speak("bob")
		time.Sleep(time.Second)
		w.since()
		r.must(bob.Send(context.Background(), "recorder", map[string]any{"hello": 1}))
		r.must(bob.Publish(context.Background(), channel, []int{1, 2}))
		time.Sleep(time.Second)
		wantLines(t, "data", w.since(), `direct bob: {"hello":1}`, `broadcast bob: [1,2]`)
	})
}

func TestWhatTheBotPublishesIsNoDataOfAMember(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		var w witness
		s, _ := r.attend(w.watch)
		time.Sleep(settling)
		w.since()
		r.must(s.Send(context.Background(), "hello"))
		r.server.Inject("recorder", &devserver.Message{Channel: channel, From: "recorder", Data: json.RawMessage(`"hello"`)})
		time.Sleep(time.Second)
		wantLines(t, "data", w.since())
	})
}

func TestADropWhileReconcilingReconcilesOnceMore(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		var w witness
		r.attend(w.watch)
		r.join(r.token("alice"), "camera")
		time.Sleep(settling)
		w.since()
		toBot := func(to string, frame any) bool {
			_, ok := frame.(*devserver.Presence)
			return ok && to == "recorder"
		}
		r.server.Next(toBot, devserver.Lose)
		r.server.Drop("recorder", devserver.Drop{Presence: devserver.Silent})
		time.Sleep(3 * time.Second) // connected again, and waiting for the snapshot
		r.server.Drop("recorder", devserver.Drop{Presence: devserver.Silent})
		time.Sleep(10 * time.Second)
		wantLines(t, "two drops", w.since(), "joined → reconnecting", "reconnecting → joined",
			"alice: connected → reconnecting", "alice: reconnecting → connected")
	})
}
