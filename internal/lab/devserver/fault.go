package devserver

import (
	"slices"
	"sync"
	"time"
)

// PresencePolicy is what the other members are told when a peer loses its socket and comes back under the same id. Until
// then they, and the snapshots of newcomers, believe it to be there; what is sent to it is acknowledged and lost.
type PresencePolicy int

const (
	LeftAtOnce    PresencePolicy = iota // left at the drop, joined when it subscribes again
	FlapTwoFrames                       // when it subscribes again: left, then joined
	FlapOneFrame                        // when it subscribes again: both in one frame
	StaleLeft                           // when it subscribes again: joined; Drop.Stale later: left
	Silent                              // nothing
)

// Drop is how a socket ends. The zero value is a connection reset that everyone is told of.
type Drop struct {
	Code     int // close code, after the frames already queued; 0: a TCP reset
	Presence PresencePolicy
	Linger   time.Duration // with every policy but LeftAtOnce: left after this long, if it has not come back; 0: never
	Stale    time.Duration // the delay of StaleLeft
}

// Drop ends all sockets of a peer and returns how many there were. When it returns the others' frames are queued and the peer
// is no longer heard. A peer that only lingers after an earlier Drop leaves now if the policy is LeftAtOnce.
func (s *Server) Drop(peer string, how Drop) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	sockets := slices.Clone(s.peers[peer])
	for _, c := range sockets {
		s.drop(c, how)
	}
	if how.Presence == LeftAtOnce {
		for name, ch := range s.channels {
			if m := ch.find(peer); m != nil && m.ghost != nil {
				s.leave(name, m)
			}
		}
	}
	return len(sockets)
}

func (s *Server) drop(c *conn, how Drop) {
	if c.gone {
		return
	}
	s.detach(c, how)
	if how.Code == 0 {
		c.wire.reset()
	} else {
		c.hangUp(refusal{how.Code, "closed by the server"})
	}
}

// Takeover decides what a second connection under the id of a peer that is still connected does to the first: nil, the
// default, leaves both in place, and they count as one member; otherwise the first is dropped like that.
func (s *Server) Takeover(how *Drop) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takeover = how
}

// Refuse turns new connections away until it is called with 0: with an HTTP status below 1000 before the upgrade, with a
// close code after it.
func (s *Server) Refuse(code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = code
}

// Blackhole makes the sockets of a peer half-open and returns how many there were: nothing gets through either way, pings and
// close frames included, and nobody is told. Drop ends it.
func (s *Server) Blackhole(peer string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.peers[peer] {
		c.wire.dark.Store(true)
	}
	return len(s.peers[peer])
}

// Inject sends a frame to all sockets of a peer, past every hook, and returns how many there were: a pointer to one of this
// package's frames, anything else that encodes to JSON, or a []byte that is sent as it is.
func (s *Server) Inject(peer string, frame any) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.peers[peer] {
		c.enqueue(outgoing{frame: frame, seen: true})
	}
	return len(s.peers[peer])
}

// Members lists the peer ids in a channel, in the order in which they joined, with those that linger after a Drop.
func (s *Server) Members(channel string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	if ch := s.channels[channel]; ch != nil {
		for _, m := range ch.members {
			ids = append(ids, m.peer)
		}
	}
	return ids
}

// Verdict is what becomes of a frame: [Pass], [Lose], or a delay, which lets the frames behind overtake it.
type Verdict time.Duration

const (
	Pass Verdict = 0
	Lose Verdict = -1
)

// Delay holds a frame back.
func Delay(d time.Duration) Verdict { return Verdict(d) }

// postpone carries out any verdict but Pass.
func (v Verdict) postpone(c *conn, o outgoing) {
	if v > 0 {
		o.seen = true
		time.AfterFunc(time.Duration(v), func() { c.enqueue(o) })
	}
}

type hook struct {
	mu    sync.Mutex // one call at a time
	judge func(to string, frame any) Verdict
}

// Intercept shows judge every frame just before it goes to a peer, in the order in which that peer gets them. The frame is a
// pointer to one of this package's types, and judge may change it. Calls do not overlap, and judge may call any method but
// Close. The first hook that does not Pass decides; remove takes this one away.
func (s *Server) Intercept(judge func(to string, frame any) Verdict) (remove func()) {
	h := &hook{judge: judge}
	s.addHook(h)
	return func() { s.removeHook(h) }
}

// Next applies a verdict to the next frame that matches, and to no other; the channel is closed when it has come by.
func (s *Server) Next(match func(to string, frame any) bool, verdict Verdict) <-chan struct{} {
	hit := make(chan struct{})
	h := &hook{}
	spent := false
	h.judge = func(to string, frame any) Verdict {
		if spent || !match(to, frame) {
			return Pass
		}
		spent = true
		s.removeHook(h)
		close(hit)
		return verdict
	}
	s.addHook(h)
	return hit
}

func (s *Server) addHook(h *hook) {
	s.hookMu.Lock()
	defer s.hookMu.Unlock()
	s.hooks = append(slices.Clone(s.hooks), h)
}

func (s *Server) removeHook(h *hook) {
	s.hookMu.Lock()
	defer s.hookMu.Unlock()
	s.hooks = slices.DeleteFunc(slices.Clone(s.hooks), func(other *hook) bool { return other == h })
}

// judge asks the hooks about a frame for c.
func (s *Server) judge(c *conn, frame any) Verdict {
	s.hookMu.Lock()
	hooks := s.hooks // never changed in place
	s.hookMu.Unlock()
	for _, h := range hooks {
		h.mu.Lock()
		v := h.judge(c.peer, frame)
		h.mu.Unlock()
		if v != Pass {
			return v
		}
	}
	return Pass
}
