package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pion/stun/v4"

	"recorder/internal/signaling"
)

// What the service and the protocol allow.
const (
	maxBotName       = 64 // leaves room for a suffix in the 128 of a peer id
	maxPeerMetadata  = 4096
	maxICEServers    = 16
	maxDenied        = 256
	maxICEURL        = 512
	maxICECredential = 1024
	maxRoles         = 16
	maxRole          = 64
)

// credentialKeys are the keys that may turn out empty because what they say could not be read.
var credentialKeys = []string{
	"signaling.api_key", "signaling.api_key_file",
	"signaling.secret_key", "signaling.secret_key.secret", "signaling.secret_key.secret_file",
	"signaling.token_url", "signaling.token_url_file",
}

// check notes every value that cannot work, and fills in the credentials that are kept in files.
func (l *loader) check(cfg *Config) {
	l.refused("signaling.url", signaling.ValidateURL(cfg.Signaling.URL))
	l.checkCredential(&cfg.Signaling)
	l.checkBot(cfg.Bot)
	l.checkListen(cfg.HTTP.Listen)
	if file := cfg.HTTP.WebConfigFile; file != "" {
		_, _ = l.readFile(file, readFile) // before it is checked, so that a change meanwhile is noticed
		if err := CheckWebConfig(file); err != nil {
			l.fault("http.web_config_file", "%v", err)
		}
	}
	if cfg.Recordings.Dir == "" {
		l.fault("recordings.dir", "must not be empty")
	}
	l.checkRange("recordings.sync_interval", cfg.Recordings.SyncInterval, 100*time.Millisecond, time.Minute)
	l.checkRange("recordings.reorder_window", cfg.Recordings.ReorderWindow, 100*time.Millisecond, 10*time.Second)
	if d := cfg.Recordings.MaxAge; d != 0 {
		l.checkRange("recordings.max_age", d, time.Minute, 87600*time.Hour)
	}
	if p := cfg.WebRTC.UDPPort; p < 0 || p > 65535 {
		l.fault("webrtc.udp_port", "want 0 to 65535")
	}
	l.checkRange("webrtc.read_lag", cfg.WebRTC.ReadLag, 0, 100*time.Millisecond)
	l.checkICEServers(cfg.WebRTC.ICEServers)
	l.checkDenied(cfg.WebRTC.DenyAddresses)
	if p := cfg.WebRTC.ICETransportPolicy; p != "all" && p != "relay" {
		l.fault("webrtc.ice_transport_policy", "want all or relay")
	}
	if cfg.Log.Format != "text" && cfg.Log.Format != "json" {
		l.fault("log.format", "want text or json")
	}
	l.checkRange("shutdown_timeout", cfg.ShutdownTimeout, time.Second, 5*time.Minute)
	l.checkOptions("defaults", cfg.Defaults)
	l.checkChannels(cfg.Channels)
}

// refused notes why the signalling client does not take a value. Its errors begin with a name of their own for the key.
func (l *loader) refused(key string, err error) {
	if err != nil {
		_, why, _ := strings.Cut(err.Error(), ": ")
		l.fault(key, "%s", why)
	}
}

func (l *loader) checkCredential(s *SignalingConfig) {
	l.fromFile("signaling.api_key", &s.APIKey, s.APIKeyFile)
	l.fromFile("signaling.secret_key.secret", &s.SecretKey.Secret, s.SecretKey.SecretFile)
	l.fromFile("signaling.token_url", &s.TokenURL, s.TokenURLFile)
	l.checkRange("signaling.secret_key.token_ttl", s.SecretKey.TokenTTL, 2*time.Minute, 720*time.Hour)
	var set []string
	if s.APIKey != "" {
		set = append(set, l.named("api_key", "signaling.api_key"))
		_, err := signaling.PublishableKey(s.APIKey)
		l.refused(from("signaling.api_key", s.APIKeyFile), err)
	}
	if s.SecretKey.ID != "" || s.SecretKey.Secret != "" {
		set = append(set, l.named("secret_key", "signaling.secret_key.secret"))
		l.checkSecretKey(s.SecretKey)
	}
	if s.TokenURL != "" {
		set = append(set, l.named("token_url", "signaling.token_url"))
		_, err := signaling.TokenURL(s.TokenURL, nil, nil)
		l.refused(from("signaling.token_url", s.TokenURLFile), err)
	}
	switch {
	case len(set) > 1:
		l.fault("signaling", "more than one credential: %s; keep exactly one", strings.Join(set, ", "))
	case len(set) == 0 && !slices.ContainsFunc(l.faults, func(f Fault) bool { return slices.Contains(credentialKeys, f.Key) }):
		l.fault("signaling", "no credential: set exactly one of api_key, secret_key and token_url (or %s)", EnvName("signaling.api_key"))
	}
}

