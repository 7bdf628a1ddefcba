package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pion/webrtc/v4"

	"recorder/internal/signaling"
)

const (
	snapshotTimeout  = 10 * time.Second // then the subscription is sent again
	snapshotAttempts = 3                // subscriptions in all
)

// ErrReconcileTimeout is why a session dropped its connection and started
// over: the service sent no presence snapshot.
var ErrReconcileTimeout = errors.New("no presence snapshot came")

// reconcile waits for the presence snapshot that follows a (re)subscription.
type reconcile struct {
	deadline time.Time // zero when nothing is awaited
	attempt  int
	granted  bool // the subscription was, so that only an empty snapshot can be missing for good
}

func (r *reconcile) await(now time.Time) {
	*r = reconcile{deadline: now.Add(snapshotTimeout), attempt: 1}
}
func (r *reconcile) stop()        { *r = reconcile{} }
func (r *reconcile) awaits() bool { return !r.deadline.IsZero() }

// due reports whether the deadline has passed, and moves it on.
func (r *reconcile) due(now time.Time) bool {
	if r.deadline.IsZero() || now.Before(r.deadline) {
		return false
	}
	r.deadline = now.Add(snapshotTimeout)
	r.attempt++
	return true
}

// checkReconcile subscribes again when no snapshot came, and starts the
// connection over when that does not help either. A service may leave out an
// empty snapshot: it is not missed where nobody is, or in the end seems to be.
func (s *Session) checkReconcile(now time.Time) {
	if !s.reconcile.due(now) {
		return
	}
	nobody := len(s.members)+len(s.early.peers) == 0 && s.lostID != s.peerID // whoever came meanwhile greeted the id of before
	last := s.reconcile.attempt > snapshotAttempts
	switch {
	case s.reconcile.granted && (nobody || last && s.deserted(now)):
		s.presence(signaling.Presence{Channel: s.cfg.Channel, Snapshot: true})
	case !last:
		s.log.Warn("no presence snapshot came, subscribing again", "attempt", s.reconcile.attempt)
		s.subscribe()
	default:
		s.reconcile.stop()
		s.log.Error("reconcile failed, starting the connection over", "err", ErrReconcileTimeout)
		s.client.Reset(ErrReconcileTimeout)
	}
}

// deserted reports whether no member can be reached.
func (s *Session) deserted(now time.Time) bool {
	for _, m := range s.members {
		if s.reachable(m, now) {
			return false
		}
	}
	return true
}

// subscribed is called when the service has taken the subscription. With nobody
// to be missed that is all there is to wait for.
func (s *Session) subscribed() {
	s.reconcile.granted = true
	if len(s.members) == 0 {
		s.enter()
	}
}

// snapshotArrived ends a reconcile: everyone is known.
func (s *Session) snapshotArrived() {
	s.reconcile.stop()
	s.lostID = ""
	s.takeover.enter(time.Now())
	s.enter()
}

// enter is called when the bot is in the channel, and knows of whoever it knew before.
func (s *Session) enter() {
	s.bindings.join(time.Now())
	first := s.state == StateJoining
	s.setState(StateJoined)
	if first {
		s.hub.Emit(Joined{PeerID: s.peerID, Channel: s.cfg.Channel}, nil)
	}
}

// settleEarly looks after signals from peers that presence has not named. While
// a snapshot is awaited it may still name them.
func (s *Session) settleEarly(now time.Time) {
	switch {
	case s.state == StateJoined && s.early.ask(now):
		s.subscribe()
	case s.reconcile.awaits():
	default:
		s.early.expire(now)
	}
}

// subscribe asks for the channel without holding up Run.
func (s *Session) subscribe() {
	go func() {
		if err := s.client.Subscribe(context.Background(), s.cfg.Channel); err != nil {
			s.post(func() { s.subscribeFailed(err) })
		}
	}()
}

// subscribeFailed ends the session when the refusal is of this channel or of
// us. Otherwise the reconcile's deadline, or the next connection, tries again.
func (s *Session) subscribeFailed(err error) {
	if refused, ok := errors.AsType[*signaling.RequestError](err); ok {
		switch refused.Code {
		case signaling.CodeChannelNotAuthorized, signaling.CodeChannelReserved, signaling.CodeInvalidChannel,
			signaling.CodeActionNotPermitted:
			s.failure = fmt.Errorf("join channel %q: %w", s.cfg.Channel, err)
			return
		}
	}
	if s.offline != nil {
		return // the next connection has it subscribed
	}
	s.log.Warn("could not subscribe", "err", err)
	if !s.reconcile.awaits() {
		s.reconcile.await(time.Now())
	}
}

// iceServers puts the service's servers beside the configured ones.
func iceServers(configured []webrtc.ICEServer, welcome []signaling.ICEServer) []webrtc.ICEServer {
	all := append([]webrtc.ICEServer(nil), configured...)
	for _, s := range welcome {
		all = append(all, webrtc.ICEServer{URLs: s.URLs, Username: s.Username, Credential: s.Credential})
	}
	return all
}
