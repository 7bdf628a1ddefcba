package session

import (
	"context"
	"encoding/json"

	"recorder/internal/event"
	"recorder/internal/remote"
	"recorder/internal/signaling"
)

// The events of a session. Receive them with event.Subscribe, event.Once or
// event.All on a [*Session], before Run to miss none.
type (
	// Joined: the bot is in the channel; who is there already follows as
	// PeerJoined. It comes once: a lost signalling connection shows as a
	// StateChange.
	Joined struct{ PeerID, Channel string }

	// Left: the bot is out of the channel for good and the files are final.
	// Reason is nil when it was asked to leave.
	Left struct {
		PeerID, Channel string
		Reason          error
	}

	// StateChange: the session went from one state to another.
	StateChange struct{ From, To State }

	// PeerJoined: a member is in the channel. The peer's own events are held
	// until the handlers of this one have returned.
	PeerJoined struct{ Peer *remote.Peer }

	// PeerLeft: the member has left, and the peer closes.
	PeerLeft struct{ Peer *remote.Peer }

	// Data: a member sent application data, to everyone or to the bot alone.
	// SenderMetadata is there only when the service adds it.
	Data struct {
		SenderPeerID   string
		Data           json.RawMessage
		Kind           DataKind
		SenderMetadata json.RawMessage
	}

	// FatalError: the service ended the session for good.
	FatalError struct{ Err error }
)

// DataKind is the way application data came.
type DataKind string

// The ways application data comes.
const (
	Broadcast DataKind = "broadcast" // to the channel
	Direct    DataKind = "direct"    // to the bot alone
)

// Events implements event.Source.
func (s *Session) Events() *event.Hub { return s.hub }

// Send sends application data to every member. It fails with a [StateError]
// unless the session is in the channel, and like signaling.Client.Publish.
func (s *Session) Send(ctx context.Context, data any) error {
	if state := s.Status().State; state != StateJoined && state != StateReconnecting {
		return &StateError{"Send", state}
	}
	return s.client.Publish(ctx, s.cfg.Channel, data)
}

func newHub(s *Session) *event.Hub {
	return event.NewHub(
		func() { s.metrics.refuse(refusedEvents) },
		s.fault,
	)
}

// announce tells of a newcomer. Its events wait, so that a handler that
// subscribes to them misses none.
func (s *Session) announce(peer *remote.Peer) {
	peer.Events().Hold()
	if !s.hub.Emit(PeerJoined{peer}, peer.Events().Release) {
		peer.Events().Release()
	}
}

// message passes on what others published to the channel. The service may send
// back what we did.
func (s *Session) message(m signaling.Message) {
	if m.Channel != s.cfg.Channel || m.From == s.peerID {
		return
	}
	s.hub.Emit(Data{SenderPeerID: m.From, Data: m.Data, Kind: Broadcast, SenderMetadata: m.FromMetadata}, nil)
}