func (l *loader) checkSecretKey(k SecretKeyConfig) {
	k.TokenTTL = 0 // has its own range
	_, err := NewCredential(SignalingConfig{SecretKey: k}, BotConfig{}, "bot", "channel")
	switch id, secret := strings.HasPrefix(k.ID, "sk_id_"), strings.HasPrefix(k.Secret, "sk_secret_"); {
	case id && secret:
		l.refused("signaling.secret_key", err)
	case id:
		l.fault("signaling.secret_key.secret", "want a secret key, sk_secret_…")
	case secret:
		l.fault("signaling.secret_key.id", "want the id of a secret key, sk_id_…")
	default:
		l.fault("signaling.secret_key", "want id sk_id_… and secret sk_secret_…")
	}
}

// named is what a credential is called in a fault: with the variable that it came from, if one set it.
func (l *loader) named(name, key string) string {
	if env := l.env[key]; env != "" {
		return name + " (from " + env + ")"
	}
	return name
}

// from is the key that a value came from: that of the file it stood in, if it has one.
func from(key, file string) string {
	if file != "" {
		return key + "_file"
	}
	return key
}

// fromFile fills in a value whose key has a twin that ends in _file. A variable wins over the twin in the configuration.
func (l *loader) fromFile(key string, value *string, file string) {
	if file == "" || l.env[key] != "" && l.env[key+"_file"] == "" {
		return
	}
	if *value != "" {
		l.fault(key+"_file", "%s is set as well: keep one of the two", key)
		return
	}
	text, err := l.readFile(file, readFile)
	if err != nil {
		l.fault(key+"_file", "%v", err)
		return
	}
	if *value = strings.TrimSpace(string(text)); *value == "" {
		l.fault(key+"_file", "%s is empty", file)
	}
}

func (l *loader) checkBot(bot BotConfig) {
	printable := func(r rune) bool { return r > ' ' && r <= '~' }
	if bot.Name == "" || len(bot.Name) > maxBotName || strings.ContainsFunc(bot.Name, func(r rune) bool { return !printable(r) }) {
		l.fault("bot.name", "want 1 to %d printable ASCII characters without a space", maxBotName)
	}
	text, err := json.Marshal(bot.Metadata)
	if err != nil {
		l.fault("bot.metadata", "cannot be written as JSON: %v", err)
	} else if len(text) > maxPeerMetadata {
		l.fault("bot.metadata", "takes %d bytes as JSON, at most %d are allowed", len(text), maxPeerMetadata)
	}
}

func (l *loader) checkListen(listen string) {
	_, port, err := net.SplitHostPort(listen)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		l.fault("http.listen", "want host:port, such as 127.0.0.1:9464")
	}
}

func (l *loader) checkRange(key string, d, low, high time.Duration) {
	if d < low || d > high {
		l.fault(key, "want %s to %s", short(low), short(high))
	}
}

