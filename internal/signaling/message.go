// Package signaling is the wire of Metered Realtime Messaging: its frames, its
// credentials, and a [Client] that keeps one WebSocket connection to it alive.
//
// # The protocol in one place
//
// Every frame is one JSON object in one text message; its type field says
// which. A connection goes like this (▶ leaves us, ◀ comes in):
//
//	▶ GET <base>/v1?key=pk_live_… or ?token=<JWT>           WebSocket handshake
//	◀ welcome     peerId, expiresAt|null, serverTime, maxMessageSize, metadata?
//	▶ subscribe   channel, requestId, includeSenderMetadata?
//	◀ ack         requestId
//	◀ presence    channel, joined:[everyone], left:[]        the snapshot
//	◀ presence    channel, joined:[…], left:[…]              deltas from then on
//	▶ send        to, data, requestId                        ◀ ack
//	◀ direct      from, data, fromMetadata?                  someone's send to us
//	▶ publish     channel, data, requestId                   ◀ ack
//	◀ message     channel, from, data, fromMetadata?         someone's publish
//	◀ error       code, requestId?, message?                 instead of an ack, or unasked
//	▶ ping        after 20 s without a frame                 ◀ pong
//	▶ unsubscribe channel, requestId                         ◀ ack
//	◀ going_away  retryAfterMs                               then a close 1001
//
// What ends a connection is a close code (see [CloseCode]) or a broken
// transport; the Client then connects again, by the rules in backoff.go, and
// subscribes again to what it was subscribed to. Requests that were waiting for
// their ack fail with [ErrDisconnected].
//
// A frame that is not as described is malformed: counted, logged without its
// content, dropped. It never ends the connection.
package signaling

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"time"
	"unicode/utf8"
)

// DefaultMaxMessageSize is the payload limit, in bytes of JSON, of a service
// that advertises none.
const DefaultMaxMessageSize = 65536

// maxRetryAfter bounds what a going_away frame can ask for: a service cannot
// silence a daemon for longer with one frame.
const maxRetryAfter = 10 * time.Minute

// A Frame is what the service sends: [Welcome], [Ack], [*ServerError],
// [Message], [Direct], [Presence], [GoingAway] or [Pong].
type Frame interface{ isFrame() }

// Welcome is the first frame of every connection.
type Welcome struct {
	PeerID         string          // ours: the token's sub, or fresh on each connection with a publishable key
	ExpiresAt      time.Time       // when the token expires; zero for never
	ServerTime     time.Time       // the service's clock
	MaxMessageSize int             // largest payload in bytes of JSON
	Metadata       json.RawMessage // the token's private metadata, an object; nil when absent
}

// Ack confirms the request of that id.
type Ack struct{ RequestID string }

// Message is someone's publish to a channel we subscribed to.
type Message struct {
	Channel, From string
	Data          json.RawMessage // any JSON value
	FromMetadata  json.RawMessage // an object; nil when absent
}

// Direct is someone's send to us.
type Direct struct {
	From         string
	Data         json.RawMessage // any JSON value
	FromMetadata json.RawMessage // an object; nil when absent
}

// Member is one peer of a channel.
type Member struct {
	PeerID   string
	Metadata json.RawMessage // the member's peerMetadata, an object; nil when absent
}

// Presence tells who is in a channel. It may name ourselves.
type Presence struct {
	Channel string
	Joined  []Member
	Left    []string // peer ids; to be handled before Joined: a peer in both has restarted

	// Snapshot is set by the [Client], not by [Parse]: Joined is everyone in the
	// channel, because this is the first presence after a subscribe was acked on this
	// connection. A presence that also names departed peers is never one.
	Snapshot bool
}

// GoingAway announces that the service is about to close the connection.
type GoingAway struct {
	RetryAfter time.Duration // how long to stay away; 1 s when the service did not say, at most 10 min
}

// Pong answers our ping.
type Pong struct{}

func (Welcome) isFrame()      {}
func (Ack) isFrame()          {}
func (*ServerError) isFrame() {}
func (Message) isFrame()      {}
func (Direct) isFrame()       {}
func (Presence) isFrame()     {}
func (GoingAway) isFrame()    {}
func (Pong) isFrame()         {}

// LogValue leaves out the metadata, which carries ICE credentials.
func (w Welcome) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("peer_id", w.PeerID), slog.Int("max_message_size", w.MaxMessageSize)}
	if !w.ExpiresAt.IsZero() {
		attrs = append(attrs, slog.Time("expires_at", w.ExpiresAt))
	}
	return slog.GroupValue(attrs...)
}

// ClientFrame is what a client sends: subscribe, unsubscribe, publish, send or
// ping, with the fields that type has.
type ClientFrame struct {
	Type                  string          `json:"type"`
	Channel               string          `json:"channel,omitempty"`
	To                    string          `json:"to,omitempty"`
	Data                  json.RawMessage `json:"data,omitempty"`
	RequestID             string          `json:"requestId,omitempty"`
	IncludeSenderMetadata bool            `json:"includeSenderMetadata,omitempty"`
}

// encode returns v as JSON the way a browser writes it: without HTML escapes,
// which would only make descriptions longer.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// MalformedError is the error of [Parse]. Its text holds nothing of the frame.
type MalformedError struct{ Reason string }

func (e *MalformedError) Error() string { return "malformed frame: " + e.Reason }

func malformed(format string, args ...any) error {
	return &MalformedError{Reason: fmt.Sprintf(format, args...)}
}

