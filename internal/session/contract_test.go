package session

import (
	"sync"
	"testing"

	"recorder/internal/event"
	"recorder/internal/remote"
)

// referee fails a test when a session or one of its peers tells something that
// their contract does not allow where it comes.
type referee struct {
	t *testing.T

	mu     sync.Mutex
	resets int // of all connections
	added  int // streams
}

// watch has to be called before the session tells of its first member.
func (f *referee) watch(s *Session) {
	state, present := s.Status().State, make(map[string]bool)
	event.Subscribe(s, func(e StateChange) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.rule(e.From == state && e.To != StateIdle && (e.To != StateJoining || e.From == StateIdle), "session: %v after %v", e, state)
		state = e.To
	})
	event.Subscribe(s, func(e PeerJoined) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.rule(!present[e.Peer.ID()], "%s joined twice", e.Peer.ID())
		present[e.Peer.ID()] = true
		f.follow(e.Peer)
	})
	event.Subscribe(s, func(e PeerLeft) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.rule(present[e.Peer.ID()], "%s left twice", e.Peer.ID())
		delete(present, e.Peer.ID())
	})
}

// counts is how often connections were replaced, and streams added.
func (f *referee) counts() (resets, added int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.resets, f.added
}

// rule holds, or the test fails.
func (f *referee) rule(ok bool, format string, args ...any) {
	if !ok {
		f.t.Errorf("out of contract: "+format, args...)
	}
}

// follow watches one peer.
func (f *referee) follow(p *remote.Peer) {
	state := remote.StateIdle
	tracks := make(map[*remote.Stream]bool)    // streams of tracks that were told of
	streams := make(map[string]*remote.Stream) // added and not removed
	rebuilt := make(map[string]*remote.Stream) // added before the connection was replaced
	on := func(what string, rules func() bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.rule(state != remote.StateClosed && rules(), "%s: %s while %v", p.ID(), what, state)
	}
	event.Subscribe(p, func(e remote.StateChange) {
		on(e.From.String()+" → "+e.To.String(), func() bool {
			from := state
			state = e.To
			return e.From == from && follows(from, e.To)
		})
	})
	event.Subscribe(p, func(e remote.TrackAdded) {
		on("track added", func() bool {
			for _, s := range e.Streams {
				tracks[s] = true
			}
			return true
		})
	})
	event.Subscribe(p, func(e remote.StreamAdded) {
		on("stream "+e.Stream.ID()+" added", func() bool {
			before := streams[e.Stream.ID()]
			streams[e.Stream.ID()] = e.Stream
			f.added++
			return before == nil && tracks[e.Stream] && rebuilt[e.Stream.ID()] != e.Stream
		})
	})
	event.Subscribe(p, func(e remote.StreamRemoved) {
		on("stream "+e.Stream.ID()+" removed", func() bool {
			live := streams[e.Stream.ID()] == e.Stream
			delete(streams, e.Stream.ID())
			return live || e.Closed && rebuilt[e.Stream.ID()] == e.Stream
		})
	})
	event.Subscribe(p, func(e remote.ConnectionReset) {
		on("connection reset", func() bool {
			for id, s := range streams {
				rebuilt[id] = s
			}
			clear(streams)
			f.resets++
			return state != remote.StateConnected
		})
	})
}

// follows reports whether a peer may go from one state to another.
func follows(from, to remote.State) bool {
	switch to {
	case remote.StateConnecting:
		return from == remote.StateIdle
	case remote.StateConnected:
		return from == remote.StateConnecting || from == remote.StateReconnecting
	case remote.StateReconnecting:
		return from == remote.StateConnecting || from == remote.StateConnected
	case remote.StateClosed:
		return true
	}
	return false
}