// short writes a duration as people do: 5m, not 5m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func (l *loader) checkICEServers(servers []ICEServerConfig) {
	if len(servers) > maxICEServers {
		l.fault("webrtc.ice_servers", "%d servers, at most %d are allowed", len(servers), maxICEServers)
	}
	for i, s := range servers {
		key := fmt.Sprintf("webrtc.ice_servers[%d]", i)
		if len(s.URLs) == 0 {
			l.fault(key+".urls", "needs at least one address")
		}
		turn := false
		for j, address := range s.URLs {
			uri, err := stun.ParseURI(address)
			switch {
			case err != nil:
				l.fault(fmt.Sprintf("%s.urls[%d]", key, j), "want stun:, stuns:, turn: or turns:, then host:port")
			case len(address) > maxICEURL:
				l.fault(fmt.Sprintf("%s.urls[%d]", key, j), "longer than %d characters", maxICEURL)
			default:
				turn = turn || uri.Scheme == stun.SchemeTypeTURN || uri.Scheme == stun.SchemeTypeTURNS
			}
		}
		if turn && s.Username == "" {
			l.fault(key+".username", "needed by turn and turns")
		}
		if turn && s.Credential == "" {
			l.fault(key+".credential", "needed by turn and turns")
		}
		if len(s.Username) > maxICECredential {
			l.fault(key+".username", "longer than %d characters", maxICECredential)
		}
		if len(s.Credential) > maxICECredential {
			l.fault(key+".credential", "longer than %d characters", maxICECredential)
		}
	}
}

func (l *loader) checkDenied(texts []string) {
	if len(texts) > maxDenied {
		l.fault("webrtc.deny_addresses", "%d networks, at most %d are allowed", len(texts), maxDenied)
	}
	for i, text := range texts {
		if p, err := netip.ParsePrefix(text); err != nil || p.Addr().Is4In6() {
			l.fault(fmt.Sprintf("webrtc.deny_addresses[%d]", i), "want a network, such as 10.0.0.0/8, 192.0.2.7/32 or 2001:db8::/32")
		}
	}
}

func (l *loader) checkChannels(channels []ChannelConfig) {
	if len(channels) == 0 {
		l.fault("channels", "needs at least one channel")
	}
	seen := map[string]int{}
	for i, c := range channels {
		key := fmt.Sprintf("channels[%d]", i)
		if bad := (*signaling.NameError)(nil); errors.As(signaling.ValidateChannel(c.Name), &bad) {
			l.fault(key+".name", "%s", bad.Reason)
		}
		if first, ok := seen[c.Name]; ok {
			l.fault(key+".name", "%q stands in channels[%d] as well", c.Name, first)
		} else {
			seen[c.Name] = i
		}
		l.checkOptions(key, c.ChannelOptions)
		if c.Name != "" && !c.Audio && !c.Video && !l.faulty(l.origin(key+".audio")) && !l.faulty(l.origin(key+".video")) {
			l.fault(key, "audio and video are both off: nothing would be recorded")
		}
	}
}

// Doubts says what of a good configuration is hardly meant.
func (cfg *Config) Doubts(now time.Time) (doubts []string) {
	for i, c := range cfg.Channels {
		if !c.StopAt.IsZero() && c.StopAt.Before(now) {
			doubts = append(doubts, fmt.Sprintf("channels[%d].stop_at is over: %q is not joined any more", i, c.Name))
		}
	}
	return doubts
}

func (l *loader) checkOptions(key string, o ChannelOptions) {
	l.checkRange(key+".reconnect_window", o.ReconnectWindow, 0, time.Hour)
	for name, d := range map[string]time.Duration{".leave_when_alone": o.LeaveWhenAlone, ".max_duration": o.MaxDuration} {
		if d != 0 {
			l.checkRange(key+name, d, time.Second, 720*time.Hour)
		}
	}
	for name, n := range map[string]int{".max_members": o.MaxMembers, ".max_streams": o.MaxStreams} {
		if n < 0 {
			l.fault(key+name, "must not be negative")
		}
	}
	if len(o.Roles) > maxRoles {
		l.fault(key+".roles", "%d roles, at most %d are allowed", len(o.Roles), maxRoles)
	}
	for i, role := range o.Roles {
		if n := utf8.RuneCountInString(role); n == 0 || n > maxRole {
			l.fault(fmt.Sprintf("%s.roles[%d]", key, i), "want 1 to %d characters", maxRole)
		}
	}
	if !o.StopAt.IsZero() && !o.StartAt.Before(o.StopAt) {
		l.fault(key+".stop_at", "must be later than start_at")
	}
}
