// Package member is a synthetic member of a channel: it joins through the
// service, and publishes tracks to everyone it meets there, in the way the
// official browser SDK does. The demo and tests use it as the other side of
// the recorder, so it shares no code with the recorder's own negotiation.
package member

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"

	"recorder/internal/signaling"
)

// Options configure a [Member]. URL, Credential and Channel are required.
type Options struct {
	URL        string
	Credential signaling.Credential
	Channel    string
	// Tracks are published from the start, to everyone.
	Tracks []Track
	// Meet, if not nil, says which peers to connect to; nil: everyone.
	Meet func(peer string) bool
	// API makes the connections; nil: one with pion's defaults.
	API *webrtc.API
	// Settings, if not nil, has the last word on pion's settings. Without API only.
	Settings func(*webrtc.SettingEngine)
	// OnTrack, if not nil, gets what other members publish.
	OnTrack    func(peer string, t *webrtc.TrackRemote)
	HTTPClient *http.Client // for the service's handshake; nil: the default
	Logger     *slog.Logger // nil: none
}

// Track is something to publish.
type Track struct {
	StreamID, TrackID string
	MimeType          string // webrtc.MimeTypeOpus, webrtc.MimeTypeVP8, …
	Source            Source
	Metadata          any // a JSON object; nil: none
}

// Sent is how much of one track one peer was sent, over the transport of the
// current connection only: frames due before it was up are not counted.
type Sent struct {
	Peer, StreamID, TrackID string
	Frames                  int           // video frames, or Opus packets
	Played                  time.Duration // their length
}

// Member is a member of a channel. Its methods may be called from any goroutine.
type Member struct {
	opts   Options
	api    *webrtc.API
	client *signaling.Client
	log    *slog.Logger
	life   context.Context // ends with Leave
	stop   context.CancelFunc
	joined chan error // buffered, 1
	done   sync.WaitGroup

	mu     sync.Mutex
	tracks []Track
	peers  map[string]*conn
	past   []Sent // of connections that ended
	ice    []webrtc.ICEServer
	left   bool
}

// Join joins the channel and publishes. It returns once the service has taken
// the member in; ctx bounds that and not what follows.
func Join(ctx context.Context, o Options) (*Member, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	client, err := signaling.NewClient(signaling.Options{
		URL: o.URL, Credential: o.Credential, Logger: o.Logger, HTTPClient: o.HTTPClient,
	})
	if err != nil {
		return nil, fmt.Errorf("join channel %q: %w", o.Channel, err)
	}
	if o.API == nil {
		settings := webrtc.SettingEngine{}
		// A browser tries a path for as long as its connection lasts.
		settings.SetICEMaxBindingRequests(1000)
		if o.Settings != nil {
			o.Settings(&settings)
		}
		o.API = webrtc.NewAPI(webrtc.WithSettingEngine(settings))
	}
	life, stop := context.WithCancel(context.Background())
	m := &Member{
		opts: o, client: client, log: o.Logger, life: life, stop: stop, joined: make(chan error, 1),
		api:    o.API,
		tracks: slices.Clone(o.Tracks), peers: map[string]*conn{},
	}
	m.done.Go(func() {
		if err := client.Run(life); err != nil {
			m.tell(err)
		}
	})
	m.done.Go(func() { m.listen(life) })
	select {
	case err = <-m.joined:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		m.Leave()
		return nil, fmt.Errorf("join channel %q: %w", o.Channel, err)
	}
	return m, nil
}

// tell reports the outcome of joining, of which only the first is of interest.
func (m *Member) tell(err error) {
	select {
	case m.joined <- err:
	default:
	}
}

// ID is the member's peer id.
func (m *Member) ID() string { return m.client.PeerID() }

// Leave leaves the channel, ends all connections and returns when they are.
func (m *Member) Leave() {
	m.mu.Lock()
	m.left = true
	for id := range m.peers {
		m.drop(id)
	}
	m.mu.Unlock()
	m.stop()
	m.done.Wait()
}

