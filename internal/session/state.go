package session

import "fmt"

// State is where a session is in its life.
//
//	idle → joining → joined ⇄ reconnecting
//	 │        └────────┴──────────┴─→ leaving → failed   (until its configuration is applied again)
//	 └─────────────────────────────────┴──────→ closed
type State int

// The states of a session. The zero value is StateIdle.
const (
	StateIdle         State = iota // not started, or waiting for its time
	StateJoining                   // connecting, or waiting to be let into the channel
	StateJoined                    // in the channel
	StateReconnecting              // the signalling connection is down, or being reconciled; media goes on
	StateLeaving                   // closing connections and files
	StateClosed                    // left; Status.Err says why if nobody asked for it
	StateFailed                    // ended by the service for good, see Status.Err
)

// States lists every State in order.
var States = []State{StateIdle, StateJoining, StateJoined, StateReconnecting, StateLeaving, StateClosed, StateFailed}

var stateNames = [...]string{"idle", "joining", "joined", "reconnecting", "leaving", "closed", "failed"}

// String returns the state's name as metrics, logs and JSON show it.
func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return fmt.Sprintf("State(%d)", int(s))
	}
	return stateNames[s]
}

// MarshalText implements encoding.TextMarshaler.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// StateError is the error of a method that the session's state does not allow. Nothing was sent.
type StateError struct {
	Method string
	State  State
}

// Error implements error.
func (e *StateError) Error() string { return fmt.Sprintf("session: %s while %v", e.Method, e.State) }
