package signaling

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// The query parameters a credential travels in.
const (
	paramKey   = "key"
	paramToken = "token"
)

// maxTokenLen bounds a token from elsewhere; a JWT with all its claims at their
// limits stays well below.
const maxTokenLen = 32 << 10

// A Credential authorises a connection. It is asked again on every connect, the
// first and each later one, and prints without its secret. Implementations are
// safe for concurrent use: many clients may share one.
type Credential interface {
	// Authorize returns the query parameter and its value: ("key", "pk_live_…")
	// or ("token", a JWT). It gives up when ctx ends. Its errors hold no secret.
	Authorize(ctx context.Context) (param, value string, err error)
	// Renewable reports whether asking again, now, can give another value. If
	// not, a close 4002 (token expired) is final.
	Renewable() bool
	// String describes the credential without its secret.
	String() string
}

// secret keeps a string out of fmt's sight: what stands in an unexported field is
// printed raw, whatever its methods, but of a func only the address is.
type secret func() string

func conceal(s string) secret { return func() string { return s } }

// fixed is a credential that never changes.
type fixed struct {
	param string
	value secret
	name  string
}

func (c *fixed) Authorize(context.Context) (param, value string, err error) {
	return c.param, c.value(), nil
}
func (c *fixed) Renewable() bool      { return false }
func (c *fixed) String() string       { return c.name }
func (c *fixed) GoString() string     { return c.name }
func (c *fixed) LogValue() slog.Value { return slog.StringValue(c.name) }

// PublishableKey is a pk_… key. The service gives each connection made with it a
// fresh random peer id and no peer metadata.
func PublishableKey(key string) (Credential, error) {
	if !strings.HasPrefix(key, "pk_") || !printable(key) {
		return nil, errors.New("publishable key: want pk_live_ followed by printable ASCII")
	}
	return &fixed{param: paramKey, value: conceal(key), name: "publishable key"}, nil
}

// StaticToken is one JWT, used until it expires; it cannot be renewed.
func StaticToken(jwt string) Credential {
	return &fixed{param: paramToken, value: conceal(jwt), name: "static token"}
}

// checkToken bounds what a token provider answered, without quoting it.
func checkToken(token string) error {
	switch {
	case token == "":
		return errors.New("the token is empty")
	case len(token) > maxTokenLen:
		return fmt.Errorf("the token is over %d bytes", maxTokenLen)
	case !printable(token):
		return errors.New("the token is not printable ASCII")
	}
	return nil
}

// printable reports whether s is ASCII without blanks and control characters.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}