// Publish adds a track for everyone, now and later.
func (m *Member) Publish(t Track) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tracks = append(m.tracks, t)
	for _, c := range m.peers {
		c.publish(t)
		c.negotiate()
	}
}

// Unpublish takes a stream away from everyone: its metadata is cleared and
// its m-lines stay, recvonly, as a browser leaves them.
func (m *Member) Unpublish(streamID string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tracks = slices.DeleteFunc(m.tracks, func(t Track) bool { return t.StreamID == streamID })
	for _, c := range m.peers {
		c.unpublish(streamID)
		c.negotiate()
	}
}

// RestartICE looks for new paths to everyone, as a browser does whose network
// has changed.
func (m *Member) RestartICE() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.peers {
		c.restart = true
		c.negotiate()
	}
}

// Sent is how much was sent, by peer and track, connections that ended
// included.
func (m *Member) Sent() []Sent {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := slices.Clone(m.past)
	for _, c := range m.peers {
		all = append(all, c.sent()...)
	}
	slices.SortStableFunc(all, func(a, b Sent) int {
		return cmp.Or(cmp.Compare(a.Peer, b.Peer), cmp.Compare(a.StreamID, b.StreamID), cmp.Compare(a.TrackID, b.TrackID))
	})
	return all
}

// listen follows the service's events until the client ends.
func (m *Member) listen(ctx context.Context) {
	for e := range m.client.Events() {
		switch e := e.(type) {
		case signaling.Connected:
			m.connected(ctx, e)
		case signaling.Presence:
			m.presence(e)
		case signaling.Direct:
			m.direct(e)
		}
	}
}

func (m *Member) connected(ctx context.Context, e signaling.Connected) {
	m.mu.Lock()
	m.ice = nil
	for _, s := range e.ICEServers {
		m.ice = append(m.ice, webrtc.ICEServer{URLs: s.URLs, Username: s.Username, Credential: s.Credential})
	}
	m.mu.Unlock()
	if !e.Resumed {
		m.done.Go(func() { m.tell(m.client.Subscribe(ctx, m.opts.Channel)) })
	}
}

// presence meets who joined, then drops who left: as in the SDK, a peer in both
// lists of one frame is lost. The snapshot after a reconnect replaces every
// connection, as the SDK does.
func (m *Member) presence(e signaling.Presence) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.Channel != m.opts.Channel || m.left {
		return
	}
	if e.Snapshot {
		for id := range m.peers {
			m.drop(id)
		}
	}
	for _, joined := range e.Joined {
		if id := joined.PeerID; id != m.client.PeerID() && m.peers[id] == nil && (m.opts.Meet == nil || m.opts.Meet(id)) {
			m.meet(id)
		}
	}
	for _, id := range e.Left {
		m.drop(id)
	}
}

// meet connects to a peer and offers it what there is. m.mu is held.
func (m *Member) meet(id string) {
	c, err := newConn(m, id)
	if err != nil {
		m.log.Error("connection was not created", "peer", id, "err", err)
		return
	}
	m.peers[id] = c
	for _, t := range m.tracks {
		c.publish(t)
	}
	if len(m.tracks) > 0 {
		c.negotiate()
	}
}

// drop ends the connection to a peer. m.mu is held.
func (m *Member) drop(id string) {
	c := m.peers[id]
	if c == nil {
		return
	}
	delete(m.peers, id)
	m.past = append(m.past, c.sent()...)
	// Closing waits for callbacks, which wait for m.mu.
	m.done.Go(c.close)
}

func (m *Member) direct(e signaling.Direct) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.peers[e.From]
	if c == nil {
		return
	}
	var s message
	if json.Unmarshal(e.Data, &s) != nil {
		return
	}
	if err := c.handle(s); err != nil {
		m.log.Warn("signal was not applied", "peer", e.From, "type", s.Type, "err", err)
	}
}
