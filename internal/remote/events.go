package remote

import (
	"encoding/json"
	"errors"
)

// Event is one of the event types below. Receive them with event.Subscribe,
// event.Once or event.All on a [*Peer] or a [*DataChannel].
type Event interface{ event() }

// Cause says why a connection was replaced or a peer closed. The set is
// closed: it is used as a metric label.
type Cause string

const (
	// CauseFresh: the member started another connection (S1).
	CauseFresh Cause = "fresh_offer"
	// CauseGlare: offers crossed before anything was negotiated, and we gave way.
	CauseGlare Cause = "glare"
	// CauseDead: the connection was closed or failed for good.
	CauseDead Cause = "dead"
	// CauseUnanswered: the connection's first offer was never answered.
	CauseUnanswered Cause = "unanswered"
	// CauseLeft: the member left the channel.
	CauseLeft Cause = "left"
	// CauseShutdown: the session ended.
	CauseShutdown Cause = "shutdown"
)

var (
	// ErrClosed: the peer or the data channel is closed for good.
	ErrClosed = errors.New("closed")
	// ErrICERestartExhausted is the one terminal [NegotiationError]: nine ICE
	// restarts in a row did not bring the connection back. The budget is new
	// once the peer is connected again.
	ErrICERestartExhausted = errors.New("ice restart gave up")
)

// StateChange: the peer went from one state to another. Both "connected" and
// "reconnecting" are seen once per reconnect, in that order.
type StateChange struct{ From, To State }

// TrackAdded (the reference's Track): the member sends a new track, or one it
// already sends moved to other streams. Streams is empty for a track that
// belongs to none.
type TrackAdded struct {
	Track    *Track
	Streams  []*Stream
	Metadata json.RawMessage
}

// StreamAdded: the member sends a stream that this connection did not have.
// It fires at the stream's first track, and again after a reconnect that
// rebuilt the connection: same id, new object.
type StreamAdded struct {
	Stream   *Stream
	Metadata json.RawMessage
}

// StreamRemoved: the stream has no live track left. It never fires for a
// stream that merely did not come back on a rebuilt connection (row 23).
type StreamRemoved struct {
	Stream *Stream
	// Closed is set when the whole peer was closed, and not when the member
	// took the stream away.
	Closed bool
}

// DataChannelOpened: the member opened a data channel towards us. Messages
// are held back until the handlers of this event have returned.
type DataChannelOpened struct{ Channel *DataChannel }

// NegotiationError: a description could not be created, sent or applied.
// Mostly ignorable; [ErrICERestartExhausted] is terminal. ICE credentials
// are removed from the text.
type NegotiationError struct{ Err error }

// ICECandidateError: a candidate was rejected. Usually benign.
type ICECandidateError struct{ Err error }

// ConnectionReset: the connection was replaced and the new one is in place;
// data channels made from a handler belong to it.
type ConnectionReset struct{ Cause Cause }

func (StateChange) event()       {}
func (TrackAdded) event()        {}
func (StreamAdded) event()       {}
func (StreamRemoved) event()     {}
func (DataChannelOpened) event() {}
func (NegotiationError) event()  {}
func (ICECandidateError) event() {}
func (ConnectionReset) event()   {}
