package signaling

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// DefaultTokenTTL is how long a self-minted token lives. The service closes the
// connection with 4002 just before it ends; see Renewals.
const DefaultTokenTTL = 24 * time.Hour

const (
	maxTokenChannels     = 100
	maxTokenMetadata     = 8 << 10
	maxTokenPeerMetadata = 4 << 10
)

// Permissions a token can carry.
const (
	PermissionPublish   = "publish"
	PermissionSubscribe = "subscribe"
	PermissionPresence  = "presence"
	PermissionSend      = "send" // without it there is no WebRTC
)

// SecretKeyOptions describe the tokens a secret key mints.
type SecretKeyOptions struct {
	ID     string // sk_id_…
	Secret string // sk_secret_…

	PeerID       string         // our peer id, stable over reconnects; printable ASCII, at most 128 bytes
	Channels     []string       // names or patterns, 1 to 100
	Permissions  []string       // default subscribe, presence, send
	PeerMetadata map[string]any // what others see of us, at most 4 KB of JSON
	Metadata     map[string]any // comes back in welcome.metadata, at most 8 KB of JSON
	TTL          time.Duration  // default DefaultTokenTTL
}

type secretKey struct {
	id     string
	secret secret
	claims jwt.MapClaims // without times; never changed
	ttl    time.Duration
}

// NewSecretKey returns a credential that mints a fresh HS256 token for every
// connection. All faults of the options are reported at once.
func NewSecretKey(o SecretKeyOptions) (Credential, error) {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf("secret key: "+format, args...))
		}
	}
	fault(o.ID == "" || !printable(o.ID), "id is not printable ASCII")
	fault(o.Secret == "" || !printable(o.Secret), "secret is not printable ASCII")
	fault(o.PeerID == "" || len(o.PeerID) > maxPeerIDLen || !printable(o.PeerID),
		"peer id %.80q is not 1 to %d characters of printable ASCII", o.PeerID, maxPeerIDLen)
	fault(len(o.Channels) == 0 || len(o.Channels) > maxTokenChannels,
		"%d channels; want 1 to %d", len(o.Channels), maxTokenChannels)
	for _, name := range o.Channels {
		if err := ValidateChannel(name); err != nil {
			fault(true, "%w", err)
		}
	}
	if o.Permissions == nil {
		o.Permissions = []string{PermissionSubscribe, PermissionPresence, PermissionSend}
	}
	for _, p := range o.Permissions {
		known := p == PermissionPublish || p == PermissionSubscribe || p == PermissionPresence || p == PermissionSend
		fault(!known, "unknown permission %.80q", p)
	}
	if o.TTL == 0 {
		o.TTL = DefaultTokenTTL
	}
	fault(o.TTL < 2*time.Second, "tokens of %v expire before they are used", o.TTL)

	claims := jwt.MapClaims{
		"sub":         o.PeerID,
		"channels":    slices.Clone(o.Channels),
		"permissions": slices.Clone(o.Permissions),
	}
	object := func(claim string, value map[string]any, limit int) {
		if value == nil {
			return
		}
		b, err := encode(value) // once: the caller may change its map later
		if err != nil {
			fault(true, "%s: %w", claim, err)
			return
		}
		fault(len(b) > limit, "%s is %d bytes of JSON; at most %d are allowed", claim, len(b), limit)
		claims[claim] = json.RawMessage(b)
	}
	object("peerMetadata", o.PeerMetadata, maxTokenPeerMetadata)
	object("metadata", o.Metadata, maxTokenMetadata)
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return &secretKey{id: o.ID, secret: conceal(o.Secret), claims: claims, ttl: o.TTL}, nil
}

func (k *secretKey) Authorize(context.Context) (param, value string, err error) {
	now := time.Now()
	claims := jwt.MapClaims{"iat": now.Unix(), "exp": now.Add(k.ttl).Unix()}
	for name, v := range k.claims {
		claims[name] = v
	}
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, claims)
	token.Header["kid"] = k.id
	signed, err := token.SignedString([]byte(k.secret()))
	if err != nil {
		return "", "", errors.New("sign token: the claims cannot be written as JSON")
	}
	return paramToken, signed, nil
}

func (k *secretKey) Renewable() bool      { return true }
func (k *secretKey) String() string       { return "secret key " + k.id }
func (k *secretKey) GoString() string     { return k.String() }
func (k *secretKey) LogValue() slog.Value { return slog.StringValue(k.String()) }
