// Package session keeps one bot in one channel: from join to leave it holds a
// remote.Peer per member, reconciles them with what presence says, and binds
// every stream they send to files.
package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/pion/webrtc/v4"

	"recorder/internal/event"
	"recorder/internal/guard"
	"recorder/internal/remote"
	"recorder/internal/signaling"
	"recorder/internal/sink"
)

// Config is what a session records and how. All but the first two can change
// while it runs, see [Set.Apply].
type Config struct {
	Channel string
	Bot     string // the bot's name, in the manifest

	// ReconnectWindow is how long a stream that has gone keeps its files open
	// for its return, 0 to 1 h.
	ReconnectWindow time.Duration

	// SkipAudio and SkipVideo leave out the tracks of that kind.
	SkipAudio, SkipVideo bool

	// Roles, if there are any, leaves out the streams whose metadata has none
	// of them as its "role".
	Roles []string

	// AloneTimeout ends the session once the bot has been the channel's only
	// member for that long, and MaxDuration that long after it joined. 0: never.
	AloneTimeout, MaxDuration time.Duration

	// MaxSize ends the session once its recording holds that many bytes of media.
	// MaxMembers are taken in at once, others are not connected to; MaxStreams
	// are recorded at once, others wait for a place. 0: no other bounds than the
	// service's and the sink's.
	MaxSize                int64
	MaxMembers, MaxStreams int

	// Start is when the channel is joined and Stop when it is left, by the
	// clock on the wall. The zero time: at once, and never.
	Start, Stop time.Time
}

// Options is what all sessions of a process share.
type Options struct {
	Root *sink.Root
	API  *remote.API

	// Signaling makes the client of a channel: each session has a socket, and
	// so a peer id, of its own.
	Signaling func(channel string) (*signaling.Client, error)

	// ICEServers are used beside those that the service's welcome names.
	ICEServers []webrtc.ICEServer

	// CloseTimeout bounds leaving: closing connections and finalising files.
	// 0 means 10 s.
	CloseTimeout time.Duration

	Logger *slog.Logger

	metrics *metrics // nil: of the session alone
}

// housekeeping is how often deadlines are looked at. It bounds how late any of
// them is noticed.
const housekeeping = 100 * time.Millisecond

// Session is one bot in one channel.
type Session struct {
	cfg    Config // as the session began; the rules that hold now are in bindings and limits
	opts   Options
	log    *slog.Logger
	client *signaling.Client
	hub    *event.Hub

	metrics channelMetrics

	inbox  chan func()            // work that peers' handlers and requests post for Run
	done   chan struct{}          // closed when Run returns
	lost   error                  // why the recording could not be finalised; set before done is closed
	status atomic.Pointer[Status] // published by Run, read by anyone

	// The rest is owned by Run.

	state     State
	failure   error    // ends the session
	over      error    // ends it too, as configured
	offline   error    // why there is no connection to the service
	peerID    string   // ours, on the connection that Run knows of; the client may have another by now
	lostID    string   // our peer id on the connection that was lost, until it is known who came meanwhile
	former    []string // those that we had, which presence names for a while
	trouble   error    // keeps media from coming
	unwritten error    // keeps it from being recorded
	stalled   error    // keeps media from being recorded
	reconcile reconcile
	members   map[string]*participant
	crowd     crowd
	early     earlySignals
	bindings  bindings
	limits    limits
	reentry   reentry
	takeover  takeover
	ice       []webrtc.ICEServer
}

// Status is a session's public face at one moment.
type Status struct {
	Channel string
	PeerID  string // ours; empty before the first welcome
	State   State
	Err     error // why it ended other than by being stopped, why it is not joined, or what keeps media from coming
	Peers   []*remote.Peer

	// Unrecorded is why nothing can be recorded at present, nil if it can.
	Unrecorded error
	Waiting    int // tracks that are not recorded for want of a place
}

// New makes a session; Run starts it.
func New(cfg Config, opts Options) (*Session, error) {
	client, err := opts.Signaling(cfg.Channel)
	if err != nil {
		return nil, fmt.Errorf("channel %q: %w", cfg.Channel, err)
	}
	if opts.CloseTimeout == 0 {
		opts.CloseTimeout = 10 * time.Second
	}
	if opts.metrics == nil {
		opts.metrics = newMetrics()
	}
	log := opts.Logger.With("channel", cfg.Channel)
	s := &Session{
		cfg:     cfg,
		opts:    opts,
		log:     log,
		client:  client,
		inbox:   make(chan func(), 256),
		done:    make(chan struct{}),
		members: make(map[string]*participant),
		metrics: opts.metrics.of(cfg.Channel),
	}
	s.hub = newHub(s)
	s.bindings = bindings{present: make(map[string]presentPeer), nudge: make(chan struct{}, 1), root: opts.Root, cfg: cfg, log: log, metrics: s.metrics, rotation: newRotation()}
	s.limits = limits{cfg: cfg}
	s.publish()
	return s, nil
}

// Status returns what the session is doing now.
func (s *Session) Status() Status { return *s.status.Load() }

