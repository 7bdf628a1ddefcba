package signaling

import (
	"errors"
	"strings"
	"testing"
)

func TestChannelNamesAreLimited(t *testing.T) {
	for name, ok := range map[string]bool{
		"room-42": true, "ünï ✓": true, "../../etc/x": true, "_meteredx": true, "x_metered/": true,
		strings.Repeat("x", 256): true, strings.Repeat("x", 257): false,
		strings.Repeat("😀", 128): true, strings.Repeat("😀", 129): false, // two UTF-16 units each
		"": false, "a\x00": false, "a\x1fb": false, "\x7f": false, "a\u0080": false, "a\u009f": false, "a\u00a0": true,
		"_metered/x": false, "_internal/": false, "_SYSTEM/y": false, "_Metered/x": false,
	} {
		err := ValidateChannel(name)
		if _, isName := errors.AsType[*NameError](err); (err == nil) != ok || err != nil && !isName {
			t.Errorf("%.20q…: %v", name, err)
		}
	}
}

func TestPeerIDsAreLimited(t *testing.T) {
	for id, ok := range map[string]bool{
		"bob": true, strings.Repeat("x", 128): true, strings.Repeat("x", 129): false, "": false, "a\n": false, "_system/x": true,
	} {
		if err := ValidatePeerID(id); (err == nil) != ok {
			t.Errorf("%.20q…: %v", id, err)
		}
	}
}

func TestAServiceOnThisMachineIsKnown(t *testing.T) {
	for base, want := range map[string]bool{
		"ws://localhost:9292": true, "ws://127.0.0.1:9292": true, "ws://[::1]:9292": true, "wss://LOCALHOST": true,
		"wss://rms.metered.ca": false, "wss://localhost.evil.com": false, "wss://10.0.0.1": false, "": false,
	} {
		if OnLoopback(base) != want {
			t.Errorf("%q is on this machine: %t", base, !want)
		}
	}
}

func TestOnlyTheBaseOfASecureAddressIsTaken(t *testing.T) {
	for base, want := range map[string]string{
		"wss://rms.metered.ca":      "wss://rms.metered.ca/v1",
		"wss://rms.metered.ca/":     "wss://rms.metered.ca/v1",
		"wss://example.com:8443":    "wss://example.com:8443/v1",
		"WSS://example.com":         "wss://example.com/v1",
		"ws://localhost:9292":       "ws://localhost:9292/v1",
		"ws://127.0.0.1:9292":       "ws://127.0.0.1:9292/v1",
		"ws://[::1]:9292":           "ws://[::1]:9292/v1",
		"ws://example.com":          "",
		"ws://127.0.0.2":            "",
		"ws://localhost.evil.com":   "",
		"http://example.com":        "",
		"https://example.com":       "",
		"example.com":               "",
		"wss://":                    "",
		"wss:///v1":                 "",
		"wss://example.com/v1":      "",
		"wss://example.com?key=k":   "",
		"wss://example.com?":        "",
		"wss://example.com#":        "",
		"wss://example.com/#x":      "",
		"wss://user:pw@example.com": "",
		"wss://exa mple.com":        "",
		"":                          "",
	} {
		got, err := endpoint(base)
		if got != want || (err == nil) != (want != "") || (ValidateURL(base) == nil) != (want != "") {
			t.Errorf("%q: %q, %v", base, got, err)
		}
	}
}

func TestURLErrorsNeverQuoteACredential(t *testing.T) {
	for _, base := range []string{
		"wss://h/s3cr3t", "wss://h?key=s3cr3t", "wss://h#s3cr3t", "wss://u:s3cr3t@h", "ws://u:s3cr3t@h", "http://h/?key=s3cr3t",
		"wss://h:port/?key=s3cr3t", "wss://h:s3cr3t", "wss://h:s3cr3t x", "wss://s3cr3t%zz", "wss://[s3cr3t", "wss://u:s3cr3t@h:x", "wss://h/%zz?key=s3cr3t", "://s3cr3t", "wss://h/\x00?s3cr3t",
	} {
		if err := ValidateURL(base); err == nil || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%q: %v", base, err)
		}
	}
}
