package devserver

import (
	"encoding/json"
	"iter"
	"slices"
	"time"
)

// channel is its members, in the order in which they joined. Everything in this file is called with Server.mu held.
type channel struct {
	members []*member
}

// member is one peer id in a channel, over all of its sockets.
type member struct {
	peer     string
	metadata json.RawMessage
	conns    []*conn
	ghost    *Drop // set while the member has no socket and the others have not been told
}

func (ch *channel) find(peer string) *member {
	if i := slices.IndexFunc(ch.members, func(m *member) bool { return m.peer == peer }); i >= 0 {
		return ch.members[i]
	}
	return nil
}

func (ch *channel) remove(m *member) {
	ch.members = slices.DeleteFunc(ch.members, func(other *member) bool { return other == m })
}

// subscribe adds a socket to a channel: the others get the delta, if there is one, and the socket its snapshot. Subscribing
// again is another snapshot.
func (s *Server) subscribe(c *conn, name string, withMetadata bool) {
	ch := s.channels[name]
	if ch == nil {
		ch = &channel{}
		s.channels[name] = ch
	}
	m := ch.find(c.peer)
	back := m != nil && m.ghost != nil
	isNew := m == nil
	if isNew {
		m = &member{peer: c.peer}
		ch.members = append(ch.members, m)
	}
	m.metadata = c.peerMetadata
	if !slices.Contains(m.conns, c) {
		m.conns = append(m.conns, c)
	}
	c.subs[name] = withMetadata

	switch {
	case isNew:
		s.announce(name, m.joined(), nil)
	case back:
		how := *m.ghost
		m.ghost = nil
		s.announceReturn(name, m, how)
	}
	if c.may(PermissionPresence) {
		c.post(s.snapshot(name, c))
	}
}

// unsubscribe takes a socket out of a channel. With its last socket the member leaves, in the way how says.
func (s *Server) unsubscribe(c *conn, name string, how Drop) {
	if _, ok := c.subs[name]; !ok {
		return
	}
	delete(c.subs, name)
	m := s.channels[name].find(c.peer)
	m.conns = slices.DeleteFunc(m.conns, func(other *conn) bool { return other == c })
	switch {
	case len(m.conns) > 0:
	case how.Presence == LeftAtOnce:
		s.leave(name, m)
	default:
		m.ghost = &how
		if how.Linger > 0 {
			time.AfterFunc(how.Linger, func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				if m.ghost == &how {
					s.leave(name, m)
				}
			})
		}
	}
}

// leave ends a membership and tells the others.
func (s *Server) leave(name string, m *member) {
	m.ghost = nil
	ch := s.channels[name]
	ch.remove(m)
	s.announce(name, nil, m.left())
	if len(ch.members) == 0 {
		delete(s.channels, name)
	}
}

// announceReturn tells the others what they hear of a member that was gone and that they still believe to be there.
func (s *Server) announceReturn(name string, m *member, how Drop) {
	switch how.Presence {
	case FlapTwoFrames:
		s.announce(name, nil, m.left())
		s.announce(name, m.joined(), nil)
	case FlapOneFrame:
		s.announce(name, m.joined(), m.left())
	case StaleLeft:
		s.announce(name, m.joined(), nil)
		time.AfterFunc(how.Stale, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.announce(name, nil, m.left())
		})
	}
}

func (m *member) joined() []Member { return []Member{{PeerID: m.peer, Metadata: m.metadata}} }
func (m *member) left() []Member   { return []Member{{PeerID: m.peer}} }

// announce sends a delta about one member to all the others.
func (s *Server) announce(name string, joined, left []Member) {
	about := slices.Concat(joined, left)[0].PeerID
	for to := range s.subscribers(name, about) {
		if to.may(PermissionPresence) {
			to.post(&Presence{Channel: name, Joined: slices.Clone(joined), Left: slices.Clone(left)})
		}
	}
}

func (s *Server) snapshot(name string, to *conn) *Presence {
	p := &Presence{Channel: name}
	for _, m := range s.channels[name].members {
		if m.peer != to.peer || s.opts.ListSelf {
			p.Joined = append(p.Joined, m.joined()...)
		}
	}
	return p
}

// subscribers are the sockets in a channel, except those of one peer.
func (s *Server) subscribers(name, except string) iter.Seq[*conn] {
	return func(yield func(*conn) bool) {
		ch := s.channels[name]
		if ch == nil {
			return
		}
		for _, m := range ch.members {
			for _, c := range m.conns {
				if m.peer != except && !yield(c) {
					return
				}
			}
		}
	}
}

// known reports whether a peer can be sent to: it is connected, or is thought to be.
func (s *Server) known(peer string) bool {
	if len(s.peers[peer]) > 0 {
		return true
	}
	for _, ch := range s.channels {
		if ch.find(peer) != nil {
			return true
		}
	}
	return false
}

// detach ends a socket's part in everything, once.
func (s *Server) detach(c *conn, how Drop) {
	if c.gone {
		return
	}
	c.gone = true
	for name := range c.subs {
		s.unsubscribe(c, name, how)
	}
	s.peers[c.peer] = slices.DeleteFunc(s.peers[c.peer], func(other *conn) bool { return other == c })
	if len(s.peers[c.peer]) == 0 {
		delete(s.peers, c.peer)
	}
	s.log.Info("peer disconnected", "peer", c.peer)
}
