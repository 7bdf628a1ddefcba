package devserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// The permissions a credential can carry. Without PermissionSend there is presence and no WebRTC.
const (
	PermissionPublish   = "publish"
	PermissionSubscribe = "subscribe"
	PermissionPresence  = "presence"
	PermissionSend      = "send"
)

var allPermissions = []string{PermissionPublish, PermissionSubscribe, PermissionPresence, PermissionSend}

// grant is what a credential entitles one connection to.
type grant struct {
	peer         string
	expires      time.Time        // zero: never
	channels     []*regexp.Regexp // nil: every channel
	permissions  []string
	metadata     json.RawMessage // for the connection's own welcome
	peerMetadata json.RawMessage // for everyone else
}

func (g *grant) may(permission string) bool { return slices.Contains(g.permissions, permission) }

func (g *grant) covers(channel string) bool {
	return g.channels == nil || slices.ContainsFunc(g.channels, func(p *regexp.Regexp) bool { return p.MatchString(channel) })
}

// refusal is why a connection is closed instead of welcomed.
type refusal struct {
	code   int
	reason string
}

var (
	invalidCredential = &refusal{CloseInvalidToken, "invalid token"}
	expiredToken      = &refusal{CloseTokenExpired, "token expired"}
)

// authorize turns the query of a connect into a grant. Reasons never repeat any part of the credential.
func (s *Server) authorize(query url.Values) (grant, *refusal) {
	switch key, token := query.Get("key"), query.Get("token"); {
	case (key == "") == (token == ""):
		return grant{}, invalidCredential
	case key != "":
		if id, ok := strings.CutPrefix(key, "pk_live_"); !ok || id == "" {
			return grant{}, invalidCredential
		}
		return grant{peer: uuid.NewString(), permissions: s.opts.KeyPermissions}, nil
	default:
		return s.authorizeToken(token)
	}
}

func (s *Server) authorizeToken(token string) (grant, *refusal) {
	var c claims
	_, err := jwt.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		kid, _ := t.Header["kid"].(string)
		secret, ok := s.opts.Secrets[kid]
		if !ok {
			return nil, errors.New("unknown kid")
		}
		return []byte(secret), nil
	}, jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithExpirationRequired())
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return grant{}, expiredToken
	case err != nil:
		s.log.Debug("token was refused", "err", err)
		return grant{}, invalidCredential
	}
	g := grant{
		peer: c.Subject, expires: c.ExpiresAt.Time, permissions: c.Permissions,
		metadata: c.Metadata, peerMetadata: c.PeerMetadata,
	}
	if g.permissions == nil {
		g.permissions = allPermissions
	}
	if c.Channels != nil {
		g.channels = []*regexp.Regexp{}
	}
	for _, pattern := range c.Channels {
		g.channels = append(g.channels, compilePattern(pattern))
	}
	return g, nil
}

// claims are those of a token. A missing channels or permissions claim means all that the secret key itself may do.
type claims struct {
	jwt.RegisteredClaims
	Channels     []string        `json:"channels"`
	Permissions  []string        `json:"permissions"`
	Metadata     json.RawMessage `json:"metadata"`
	PeerMetadata json.RawMessage `json:"peerMetadata"`
}

// Validate is called by the JWT parser after the signature and the time claims have been checked.
func (c *claims) Validate() error {
	if !validName(c.Subject, 128) || strings.ContainsFunc(c.Subject, func(r rune) bool { return r < ' ' || r > '~' }) {
		return errors.New("sub is not 1 to 128 printable ASCII characters")
	}
	if len(c.Channels) > 100 {
		return errors.New("more than 100 channels")
	}
	for _, channel := range c.Channels {
		if !validName(channel, 256) {
			return errors.New("invalid channel pattern")
		}
	}
	for _, p := range c.Permissions {
		if !slices.Contains(allPermissions, p) {
			return errors.New("unknown permission")
		}
	}
	return errors.Join(validBag("metadata", &c.Metadata, 8<<10), validBag("peerMetadata", &c.PeerMetadata, 4<<10))
}

// validBag wants a JSON object of at most limit bytes, or nothing; null is nothing.
func validBag(name string, bag *json.RawMessage, limit int) error {
	if string(*bag) == "null" {
		*bag = nil
	}
	if len(*bag) > limit {
		return fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	if *bag != nil && (*bag)[0] != '{' {
		return fmt.Errorf("%s is not an object", name)
	}
	return nil
}

// compilePattern reads a channel pattern: * stands for any run of characters within a path segment, ** for any run at all.
func compilePattern(pattern string) *regexp.Regexp {
	expr := regexp.QuoteMeta(pattern)
	expr = strings.ReplaceAll(expr, `\*\*`, `.*`)
	expr = strings.ReplaceAll(expr, `\*`, `[^/]*`)
	return regexp.MustCompile(`^` + expr + `$`)
}
