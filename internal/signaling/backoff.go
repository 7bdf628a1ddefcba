package signaling

import (
	"errors"
	"math/rand/v2"
	"time"
)

const (
	defaultMinBackoff = 500 * time.Millisecond
	defaultMaxBackoff = 30 * time.Second
	jitterRatio       = 0.2

	// overLimitBackoff is how long a 4010 keeps us away: a place must become free.
	overLimitBackoff = 30 * time.Second

	// lived is how long a connection must have been up to count as one that had
	// lived: it proves that the service and the token were good. The attempt after
	// such a connection is made at once, and the backoff starts over. A service that
	// welcomes and drops at once is not worth either.
	lived = 30 * time.Second
	// firstJitter spreads the attempts of many channels that lost their connections together.
	firstJitter = 100 * time.Millisecond
)

// Reason is why a connection, or an attempt at one, ended. The set is closed:
// reasons are metric labels.
type Reason string

// The reasons.
const (
	ReasonCredential   Reason = "credential"    // no credential could be obtained
	ReasonDial         Reason = "dial"          // no WebSocket could be opened
	ReasonNoWelcome    Reason = "no_welcome"    // opened, but no welcome in time (4000)
	ReasonInactivity   Reason = "inactivity"    // silence (4000)
	ReasonNetwork      Reason = "network"       // the transport broke
	ReasonGoingAway    Reason = "going_away"    // 1001
	ReasonPolicy       Reason = "policy"        // 1008
	ReasonTooBig       Reason = "too_big"       // 1009
	ReasonTokenExpired Reason = "token_expired" // 4002
	ReasonOverLimit    Reason = "over_limit"    // 4010
	ReasonOverRate     Reason = "over_rate"     // 4011
	ReasonRefused      Reason = "refused"       // 4001, 4003, 4012, 4020: terminal
	ReasonClosed       Reason = "closed"        // any other close code
	ReasonReset        Reason = "reset"         // Client.Reset
	ReasonRenewal      Reason = "renewal"       // we ended it before its token did, see Renewals
)

// reconnectReasons are those after which a client tries again.
var reconnectReasons = []Reason{
	ReasonCredential, ReasonDial, ReasonNoWelcome, ReasonInactivity, ReasonNetwork, ReasonGoingAway, ReasonPolicy, ReasonTooBig,
	ReasonTokenExpired, ReasonOverLimit, ReasonOverRate, ReasonClosed, ReasonReset, ReasonRenewal,
}

// terminalCodes are the close codes after which it may not.
var terminalCodes = []CloseCode{
	CloseInvalidToken, CloseTokenExpired, CloseChannelNotAuthorized, CloseAccountSuspended, CloseAdminDisconnect,
}

// ending is how one connection, or an attempt at one, ended.
type ending struct {
	link       *link // nil if there was none
	err        error
	reason     Reason
	retryAfter time.Duration // as going_away advertised, else 0
	lived      time.Duration // since its welcome
	welcomed   bool
}

// code is the close code the connection ended with, 0 if none.
func (e ending) code() CloseCode {
	if ce, ok := errors.AsType[*CloseError](e.err); ok {
		return ce.Code
	}
	return 0
}

// closeReason maps a close code of the service to its reason.
func closeReason(code CloseCode) Reason {
	switch code {
	case CloseGoingAway:
		return ReasonGoingAway
	case ClosePolicyViolation:
		return ReasonPolicy
	case CloseMessageTooBig:
		return ReasonTooBig
	case CloseTokenExpired:
		return ReasonTokenExpired
	case CloseOverConcurrentLimit:
		return ReasonOverLimit
	case CloseOverMessageRate:
		return ReasonOverRate
	case CloseInvalidToken, CloseChannelNotAuthorized, CloseAccountSuspended, CloseAdminDisconnect:
		return ReasonRefused
	}
	return ReasonClosed
}

// backoff decides when, and whether, to connect again. It knows no clock.
type backoff struct {
	min, max time.Duration
	rand     func() float64 // uniform in [0,1)

	attempts int  // since a connection that had lived
	expired  bool // since then a 4002 was retried at once
}

func newBackoff(least, most time.Duration) backoff {
	return backoff{min: least, max: most, rand: rand.Float64}
}

// next returns the delay before the next attempt, or terminal when there must
// not be one on the same credential, which is renewable or not.
//
//	4001 4003 4012 4020   terminal
//	4002                  at once with a fresh token; terminal if there is no fresh one.
//	                      A second one in a row, from tokens that never worked, waits:
//	                      whoever mints the tokens has a clock or a lifetime that is wrong
//	4010                  at least 30 s
//	going_away            at least what it advertised
//	a connection that     at once, within 100 ms
//	had lived
//	everything else       min·2^(n-1) up to max, ± 20 %
func (b *backoff) next(end ending, renewable bool) (delay time.Duration, terminal bool) {
	alive := end.lived >= lived
	if alive {
		b.attempts, b.expired = 0, false
	}
	if end.reason == ReasonRefused || end.reason == ReasonTokenExpired && !renewable {
		return 0, true
	}
	switch {
	case end.reason == ReasonTokenExpired && !b.expired:
		b.expired = true
		return 0, false
	case alive:
		delay = time.Duration(b.rand() * float64(firstJitter))
	default:
		b.attempts++
		delay = b.max
		// The shift cannot overflow: beyond 2^20 every sensible max is reached.
		if d := b.min << min(b.attempts-1, 20); d < b.max {
			delay = d
		}
		delay += time.Duration(jitterRatio * (2*b.rand() - 1) * float64(delay))
	}
	floor := end.retryAfter
	if end.reason == ReasonOverLimit {
		floor = max(floor, overLimitBackoff)
	}
	// A floor is spread upwards only.
	floor += time.Duration(jitterRatio * b.rand() * float64(floor))
	return max(delay, floor), false
}
