package devserver

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The frames the server sends, as an [Server.Intercept] hook sees them: always a pointer to one of these types, one copy per
// receiving socket, so that a hook may change what it is given. MarshalJSON adds the type field.
type (
	// Welcome is the first frame on every connection that was let in.
	Welcome struct {
		PeerID         string          `json:"peerId"`
		ExpiresAt      *int64          `json:"expiresAt"`  // unix seconds; nil for publishable keys
		ServerTime     int64           `json:"serverTime"` // unix seconds
		MaxMessageSize int             `json:"maxMessageSize"`
		Metadata       json.RawMessage `json:"metadata,omitempty"`
	}

	// Ack answers a request that carried a requestId and succeeded.
	Ack struct {
		RequestID string `json:"requestId"`
	}

	// Error answers a request that failed, by requestId where it had one.
	Error struct {
		Code      string `json:"code"`
		RequestID string `json:"requestId,omitempty"`
		Message   string `json:"message,omitempty"`
	}

	// Message is what a member published to a channel.
	Message struct {
		Channel      string          `json:"channel"`
		From         string          `json:"from"`
		Data         json.RawMessage `json:"data"`
		FromMetadata json.RawMessage `json:"fromMetadata,omitempty"` // only for subscribers that asked for it
	}

	// Direct is what one peer sent to another, WebRTC signals among it.
	Direct struct {
		From         string          `json:"from"`
		Data         json.RawMessage `json:"data"`
		FromMetadata json.RawMessage `json:"fromMetadata,omitempty"` // the sender's peerMetadata claim
	}

	// Presence is the member snapshot after a subscribe, and a delta ever after.
	Presence struct {
		Channel string   `json:"channel"`
		Joined  []Member `json:"joined"`
		Left    []Member `json:"left"`
	}

	// Member is one entry of a Presence; Metadata is the peerMetadata claim, absent from Left.
	Member struct {
		PeerID   string          `json:"peerId"`
		Metadata json.RawMessage `json:"metadata,omitempty"`
	}

	// GoingAway announces a close with code 1001.
	GoingAway struct {
		RetryAfterMs int64 `json:"retryAfterMs"`
	}

	// Pong answers a ping.
	Pong struct{}
)

func (f Welcome) MarshalJSON() ([]byte, error) {
	type plain Welcome
	return tagged("welcome", plain(f))
}
func (f Ack) MarshalJSON() ([]byte, error)   { type plain Ack; return tagged("ack", plain(f)) }
func (f Error) MarshalJSON() ([]byte, error) { type plain Error; return tagged("error", plain(f)) }
func (f Message) MarshalJSON() ([]byte, error) {
	type plain Message
	return tagged("message", plain(f))
}
func (f Direct) MarshalJSON() ([]byte, error) { type plain Direct; return tagged("direct", plain(f)) }
func (f GoingAway) MarshalJSON() ([]byte, error) {
	type plain GoingAway
	return tagged("going_away", plain(f))
}
func (f Pong) MarshalJSON() ([]byte, error) { return []byte(`{"type":"pong"}`), nil }

func (f Presence) MarshalJSON() ([]byte, error) {
	type plain Presence
	if f.Joined == nil { // clients require both lists
		f.Joined = []Member{}
	}
	if f.Left == nil {
		f.Left = []Member{}
	}
	return tagged("presence", plain(f))
}

// tagged encodes a non-empty object with its type field in front.
func tagged(kind string, body any) ([]byte, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, `{"type":%q,%s`, kind, b[1:]), nil
}

// The error codes of the protocol.
const (
	CodeMalformedMessage     = "malformed_message"
	CodeUnknownType          = "unknown_type"
	CodeInvalidChannel       = "invalid_channel"
	CodeInvalidPeerID        = "invalid_peer_id"
	CodeChannelNotAuthorized = "channel_not_authorized"
	CodeChannelReserved      = "channel_reserved"
	CodeChannelLimitExceeded = "channel_limit_exceeded"
	CodePeerNotFound         = "peer_not_found"
	CodeMissingData          = "missing_data"
	CodeActionNotPermitted   = "action_not_permitted"
	CodeOverMessageQuota     = "over_message_quota"
)

// The close codes of the protocol, for [Drop] and [Server.Refuse].
const (
	CloseGoingAway            = 1001
	ClosePolicy               = 1008
	CloseTooBig               = 1009
	CloseInvalidToken         = 4001
	CloseTokenExpired         = 4002
	CloseChannelNotAuthorized = 4003
	CloseOverConcurrentLimit  = 4010
	CloseOverMessageRate      = 4011
	CloseAccountSuspended     = 4012
	CloseAdminDisconnect      = 4020
)

// request is any frame a client sends.
type request struct {
	Type                  string          `json:"type"`
	RequestID             *string         `json:"requestId"`
	Channel               string          `json:"channel"`
	To                    string          `json:"to"`
	Data                  json.RawMessage `json:"data"`
	IncludeSenderMetadata bool            `json:"includeSenderMetadata"`
}

// parseRequest reports false for anything but a JSON object with a type and, if any, a requestId of 1 to 128 characters.
func parseRequest(b []byte) (request, bool) {
	var r request
	if err := json.Unmarshal(b, &r); err != nil || r.Type == "" {
		return request{}, false
	}
	if r.RequestID != nil && !validName(*r.RequestID, 128) {
		return request{}, false
	}
	return r, true
}

// validName is the rule for channels, peer ids and request ids: 1 to limit characters, none of them a control character.
func validName(s string, limit int) bool {
	return s != "" && utf8.RuneCountInString(s) <= limit && !strings.ContainsFunc(s, unicode.IsControl)
}

// reserved reports whether a channel belongs to the service itself.
func reserved(channel string) bool {
	channel = strings.ToLower(channel)
	for _, prefix := range []string{"_metered/", "_internal/", "_system/"} {
		if strings.HasPrefix(channel, prefix) {
			return true
		}
	}
	return false
}
