// Package config reads the configuration: a YAML file, environment variables over it and the files
// that it names. It finds every fault at once, by file, line and key, and connects to nothing.
package config

import (
	"log/slog"
	"time"

	"recorder/internal/remote"
	"recorder/internal/signaling"
)

// Config is config.yaml. The comments of its fields are the manual; config.yaml repeats them for its readers.
//
// A key that is not here is an error. Any key that holds one value can be set from the environment instead, which wins
// over the file unless it is empty: RECORDER_ and the path of the key in capitals, so RECORDER_SIGNALING_API_KEY is
// signaling.api_key. Durations carry their unit (500ms, 10s, 2m).
type Config struct {
	Signaling  SignalingConfig  `mapstructure:"signaling"`
	Bot        BotConfig        `mapstructure:"bot"`
	HTTP       HTTPConfig       `mapstructure:"http"`
	Recordings RecordingsConfig `mapstructure:"recordings"`
	WebRTC     WebRTCConfig     `mapstructure:"webrtc"`
	Log        LogConfig        `mapstructure:"log"`

	// How long a stop may take, from the first SIGTERM or SIGINT until every file is final. What is not done by then
	// is left for the next start. 1s to 5m.
	ShutdownTimeout time.Duration `mapstructure:"shutdown_timeout"`

	// What holds for every channel that does not say otherwise.
	Defaults ChannelOptions `mapstructure:"defaults"`

	// The channels to record, each by a bot with a connection of its own. At least one; no name twice.
	Channels []ChannelConfig `mapstructure:"channels"`
}

// SignalingConfig says where the service is and who we are: exactly one of api_key, secret_key and token_url, each of
// which can be kept in a file of its own (api_key_file, secret_key.secret_file, token_url_file).
type SignalingConfig struct {
	// The service: wss://host[:port], no path. ws:// is accepted for localhost, 127.0.0.1 and ::1 only, because the
	// credential travels in the address.
	URL string `mapstructure:"url"`

	// A publishable key, pk_live_… It must have the send permission, or nobody will send the bot any media. The
	// service gives the bot a new peer id on every connection and shows no metadata of it.
	APIKey     string `mapstructure:"api_key"`
	APIKeyFile string `mapstructure:"api_key_file"`

	// A secret key: the bot makes its own tokens with it.
	SecretKey SecretKeyConfig `mapstructure:"secret_key"`

	// An address that answers {"token": "…"}. It is asked on every connect. https, or http for loopback.
	TokenURL     string `mapstructure:"token_url"`
	TokenURLFile string `mapstructure:"token_url_file"`
}

// SecretKeyConfig is one secret key of the account.
type SecretKeyConfig struct {
	// The key's id, sk_id_…
	ID string `mapstructure:"id"`
	// The key itself, sk_secret_…
	Secret     string `mapstructure:"secret"`
	SecretFile string `mapstructure:"secret_file"`
	// How long each token is valid. The bot connects again, with another token, before one ends.
	// 2m to 30 days, 720h.
	TokenTTL time.Duration `mapstructure:"token_ttl"`
}

// BotConfig is how the bot appears to the members of a channel.
type BotConfig struct {
	// With secret_key the bot's peer id is this name and a suffix that stays the same for the life of the process.
	// 1 to 64 printable ASCII characters without a space.
	Name string `mapstructure:"name"`
	// What the members see as the bot's metadata, with secret_key. A map of at most 4 KB as JSON.
	Metadata map[string]any `mapstructure:"metadata"`
}

// HTTPConfig is the server of /metrics, /healthz and /readyz.
type HTTPConfig struct {
	// host:port. Without web_config_file nothing on it asks for a password: keep it on loopback or inside a private network.
	Listen string `mapstructure:"listen"`
	// A web configuration file as Prometheus and its exporters have it, for TLS, client certificates and passwords. It is
	// read anew for every request, and so are the certificates it names. Empty: plain HTTP for everyone.
	WebConfigFile string `mapstructure:"web_config_file"`
	// Whether Go's profiles are served below /debug/pprof/. Whoever gets there learns what the process does and can slow it
	// down: never in public.
	Pprof bool `mapstructure:"pprof"`
}

// RecordingsConfig is where and how files are written.
type RecordingsConfig struct {
	// The directory of all recordings; made if it does not exist.
	Dir string `mapstructure:"dir"`
	// How often open files are forced to the disk: what a power cut can cost. 100ms to 1m.
	SyncInterval time.Duration `mapstructure:"sync_interval"`
	// How long a missing packet is waited for before it counts as lost. 100ms to 10s.
	ReorderWindow time.Duration `mapstructure:"reorder_window"`
	// How much space must be free on the disk for a recording to begin: 500MB, 2GB, 1TB. Below half of that no pictures
	// are recorded, and below a quarter nothing is; with more space both go on. 0: never mind.
	MinFree Size `mapstructure:"min_free"`
	// Finished recordings are removed once they are final for that long, and the oldest while all finished ones hold more than that.
	// 0: never; max_age else 1m to 10 years, 87600h.
	MaxAge       time.Duration `mapstructure:"max_age"`
	MaxTotalSize Size          `mapstructure:"max_total_size"`
}

