package devserver

import "github.com/coder/websocket"

// receive answers one message of a client.
func (s *Server) receive(c *conn, kind websocket.MessageType, b []byte) {
	r, ok := parseRequest(b)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case c.gone:
	case !c.bucket.Allow():
		s.drop(c, Drop{Code: CloseOverMessageRate})
	case !ok || kind != websocket.MessageText:
		c.post(&Error{Code: CodeMalformedMessage})
	case r.Type == "ping":
		c.post(&Pong{})
	default:
		s.answer(c, r)
	}
}

// answer carries a request out and acknowledges it, or says what was wrong with it.
func (s *Server) answer(c *conn, r request) {
	var id string
	if r.RequestID != nil {
		id = *r.RequestID
	}
	if code := s.check(c, r); code != "" {
		c.post(&Error{Code: code, RequestID: id})
		return
	}
	if id != "" {
		c.post(&Ack{RequestID: id})
	}
	switch r.Type {
	case "subscribe":
		s.subscribe(c, r.Channel, r.IncludeSenderMetadata)
	case "unsubscribe":
		s.unsubscribe(c, r.Channel, Drop{})
	case "publish":
		s.messages++
		s.publish(c, r)
	case "send":
		s.messages++
		for _, to := range s.peers[r.To] {
			to.post(&Direct{From: c.peer, Data: r.Data, FromMetadata: c.peerMetadata})
		}
	}
}

// check returns the error code for a request, or nothing if it may go ahead.
func (s *Server) check(c *conn, r request) string {
	switch r.Type {
	case "subscribe", "unsubscribe", "publish":
		switch {
		case !validName(r.Channel, 256):
			return CodeInvalidChannel
		case reserved(r.Channel):
			return CodeChannelReserved
		case !c.covers(r.Channel):
			return CodeChannelNotAuthorized
		}
	case "send":
		if !validName(r.To, 128) {
			return CodeInvalidPeerID
		}
	default:
		return CodeUnknownType
	}

	switch r.Type {
	case "subscribe":
		_, already := c.subs[r.Channel]
		switch {
		case !c.may(PermissionSubscribe):
			return CodeActionNotPermitted
		case !already && over(len(c.subs)+1, s.opts.Limits.Channels):
			return CodeChannelLimitExceeded
		}
	case "publish", "send":
		switch {
		case !c.may(r.Type): // the permissions have the names of the requests
			return CodeActionNotPermitted
		case len(r.Data) == 0:
			return CodeMissingData
		case r.Type == "send" && !s.known(r.To):
			return CodePeerNotFound
		case over(s.messages+1, s.opts.Limits.Quota):
			return CodeOverMessageQuota
		}
	}
	return ""
}

// publish delivers to every subscriber of a channel but the publisher.
func (s *Server) publish(c *conn, r request) {
	for to := range s.subscribers(r.Channel, c.peer) {
		m := &Message{Channel: r.Channel, From: c.peer, Data: r.Data}
		if to.subs[r.Channel] {
			m.FromMetadata = c.peerMetadata
		}
		to.post(m)
	}
}
