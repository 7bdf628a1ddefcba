package member

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"
)

// message is a signal between peers.
type message struct {
	Type        string                     `json:"type,omitempty"`
	Description *webrtc.SessionDescription `json:"description,omitempty"`
	Candidate   json.RawMessage            `json:"candidate,omitempty"`
	TrackMeta   *trackMeta                 `json:"__meteredTrackMeta,omitempty"`
}

type trackMeta struct {
	TrackID  string `json:"trackId"`
	Metadata any    `json:"metadata,omitempty"`
}

// conn is the connection to one peer. Its fields are guarded by the member's
// mutex, which is held by the callers of its methods.
type conn struct {
	m      *Member
	peer   string
	polite bool

	pc      *webrtc.PeerConnection
	trickle *trickle
	wanted  bool // something is to be offered once the connection is stable
	restart bool // and it is to restart ICE
	ignored bool // the last offer was ignored, candidates of it follow
	held    []webrtc.ICECandidateInit
	players []*player
	up      chan struct{} // closed when the transport is up
	gone    chan struct{} // closed when the connection is given up
	playing sync.WaitGroup
}

func newConn(m *Member, peer string) (*conn, error) {
	c := &conn{m: m, peer: peer, polite: m.client.PeerID() < peer}
	return c, c.open()
}

// open makes the PeerConnection.
func (c *conn) open() error {
	pc, err := c.m.api.NewPeerConnection(webrtc.Configuration{ICEServers: c.m.ice})
	if err != nil {
		return fmt.Errorf("create connection: %w", err)
	}
	up, gone := make(chan struct{}), make(chan struct{})
	c.pc, c.up, c.gone, c.held = pc, up, gone, nil
	var once sync.Once
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateConnected {
			once.Do(func() { close(up) })
		}
	})
	trickle := &trickle{send: c.send}
	c.trickle = trickle
	pc.OnICECandidate(trickle.candidate)
	pc.OnTrack(func(t *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		if c.m.opts.OnTrack == nil {
			return
		}
		// A connection closed while it starts a receiver leaves that open.
		ended := context.AfterFunc(c.m.life, func() { _ = t.SetReadDeadline(time.Unix(1, 0)) })
		defer ended()
		c.m.opts.OnTrack(c.peer, t)
	})
	return nil
}

func (c *conn) send(s message) { c.m.client.SendAsync(c.peer, s) }

// describe sends a description, and the candidates after it.
func (c *conn) describe(d webrtc.SessionDescription) {
	c.send(message{Type: "rtc-description", Description: &d})
	c.trickle.start(d.SDP)
}

// trickle sends the candidates of one connection, each after the description
// whose user name fragment it has: pion finds some before it is sent, or even
// made. It calls while the member's mutex is held.
type trickle struct {
	send func(message)

	mu    sync.Mutex
	ufrag string   // of the description sent last
	past  []string // of those before
	held  []found  // of one to come
}

// found is a candidate as it is sent, and whose it is; the end of them is
// nobody's.
type found struct {
	candidate json.RawMessage
	ufrag     string
}

// start sends what was held back for the description.
func (t *trickle) start(sdp string) {
	_, rest, _ := strings.Cut(sdp, "a=ice-ufrag:")
	t.mu.Lock()
	defer t.mu.Unlock()
	ufrag, _, _ := strings.Cut(rest, "\r\n")
	if ufrag != t.ufrag {
		t.past = append(t.past, t.ufrag)
	}
	t.ufrag = ufrag
	held := t.held
	t.held = nil
	for _, f := range held {
		if f.ufrag == t.ufrag || f.ufrag == "" {
			t.send(message{Type: "rtc-ice", Candidate: f.candidate})
		}
	}
}

// candidate tells the peer of a candidate; nil is the end.
func (t *trickle) candidate(c *webrtc.ICECandidate) {
	f := found{candidate: json.RawMessage("null")}
	if c != nil {
		init := c.ToJSON()
		_, rest, _ := strings.Cut(init.Candidate, " ufrag ")
		f.ufrag, _, _ = strings.Cut(rest, " ")
		init.UsernameFragment = &f.ufrag
		f.candidate, _ = json.Marshal(init)
	}
	t.take(f)
}

func (t *trickle) take(f found) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case f.ufrag != "" && slices.Contains(t.past, f.ufrag):
		// ICE was restarted meanwhile.
	case f.ufrag != "" && f.ufrag != t.ufrag || len(t.held) > 0:
		t.held = append(t.held, f)
	default:
		t.send(message{Type: "rtc-ice", Candidate: f.candidate})
	}
}

// publish adds a track and its metadata; negotiate has to follow.
func (c *conn) publish(t Track) {
	p, err := newPlayer(c.pc, t)
	if err != nil {
		c.m.log.Error("track was not added", "track", t.TrackID, "err", err)
		return
	}
	c.players = append(c.players, p)
	if t.Metadata != nil {
		c.send(message{TrackMeta: &trackMeta{TrackID: t.TrackID, Metadata: t.Metadata}})
	}
	up, gone := c.up, c.gone
	c.playing.Go(func() { p.feedback() })
	c.playing.Go(func() { p.play(up, gone) })
}

