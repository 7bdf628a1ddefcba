package signaling

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"
)

var (
	// ErrNotConnected: the request never left, because there is no connection
	// or it ended first. Safe to repeat.
	ErrNotConnected = errors.New("not connected")
	// ErrDisconnected: the request left and the connection ended before its ack.
	// The service may have processed it.
	ErrDisconnected = errors.New("disconnected before the ack")
	// ErrQueueFull: the request never left, because too many are waiting for
	// their turn under the service's message rate.
	ErrQueueFull = errors.New("too many requests are waiting to be sent")
)

// ErrorCode is the code of an error frame. Unknown ones are passed on.
type ErrorCode string

// The codes the service documents.
const (
	CodeMalformedMessage     ErrorCode = "malformed_message"
	CodeUnknownType          ErrorCode = "unknown_type"
	CodeInvalidChannel       ErrorCode = "invalid_channel"
	CodeInvalidPeerID        ErrorCode = "invalid_peer_id"
	CodeChannelNotAuthorized ErrorCode = "channel_not_authorized"
	CodeChannelReserved      ErrorCode = "channel_reserved"
	CodeChannelLimitExceeded ErrorCode = "channel_limit_exceeded"
	CodePeerNotFound         ErrorCode = "peer_not_found"
	CodeMissingData          ErrorCode = "missing_data"
	CodeActionNotPermitted   ErrorCode = "action_not_permitted"
	CodeOverMessageQuota     ErrorCode = "over_message_quota"
	CodeBackendError         ErrorCode = "backend_error"
	CodeInternalError        ErrorCode = "internal_error"

	// These come unasked only.
	CodeAccountSuspended ErrorCode = "account_suspended"
	CodeInvalidToken     ErrorCode = "invalid_token"
	CodeTokenExpired     ErrorCode = "token_expired"
)

// Retriable reports whether the same request may succeed shortly: the fault was
// the service's own. (over_message_quota only heals with the billing period.)
func (c ErrorCode) Retriable() bool { return c == CodeBackendError || c == CodeInternalError }

// errorCodes are all of them.
var errorCodes = []ErrorCode{
	CodeMalformedMessage, CodeUnknownType, CodeInvalidChannel, CodeInvalidPeerID, CodeChannelNotAuthorized,
	CodeChannelReserved, CodeChannelLimitExceeded, CodePeerNotFound, CodeMissingData, CodeActionNotPermitted,
	CodeOverMessageQuota, CodeBackendError, CodeInternalError, CodeAccountSuspended, CodeInvalidToken, CodeTokenExpired,
}

// known bounds the codes that become metric labels.
func (c ErrorCode) known() bool { return slices.Contains(errorCodes, c) }

// quoted returns the code fit for a log line: unknown ones are the service's words.
func (c ErrorCode) quoted() string {
	if c.known() {
		return string(c)
	}
	return fmt.Sprintf("%.64q", string(c))
}

// Untrusted is text in the service's words, which may quote what it was sent, the
// credential included. It prints as its length; string(u) is the text.
type Untrusted string

func (u Untrusted) String() string               { return fmt.Sprintf("(%d bytes)", len(u)) }
func (u Untrusted) GoString() string             { return u.String() }
func (u Untrusted) LogValue() slog.Value         { return slog.StringValue(u.String()) }
func (u Untrusted) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// ServerError is an error frame. As an [Event] it is one that no request was
// waiting for.
type ServerError struct {
	Code      ErrorCode
	RequestID string // empty when the service speaks of the session
	Message   Untrusted
}

func (e *ServerError) Error() string { return "server error " + e.Code.quoted() }

// LogValue is the code.
func (e *ServerError) LogValue() slog.Value { return slog.StringValue(e.Code.quoted()) }

// Fatal reports whether the session cannot go on: the service said by itself
// that the account, the credential or a permission is gone.
func (e *ServerError) Fatal() bool {
	if e.RequestID != "" {
		return false
	}
	switch e.Code {
	case CodeAccountSuspended, CodeChannelNotAuthorized, CodeActionNotPermitted, CodeInvalidToken, CodeTokenExpired:
		return true
	}
	return false
}