// WebRTCConfig is how media reaches the bot.
type WebRTCConfig struct {
	// The one UDP port that all media comes in on, to be opened in the firewall. 0: a free port, picked at every start.
	UDPPort int `mapstructure:"udp_port"`
	// How long packets gather before they are read, all at once. That saves more CPU time than anything else; what it
	// costs is that much delay, twice that with few members. 0s to 100ms; 0s reads them as they come.
	ReadLag time.Duration `mapstructure:"read_lag"`
	// STUN and TURN servers, used besides those the service names. At most 16.
	ICEServers []ICEServerConfig `mapstructure:"ice_servers"`
	// all, or relay to have media come through TURN servers alone, so that members never learn the bot's addresses.
	ICETransportPolicy string `mapstructure:"ice_transport_policy"`
	// Networks such as 10.0.0.0/8 that no member is connected to in, neither from the bot nor through a TURN server. Members name
	// the addresses that they are tried at, and may name what they cannot reach themselves. Loopback (unless the service is on
	// this machine), link-local, multicast and broadcast addresses never are. At most 256.
	DenyAddresses []string `mapstructure:"deny_addresses"`
}

// ICEServerConfig is one STUN or TURN server.
type ICEServerConfig struct {
	// stun:host:port, turn:host:port?transport=udp, turns:…; at most 512 characters each.
	URLs []string `mapstructure:"urls"`
	// Needed by turn and turns; at most 1024 characters each.
	Username   string `mapstructure:"username"`
	Credential string `mapstructure:"credential"`
}

// LogConfig is what the recorder writes to standard error.
type LogConfig struct {
	// debug, info, warn or error.
	Level slog.Level `mapstructure:"level"`
	// text or json.
	Format string `mapstructure:"format"`
}

// ChannelConfig is one channel to record.
type ChannelConfig struct {
	// The channel's name: 1 to 256 characters, none of them a control character; not one of the service's own
	// (_metered/, _internal/, _system/).
	Name           string `mapstructure:"name"`
	ChannelOptions `mapstructure:",squash"`
}

// ChannelOptions say what of a channel is recorded, and for how long. A channel takes those it does not name from defaults.
type ChannelOptions struct {
	// Whether sound and pictures are recorded. What is not still arrives, and is dropped.
	Audio bool `mapstructure:"audio"`
	Video bool `mapstructure:"video"`
	// Records only the streams whose metadata has one of these as its role, such as camera or screen. Empty: all
	// streams. At most 16, of 1 to 64 characters.
	Roles []string `mapstructure:"roles"`
	// How long the files of a stream stay open after it went away, so that they continue when it comes back.
	// 0s to 1h.
	ReconnectWindow time.Duration `mapstructure:"reconnect_window"`
	// Leaves the channel, for good, once the bot has been alone in it for that long, or has stayed that long. 0s: never;
	// else 1s to 30 days, 720h.
	LeaveWhenAlone time.Duration `mapstructure:"leave_when_alone"`
	MaxDuration    time.Duration `mapstructure:"max_duration"`
	// The same once its recording holds that much media. 0: never.
	MaxSize Size `mapstructure:"max_size"`
	// How many members are connected to, and how many streams recorded, at once; those beyond are not. 0: as many as the
	// service allows.
	MaxMembers int `mapstructure:"max_members"`
	MaxStreams int `mapstructure:"max_streams"`
	// When the channel is joined and left (RFC 3339, such as 2026-01-31T09:00:00Z). Without them, at once and never.
	StartAt time.Time `mapstructure:"start_at"`
	StopAt  time.Time `mapstructure:"stop_at"`
}

// Default is what holds where neither the file nor the environment says anything.
func Default() Config {
	return Config{
		Signaling: SignalingConfig{
			URL:       "wss://rms.metered.ca",
			SecretKey: SecretKeyConfig{TokenTTL: signaling.DefaultTokenTTL},
		},
		Bot: BotConfig{
			Name:     "recorder",
			Metadata: map[string]any{"name": "Recorder", "role": "recorder"},
		},
		HTTP: HTTPConfig{Listen: "127.0.0.1:9464"},
		Recordings: RecordingsConfig{
			Dir:           "./recordings",
			SyncInterval:  time.Second,
			ReorderWindow: 2 * time.Second,
			MinFree:       1_000_000_000,
		},
		WebRTC:          WebRTCConfig{ReadLag: remote.DefaultReadLag, ICETransportPolicy: "all"},
		Log:             LogConfig{Level: slog.LevelInfo, Format: "text"},
		ShutdownTimeout: 10 * time.Second,
		Defaults:        ChannelOptions{Audio: true, Video: true, ReconnectWindow: time.Minute},
	}
}