// Run joins the channel and records it until ctx ends, which leaves the
// channel, finalises the files and returns nil; with the cause ErrClosed the
// recording may be continued by another session. A limit of its configuration
// does the same. When the service ends the session for good Run returns why.
func (s *Session) Run(ctx context.Context) error {
	defer close(s.done)
	defer s.hub.Close()
	if !s.awaitStart(ctx) {
		s.setState(StateClosed)
		return nil
	}
	if s.over = s.limits.check(time.Now(), s.state, 0, 0); s.over != nil { // before it began
		s.log.Info("session ended", "reason", s.over)
		s.setState(StateClosed)
		return nil
	}
	clientCtx, stopClient := context.WithCancel(context.WithoutCancel(ctx))
	defer stopClient()
	clientDone := make(chan error, 1)
	go func() { clientDone <- s.client.Run(clientCtx) }()

	tick := time.NewTicker(housekeeping)
	defer tick.Stop()
	s.setState(StateJoining)
	events := s.client.Events()
	for s.failure == nil && s.over == nil {
		select {
		case <-ctx.Done():
			s.leave(ctx, stopClient, StateClosed, context.Cause(ctx) == ErrClosed)
			<-clientDone
			return nil
		case e, ok := <-events:
			if !ok {
				events = nil // the client has ended; clientDone says why
				continue
			}
			s.do(func() { s.handle(e) })
		case work := <-s.inbox:
			s.do(work)
		case <-s.bindings.nudge:
			s.do(func() { s.bindings.nudged(time.Now()) })
		case now := <-tick.C:
			s.do(func() { s.housekeep(now) })
		case err := <-clientDone:
			clientDone <- err
			s.failure = err
		}
	}
	end := StateFailed
	if s.failure == nil {
		s.log.Info("session ended", "reason", s.over)
		end = StateClosed
	}
	s.leave(ctx, stopClient, end, false)
	<-clientDone
	return s.failure
}

// post hands work to Run. It gives up when the session has ended.
func (s *Session) post(work func()) {
	select {
	case s.inbox <- work:
	case <-s.done:
	}
}

// do carries out what comes from one member, mostly. A panic costs that alone.
func (s *Session) do(work func()) {
	defer guard.Recover(s.fault)
	work()
}

func (s *Session) fault(reason any, stack []byte) { s.opts.API.Panicked(s.log, reason, stack) }

func (s *Session) handle(e signaling.Event) {
	switch e := e.(type) {
	case signaling.Connected:
		s.connected(e)
	case signaling.Disconnected:
		s.disconnected(e.Err)
	case signaling.Subscribed:
		if e.Channel == s.cfg.Channel {
			s.subscribed()
		}
	case signaling.Presence:
		if e.Channel == s.cfg.Channel {
			s.presence(e)
		}
	case signaling.Direct:
		s.direct(e)
	case signaling.Message:
		s.message(e)
	case signaling.ReplayFailed:
		s.subscribeFailed(e.Err)
	case *signaling.ServerError: // which its client has logged
		if e.Fatal() && e.Code != signaling.CodeTokenExpired { // the close that follows heals with a fresh token
			s.failure = e
		}
	}
}

func (s *Session) setState(state State) {
	if s.state == state {
		return
	}
	from := s.state
	s.log.Info("session changed state", "from", from, "to", state)
	s.state = state
	s.publish()
	s.hub.Emit(StateChange{from, state}, nil)
}

// publish makes the session's face what it is now.
func (s *Session) publish() {
	peers := make([]*remote.Peer, 0, len(s.members))
	for _, m := range s.members {
		peers = append(peers, m.peer)
	}
	s.status.Store(&Status{
		Channel: s.cfg.Channel,
		PeerID:  s.peerID,
		State:   s.state,
		Err:     cmp.Or(s.failure, s.over, s.offline, s.trouble, s.unwritten, s.stalled),
		Peers:   peers,
		Waiting: s.bindings.wait,

		Unrecorded: s.unwritten,
	})
}

// leave closes everything the session holds, within Options.CloseTimeout. With
// restart another session may continue the recording.
func (s *Session) leave(ctx context.Context, stopClient context.CancelFunc, end State, restart bool) {
	s.offline = nil // nothing is missing any more
	s.setState(StateLeaving)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.CloseTimeout)
	defer cancel()
	var peers []*remote.Peer
	for id, m := range s.members {
		peers = append(peers, m.peer)
		s.removeMember(id, remote.CauseShutdown)
	}
	stopClient()
	if err := s.bindings.close(ctx, restart); err != nil {
		s.lost = fmt.Errorf("could not finalise the recording: %w", err)
	}
	for _, peer := range peers {
		select {
		case <-peer.Done():
			continue
		default: // hashing files may have taken all the time
		}
		select {
		case <-peer.Done():
		case <-ctx.Done():
			s.log.Warn("a connection did not close in time", "peer", peer.ID())
		}
	}
	s.setState(end)
	if end == StateFailed {
		s.hub.Emit(FatalError{s.failure}, nil)
	}
	s.hub.Emit(Left{PeerID: s.peerID, Channel: s.cfg.Channel, Reason: cmp.Or(s.failure, s.over)}, nil)
}

// housekeep looks at every deadline.
func (s *Session) housekeep(now time.Time) {
	s.settleEarly(now)
	s.settleDepartures(now)
	s.checkCrowd(now)
	s.checkReconcile(now)
	s.bindings.settle(now)
	s.checkRecording()
	s.checkMedia(now)
	s.over = s.limits.check(now, s.state, len(s.members), s.bindings.size())
}

// errNoSendPermission says in one line what a service without media looks like.
var errNoSendPermission = errors.New("the credential lacks the send permission: " +
	"joining works, but no member can connect to the bot and nothing will be recorded")