// Parse reads one server frame. What it returns is bounded: names are within
// the limits of [ValidateChannel] and [ValidatePeerID], metadata is an object or
// nil. Members with a name outside the limits are left out of a presence;
// anything else out of shape is a [*MalformedError].
func Parse(b []byte) (Frame, error) {
	if !utf8.Valid(b) {
		return nil, malformed("not UTF-8")
	}
	// A map, because struct fields would match keys of any case.
	var env envelope
	if err := json.Unmarshal(b, &env); err != nil || env == nil {
		return nil, malformed("not a JSON object")
	}
	kind, ok := env.text("type")
	if !ok {
		return nil, malformed("type is not a string")
	}
	switch kind {
	case "welcome":
		return env.welcome()
	case "ack":
		id, ok := env.text("requestId")
		if !ok {
			return nil, malformed("ack.requestId is not a string")
		}
		return Ack{RequestID: id}, nil
	case "error":
		return env.serverError()
	case "message":
		m := Message{Data: env["data"], FromMetadata: env.object("fromMetadata")}
		if m.Channel, ok = env.text("channel"); !ok || checkName(m.Channel, maxChannelLen) != "" {
			return nil, malformed("message.channel is no channel name")
		}
		if m.From, ok = env.text("from"); !ok || checkName(m.From, maxPeerIDLen) != "" {
			return nil, malformed("message.from is no peer id")
		}
		if m.Data == nil {
			return nil, malformed("message.data is missing")
		}
		return m, nil
	case "direct":
		d := Direct{Data: env["data"], FromMetadata: env.object("fromMetadata")}
		if d.From, ok = env.text("from"); !ok || checkName(d.From, maxPeerIDLen) != "" {
			return nil, malformed("direct.from is no peer id")
		}
		if d.Data == nil {
			return nil, malformed("direct.data is missing")
		}
		return d, nil
	case "presence":
		return env.presence()
	case "going_away":
		ms, ok := env.number("retryAfterMs")
		if !ok || ms <= 0 {
			return GoingAway{RetryAfter: time.Second}, nil
		}
		ms = min(ms, float64(maxRetryAfter/time.Millisecond))
		return GoingAway{RetryAfter: time.Duration(ms * float64(time.Millisecond))}, nil
	case "pong":
		return Pong{}, nil
	}
	return nil, malformed("unknown type")
}

// envelope is a frame whose fields are still to be checked.
type envelope map[string]json.RawMessage

func (e envelope) text(key string) (string, bool) {
	var s *string
	if json.Unmarshal(e[key], &s) != nil || s == nil {
		return "", false
	}
	return *s, true
}

func (e envelope) number(key string) (float64, bool) {
	var n *float64
	if json.Unmarshal(e[key], &n) != nil || n == nil {
		return 0, false
	}
	return *n, true
}

// object returns the field when it is a JSON object, else nil.
func (e envelope) object(key string) json.RawMessage {
	if v := bytes.TrimSpace(e[key]); len(v) > 0 && v[0] == '{' {
		return v
	}
	return nil
}

func (e envelope) welcome() (Frame, error) {
	w := Welcome{Metadata: e.object("metadata")}
	var ok bool
	if w.PeerID, ok = e.text("peerId"); !ok || checkName(w.PeerID, maxPeerIDLen) != "" {
		return nil, malformed("welcome.peerId is no peer id")
	}
	if expires, ok := e.number("expiresAt"); ok {
		w.ExpiresAt = unixTime(expires)
	} else if string(bytes.TrimSpace(e["expiresAt"])) != "null" {
		return nil, malformed("welcome.expiresAt is neither a number nor null")
	}
	now, ok := e.number("serverTime")
	if !ok {
		return nil, malformed("welcome.serverTime is not a number")
	}
	w.ServerTime = unixTime(now)
	size, ok := e.number("maxMessageSize")
	if !ok {
		return nil, malformed("welcome.maxMessageSize is not a number")
	}
	if w.MaxMessageSize = DefaultMaxMessageSize; size >= 1 {
		w.MaxMessageSize = int(min(size, math.MaxInt32))
	}
	return w, nil
}

// unixTime clamps to the years a time can be written in.
func unixTime(seconds float64) time.Time {
	const year9999 = 253402300799
	whole, frac := math.Modf(max(0, min(seconds, year9999)))
	return time.Unix(int64(whole), int64(frac*1e9)).UTC()
}

func (e envelope) serverError() (Frame, error) {
	code, ok := e.text("code")
	if !ok || code == "" {
		return nil, malformed("error.code is not a string")
	}
	se := &ServerError{Code: ErrorCode(code)}
	se.RequestID, _ = e.text("requestId")
	message, _ := e.text("message")
	se.Message = Untrusted(message)
	return se, nil
}

func (e envelope) presence() (Frame, error) {
	p := Presence{}
	var ok bool
	if p.Channel, ok = e.text("channel"); !ok || checkName(p.Channel, maxChannelLen) != "" {
		return nil, malformed("presence.channel is no channel name")
	}
	joined, ok := e.members("joined")
	if !ok {
		return nil, malformed("presence.joined is not a list of peers")
	}
	left, ok := e.members("left")
	if !ok {
		return nil, malformed("presence.left is not a list of peers")
	}
	p.Joined = joined
	for _, m := range left {
		p.Left = append(p.Left, m.PeerID)
	}
	return p, nil
}

func (e envelope) members(key string) ([]Member, bool) {
	var list []envelope
	if json.Unmarshal(e[key], &list) != nil || list == nil {
		return nil, false
	}
	members := make([]Member, 0, len(list))
	for _, entry := range list {
		id, ok := entry.text("peerId")
		if !ok {
			return nil, false
		}
		if checkName(id, maxPeerIDLen) == "" {
			members = append(members, Member{PeerID: id, Metadata: entry.object("metadata")})
		}
	}
	return members, true
}
