package signaling

import (
	"fmt"
	"net/url"
	"strings"
)

// DefaultURL is the base address of the hosted service.
const DefaultURL = "wss://rms.metered.ca"

// Lengths are in UTF-16 code units, as the service counts them.
const (
	maxChannelLen = 256
	maxPeerIDLen  = 128
)

// NameError refuses a channel name or peer id before it leaves.
type NameError struct {
	Kind   string // "channel" or "peer id"
	Name   string
	Reason string
}

func (e *NameError) Error() string {
	return fmt.Sprintf("%s %.80q: %s", e.Kind, e.Name, e.Reason)
}

// ValidateChannel reports whether the service would take name as a channel: 1 to
// 256 characters, no control characters, none of the reserved prefixes
// _metered/, _internal/ and _system/ in any case. The error is a [*NameError].
func ValidateChannel(name string) error {
	if reason := checkName(name, maxChannelLen); reason != "" {
		return &NameError{Kind: "channel", Name: name, Reason: reason}
	}
	lower := strings.ToLower(name)
	for _, prefix := range []string{"_metered/", "_internal/", "_system/"} {
		if strings.HasPrefix(lower, prefix) {
			return &NameError{Kind: "channel", Name: name, Reason: "the prefix " + prefix + " is reserved"}
		}
	}
	return nil
}

// ValidatePeerID reports whether id can be a peer id: 1 to 128 characters, no
// control characters. The error is a [*NameError].
func ValidatePeerID(id string) error {
	if reason := checkName(id, maxPeerIDLen); reason != "" {
		return &NameError{Kind: "peer id", Name: id, Reason: reason}
	}
	return nil
}

// checkName says what is wrong with name, or nothing.
func checkName(name string, limit int) string {
	if name == "" {
		return "is empty"
	}
	units := 0
	for _, r := range name {
		if r <= 0x1f || r >= 0x7f && r <= 0x9f {
			return "has a control character"
		}
		if units++; r > 0xffff {
			units++
		}
	}
	if units > limit {
		return fmt.Sprintf("has more than %d characters", limit)
	}
	return ""
}

// ValidateURL reports whether base can be the service's address: scheme wss, or
// ws for this very machine (the credential travels in the URL), a host, and
// neither user, path, query nor fragment. The error never quotes more of base
// than its scheme and host: people put keys into addresses.
func ValidateURL(base string) error {
	_, err := endpoint(base)
	return err
}

// endpoint returns the address connections are made to, without the credential.
func endpoint(base string) (string, error) {
	u, err := url.Parse(base)
	if err != nil {
		return "", fmt.Errorf("signalling url: cannot be read; want something like %s or wss://host:port", DefaultURL) // err quotes parts
	}
	switch {
	case u.Hostname() == "":
		return "", fmt.Errorf("signalling url: no host; want something like %s", DefaultURL)
	case u.Scheme == "ws" && !loopback(u.Hostname()):
		return "", fmt.Errorf("signalling url: ws to %s would send the credential in clear text; want wss", u.Host)
	case u.Scheme != "wss" && u.Scheme != "ws":
		return "", fmt.Errorf("signalling url: scheme %.16q; want wss", u.Scheme)
	case u.User != nil:
		return "", fmt.Errorf("signalling url: %s://%s has a user or password; the credential is configured on its own", u.Scheme, u.Host)
	case u.Path != "" && u.Path != "/":
		return "", fmt.Errorf("signalling url: %s://%s has a path; /v1 is appended by itself", u.Scheme, u.Host)
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(base, "#"):
		return "", fmt.Errorf("signalling url: %s://%s has a query or a fragment", u.Scheme, u.Host)
	}
	return u.Scheme + "://" + u.Host + "/v1", nil
}

// OnLoopback reports whether the service is on this very machine.
func OnLoopback(base string) bool {
	u, err := url.Parse(base)
	return err == nil && loopback(u.Hostname())
}

func loopback(host string) bool {
	return strings.EqualFold(host, "localhost") || host == "127.0.0.1" || host == "::1"
}