// unpublish removes the tracks of a stream; negotiate has to follow.
func (c *conn) unpublish(streamID string) {
	for _, p := range c.players {
		if p.track.StreamID != streamID || !p.end() {
			continue
		}
		if p.track.Metadata != nil {
			c.send(message{TrackMeta: &trackMeta{TrackID: p.track.TrackID}})
		}
		if err := c.pc.RemoveTrack(p.sender); err != nil {
			c.m.log.Warn("track was not removed", "track", p.track.TrackID, "err", err)
		}
	}
}

// negotiate offers, now or once the offer that is out was answered.
func (c *conn) negotiate() {
	if c.wanted = true; c.pc.SignalingState() != webrtc.SignalingStateStable {
		return
	}
	c.wanted = false
	offer, err := c.pc.CreateOffer(&webrtc.OfferOptions{ICERestart: c.restart})
	if err == nil {
		c.restart = false
		err = c.pc.SetLocalDescription(offer)
	}
	if err != nil {
		c.m.log.Error("offer was not made", "peer", c.peer, "err", err)
		return
	}
	c.describe(offer)
}

func (c *conn) handle(s message) error {
	switch {
	case s.Type == "rtc-ice":
		return c.remoteCandidate(s.Candidate)
	case s.Type != "rtc-description" || s.Description == nil:
		return nil
	case s.Description.Type == webrtc.SDPTypeAnswer:
		return c.answered(*s.Description)
	case s.Description.Type == webrtc.SDPTypeOffer:
		return c.offered(*s.Description)
	}
	return nil
}

func (c *conn) answered(answer webrtc.SessionDescription) error {
	if c.pc.SignalingState() != webrtc.SignalingStateHaveLocalOffer {
		return nil
	}
	if err := c.apply(answer); err != nil {
		return err
	}
	c.settle()
	return nil
}

func (c *conn) offered(offer webrtc.SessionDescription) error {
	collision := c.pc.SignalingState() != webrtc.SignalingStateStable
	if c.ignored = collision && !c.polite; c.ignored {
		return nil
	}
	if collision {
		if err := c.giveWay(); err != nil {
			return err
		}
	}
	if err := c.apply(offer); err != nil {
		return err
	}
	answer, err := c.pc.CreateAnswer(nil)
	if err != nil {
		return fmt.Errorf("create answer: %w", err)
	}
	if err := c.pc.SetLocalDescription(answer); err != nil {
		return fmt.Errorf("apply answer: %w", err)
	}
	c.describe(answer)
	c.settle()
	return nil
}

// giveWay takes back the pending offer. pion cannot: a connection that was
// negotiated before answers the offer itself with what it had, and any other
// is replaced.
func (c *conn) giveWay() error {
	c.wanted = true
	if d := c.pc.CurrentRemoteDescription(); d != nil {
		return c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: d.SDP})
	}
	old, gone := c.pc, c.gone
	if err := c.open(); err != nil {
		return err
	}
	close(gone)
	c.m.done.Go(func() { _ = old.GracefulClose() })
	players := c.players
	c.players = nil
	for _, p := range players {
		if p.end() {
			c.publish(p.track)
		}
	}
	return nil
}

// settle offers what had to wait for a stable connection.
func (c *conn) settle() {
	if c.wanted {
		c.negotiate()
	}
}

func (c *conn) apply(d webrtc.SessionDescription) error {
	if err := c.pc.SetRemoteDescription(d); err != nil {
		return fmt.Errorf("apply %s: %w", d.Type, err)
	}
	for _, candidate := range c.held {
		if err := c.pc.AddICECandidate(candidate); err != nil {
			c.m.log.Debug("candidate was not added", "peer", c.peer, "err", err)
		}
	}
	c.held = nil
	return nil
}

func (c *conn) remoteCandidate(data json.RawMessage) error {
	var candidate webrtc.ICECandidateInit
	if err := json.Unmarshal(data, &candidate); err != nil {
		return fmt.Errorf("parse candidate: %w", err)
	}
	if c.pc.RemoteDescription() == nil {
		c.held = append(c.held, candidate)
		return nil
	}
	if err := c.pc.AddICECandidate(candidate); err != nil && !c.ignored {
		return fmt.Errorf("add candidate: %w", err)
	}
	return nil
}

// sent is what went to the peer on this connection.
func (c *conn) sent() (all []Sent) {
	for _, p := range c.players {
		frames, length := p.counts()
		all = append(all, Sent{
			Peer: c.peer, StreamID: p.track.StreamID, TrackID: p.track.TrackID,
			Frames: frames, Played: length.Round(time.Millisecond),
		})
	}
	return all
}

// close ends the connection. The member's mutex must not be held.
func (c *conn) close() {
	close(c.gone)
	_ = c.pc.GracefulClose()
	c.playing.Wait()
}