// RequestError is the service's refusal of one request.
type RequestError struct {
	Op      string // subscribe, unsubscribe, publish or send
	Target  string // the channel, or the peer id of a send
	Code    ErrorCode
	Message Untrusted
}

func (e *RequestError) Error() string {
	return fmt.Sprintf("%s %.80q: %s", e.Op, e.Target, e.Code.quoted())
}

// AckTimeoutError is a request that left and got no answer in time. The service
// may have processed it.
type AckTimeoutError struct {
	Op, Target string
	After      time.Duration
}

func (e *AckTimeoutError) Error() string {
	return fmt.Sprintf("%s %.80q: no ack within %v", e.Op, e.Target, e.After)
}

// OversizedError refuses a payload the service would close the connection for.
type OversizedError struct {
	Size, Cap int // bytes of JSON; Cap is the service's maxMessageSize
}

func (e *OversizedError) Error() string {
	return fmt.Sprintf("payload of %d bytes is over the limit of %d", e.Size, e.Cap)
}

// CredentialError is a failure to obtain a credential.
type CredentialError struct {
	Consecutive int // failures in a row, this one included
	Err         error
}

func (e *CredentialError) Error() string {
	return fmt.Sprintf("obtain credential (failure %d in a row): %v", e.Consecutive, e.Err)
}

func (e *CredentialError) Unwrap() error { return e.Err }

// CloseCode is the status code of a WebSocket close.
type CloseCode int

// The close codes the service uses, and 4000, which is ours.
const (
	CloseNormal               CloseCode = 1000
	CloseGoingAway            CloseCode = 1001
	ClosePolicyViolation      CloseCode = 1008
	CloseMessageTooBig        CloseCode = 1009
	CloseInactivity           CloseCode = 4000 // ours: no welcome, or silence
	CloseInvalidToken         CloseCode = 4001
	CloseTokenExpired         CloseCode = 4002
	CloseChannelNotAuthorized CloseCode = 4003
	CloseOverConcurrentLimit  CloseCode = 4010
	CloseOverMessageRate      CloseCode = 4011
	CloseAccountSuspended     CloseCode = 4012
	CloseAdminDisconnect      CloseCode = 4020
)

func (c CloseCode) String() string {
	name := map[CloseCode]string{
		CloseNormal: "normal", CloseGoingAway: "going away", ClosePolicyViolation: "policy violation",
		CloseMessageTooBig: "message too big", CloseInactivity: "inactivity", CloseInvalidToken: "invalid token",
		CloseTokenExpired: "token expired", CloseChannelNotAuthorized: "channel not authorized",
		CloseOverConcurrentLimit: "over concurrent limit", CloseOverMessageRate: "over message rate",
		CloseAccountSuspended: "account suspended", CloseAdminDisconnect: "admin disconnect",
	}[c]
	if name == "" {
		return fmt.Sprintf("%d", int(c))
	}
	return fmt.Sprintf("%d (%s)", int(c), name)
}

// CloseError is a connection that ended with a close code, the service's or
// ours.
type CloseError struct {
	Code   CloseCode
	Reason Untrusted
	Local  bool // we closed it
}

func (e *CloseError) Error() string {
	if e.Local {
		return "closed by us: " + e.Code.String()
	}
	return "closed by the service: " + e.Code.String()
}

// withoutURL drops the layer of err that quotes a URL, and with it the
// credential in its query.
func withoutURL(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		return ue.Err
	}
	return err
}

// redact returns err free of every secret, in clear and as it stands in a URL.
// It keeps err's chain unless a secret is still in its text.
func redact(err error, secrets ...string) error {
	err = withoutURL(err)
	text := err.Error()
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "REDACTED")
			text = strings.ReplaceAll(text, url.QueryEscape(s), "REDACTED")
		}
	}
	if text == err.Error() {
		return err
	}
	return errors.New(text)
}
