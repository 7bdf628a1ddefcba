package remote

// State is where a [Peer] stands (reference row "state").
//
//	       offer in or out            transport up
//	idle ───────────────▶ connecting ───────────────▶ connected
//	  │                    │      │                    │    ▲
//	  │                    │      │ path lost,         │    │ transport up again,
//	  │                    │      │ signalling lost    │    │ signalling back
//	  │                    │      ▼                    ▼    │
//	  │                    │   reconnecting ◀───────────────┘
//	  │                    │      │
//	  ▼                    ▼      ▼
//	closed ◀───────────────┴──────┘          final, from everywhere
//
// Trouble on the media path and a dropped signalling socket look the same, on
// purpose. The connecting hop of a rebuilt connection does not exist: a peer
// that was connected once goes connected → reconnecting → connected.
type State int

const (
	// StateIdle: nothing was negotiated yet, which is normal for a member
	// that sends nothing. The zero value.
	StateIdle State = iota
	// StateConnecting: the first negotiation is under way.
	StateConnecting
	// StateConnected: the transport is up.
	StateConnected
	// StateReconnecting: the transport or our signalling was lost and is
	// being recovered.
	StateReconnecting
	// StateClosed: the member left or the session ended. Final.
	StateClosed
)

// String returns the reference's name of the state.
func (s State) String() string {
	switch s {
	case StateIdle:
		return "idle"
	case StateConnecting:
		return "connecting"
	case StateConnected:
		return "connected"
	case StateReconnecting:
		return "reconnecting"
	case StateClosed:
		return "closed"
	default:
		return "unknown"
	}
}

// condition is what the current connection is like, as far as State cares.
type condition int

const (
	dormant     condition = iota // no description was applied
	negotiating                  // descriptions exist, the transport is not up yet
	up                           // the transport works
	broken                       // disconnected, failed or closed
)

// next returns the state that follows from the condition of the current
// connection and of our signalling.
func (s State) next(c condition, signalling bool) State {
	switch {
	case s == StateClosed:
		return StateClosed
	case s == StateIdle && (c == dormant || !signalling):
		return StateIdle
	case !signalling, c == broken:
		return StateReconnecting
	case c == up:
		return StateConnected
	case s == StateIdle || s == StateConnecting:
		return StateConnecting
	default:
		return StateReconnecting
	}
}
