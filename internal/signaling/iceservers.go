package signaling

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

const (
	maxICEServers       = 16
	maxICEURLLen        = 512
	maxICECredentialLen = 1024
)

// ICEServer is one RTCIceServer. It prints without its credential.
type ICEServer struct {
	URLs       []string
	Username   string
	Credential string
}

func (s ICEServer) String() string       { return fmt.Sprintf("ICE server %v", s.URLs) }
func (s ICEServer) GoString() string     { return s.String() }
func (s ICEServer) LogValue() slog.Value { return slog.AnyValue(s.URLs) }

// MarshalJSON keeps the credential out of structured logs.
func (s ICEServer) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string][]string{"urls": s.URLs})
}

// ValidateICEServers refuses a list that is not worth trusting as a whole: more
// than 16 entries, one without URLs, a URL that is not stun, stuns, turn or turns
// or is longer than 512 bytes, a username or credential over 1024 bytes, a TURN
// server without either (no peer connection can be made with one).
// The error names the entry, never a credential.
func ValidateICEServers(servers []ICEServer) error {
	if len(servers) > maxICEServers {
		return fmt.Errorf("%d ICE servers; at most %d are allowed", len(servers), maxICEServers)
	}
	for i, s := range servers {
		if err := s.validate(); err != nil {
			return fmt.Errorf("ICE server %d: %w", i, err)
		}
	}
	return nil
}

func (s ICEServer) validate() error {
	if len(s.URLs) == 0 {
		return errors.New("has no urls")
	}
	if len(s.Username) > maxICECredentialLen || len(s.Credential) > maxICECredentialLen {
		return fmt.Errorf("username or credential is over %d bytes", maxICECredentialLen)
	}
	for _, u := range s.URLs {
		scheme, rest, _ := strings.Cut(u, ":")
		if len(u) > maxICEURLLen || rest == "" {
			return fmt.Errorf("a url is empty or over %d bytes", maxICEURLLen)
		}
		switch strings.ToLower(scheme) {
		case "stun", "stuns":
		case "turn", "turns":
			if s.Username == "" || s.Credential == "" {
				return errors.New("a turn url needs username and credential")
			}
		default:
			return errors.New("a url is not stun, stuns, turn or turns")
		}
	}
	return nil
}

// iceServers reads metadata.iceServers of a welcome. It returns nil and no error
// when there is none, and an error when the list must be ignored.
func iceServers(metadata json.RawMessage) ([]ICEServer, error) {
	var env envelope
	if metadata == nil || json.Unmarshal(metadata, &env) != nil || env["iceServers"] == nil {
		return nil, nil
	}
	var list []envelope
	if json.Unmarshal(env["iceServers"], &list) != nil || list == nil {
		return nil, errors.New("iceServers is not a list of objects")
	}
	servers := make([]ICEServer, 0, min(len(list), maxICEServers+1))
	for _, entry := range list[:cap(servers)] {
		var s ICEServer
		if one, ok := entry.text("urls"); ok {
			s.URLs = []string{one}
		} else if json.Unmarshal(entry["urls"], &s.URLs) != nil {
			return nil, errors.New("urls is neither a string nor a list of strings")
		}
		s.Username, _ = entry.text("username")
		s.Credential, _ = entry.text("credential")
		servers = append(servers, s)
	}
	if err := ValidateICEServers(servers); err != nil {
		return nil, err
	}
	return servers, nil
}
