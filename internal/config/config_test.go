package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the messages of testdata/bad/*.yaml to their .txt files")

// TestEveryBadConfigurationIsNamed loads each testdata/bad/*.yaml, one per rule, and compares the whole message.
func TestEveryBadConfigurationIsNamed(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			_, err := Load(file)
			if err == nil {
				t.Fatal("was accepted")
			}
			if ce := (*ConfigError)(nil); !errors.As(err, &ce) {
				t.Fatalf("%T is no *ConfigError: %v", err, err)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			got := strings.ReplaceAll(err.Error(), "testdata/bad/", "") + "\n"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%swant:\n%s", got, want)
			}
			if strings.Contains(got, "TOPSECRET") {
				t.Error("the message holds a credential")
			}
		})
	}
}

func TestEmptyKeysTakeTheirDefaults(t *testing.T) {
	cfg := load(t, "signaling: {api_key: pk_live_x, url: }\nbot:\nlog: {level: }\nchannels: [{name: a}]\n")
	want := Default()
	want.Signaling.APIKey = "pk_live_x"
	want.Channels = []ChannelConfig{{Name: "a", ChannelOptions: Default().Defaults}}
	if !reflect.DeepEqual(*cfg, want) {
		t.Errorf("got  %+v\nwant %+v", *cfg, want)
	}
}

func TestMetadataKeepsItsSpellingAndReplacesTheDefault(t *testing.T) {
	cfg := load(t, "signaling: {api_key: pk_live_x}\nbot: {metadata: {displayName: Rec, a.b: {C: [1, {D: x}]}}}\nchannels: [{name: a}]\n")
	want := map[string]any{"displayName": "Rec", "a.b": map[string]any{"C": []any{1, map[string]any{"D": "x"}}}}
	if !reflect.DeepEqual(cfg.Bot.Metadata, want) {
		t.Errorf("got %#v", cfg.Bot.Metadata)
	}
	if cfg := load(t, "signaling: {api_key: pk_live_x}\nbot: {metadata: {}}\nchannels: [{name: a}]\n"); len(cfg.Bot.Metadata) != 0 {
		t.Errorf("an empty map left %v", cfg.Bot.Metadata)
	}
}

func TestAnchorsAndMergesAreFollowed(t *testing.T) {
	cfg := load(t, `signaling: {api_key: pk_live_x}
channels:
  - &base {name: a, reconnect_window: 5s}
  - {<<: *base, name: b}
`)
	if got := cfg.Channels[1]; got.Name != "b" || got.ReconnectWindow != 5*time.Second {
		t.Errorf("got %+v", got)
	}
}

func TestAReconnectWindowLastsUpToAnHour(t *testing.T) {
	cfg := load(t, "signaling: {api_key: pk_live_x}\nchannels: [{name: a, reconnect_window: 0s}, {name: b, reconnect_window: 1h}]\n")
	if a, b := cfg.Channels[0].ReconnectWindow, cfg.Channels[1].ReconnectWindow; a != 0 || b != time.Hour {
		t.Errorf("got %v and %v", a, b)
	}
}

func TestChannelsTakeWhatTheyDoNotSayFromDefaults(t *testing.T) {
	t.Setenv("RECORDER_DEFAULTS_MAX_DURATION", "3h")
	cfg := load(t, `signaling: {api_key: pk_live_x}
defaults:
  video: false
  roles: [camera]
  reconnect_window: 5s
  start_at: 2026-01-31T10:00:00+01:00
channels:
  - name: inherits
  - name: differs
    video: true
    roles: []
    reconnect_window: 0s
    max_duration: 0s
    start_at: 2026-02-01T10:00:00Z
`)
	start := time.Date(2026, 1, 31, 9, 0, 0, 0, time.UTC)
	for i, want := range []ChannelOptions{
		{Audio: true, Roles: []string{"camera"}, ReconnectWindow: 5 * time.Second, MaxDuration: 3 * time.Hour, StartAt: start},
		{Audio: true, Video: true, Roles: []string{}, StartAt: start.Add(25 * time.Hour)},
	} {
		got := cfg.Channels[i].ChannelOptions
		got.StartAt = got.StartAt.UTC()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got  %+v\nwant %+v", cfg.Channels[i].Name, got, want)
		}
	}
}

func TestHostileChannelNameIsANameLikeAnyOther(t *testing.T) {
	cfg := load(t, "signaling: {api_key: pk_live_x}\nchannels: [{name: ../../etc/x}]\n")
	if cfg.Channels[0].Name != "../../etc/x" {
		t.Errorf("got %q", cfg.Channels[0].Name)
	}
}

// TestEnvironmentOverridesEveryScalarKey sets each key that holds one value, of which the file has only a few.
func TestEnvironmentOverridesEveryScalarKey(t *testing.T) {
	file := "signaling: {url: 'wss://from-file'}\nchannels: [{name: a}]\n"
	webConfig := secretFile(t, "rate_limit: {burst: 1}\n")
	values := map[string]string{
		"signaling.url":               "ws://localhost:1",
		"signaling.api_key":           "pk_live_env",
		"bot.name":                    "env-bot",
		"http.listen":                 "127.0.0.1:1",
		"http.web_config_file":        webConfig,
		"http.pprof":                  "true",
		"recordings.dir":              "/env",
		"recordings.sync_interval":    "7s",
		"recordings.reorder_window":   "3s",
		"recordings.min_free":         "3TB",
		"recordings.max_age":          "48h0m0s",
		"recordings.max_total_size":   "6GB",
		"webrtc.udp_port":             "7000",
		"webrtc.read_lag":             "20ms",
		"webrtc.ice_transport_policy": "relay",
		"log.level":                   "warn",
		"log.format":                  "json",
		"shutdown_timeout":            "9s",
		"defaults.audio":              "true",
		"defaults.video":              "false",
		"defaults.reconnect_window":   "7s",
		"defaults.leave_when_alone":   "11s",
		"defaults.max_duration":       "12s",
		"defaults.max_size":           "7MB",
		"defaults.max_members":        "8",
		"defaults.max_streams":        "9",
		"defaults.start_at":           "2026-01-31T09:00:00Z",
		"defaults.stop_at":            "2026-01-31T10:00:00Z",
	}
	values["signaling.secret_key.token_ttl"] = "48h0m0s"
	others := map[string]string{ // these exclude api_key, so each has a round of its own
		"signaling.api_key_file":           secretFile(t, "pk_live_env"),
		"signaling.secret_key.secret_file": secretFile(t, "sk_secret_env"),
		"signaling.token_url":              "https://env/token",
		"signaling.token_url_file":         secretFile(t, "https://env/token"),
		"signaling.secret_key.secret":      "sk_secret_env",
		"signaling.secret_key.id":          "sk_id_env",
	}
	singles, _ := KeyPaths(reflect.TypeFor[Config](), "")
	for _, key := range singles {
		if values[key] == "" && others[key] == "" {
			t.Errorf("%s is not tried here", key)
		}
	}

	for key, value := range values {
		t.Setenv(EnvName(key), value)
	}
	cfg := load(t, file)
	for key, want := range values {
		if got := scalar(cfg, key); got != want {
			t.Errorf("%s: got %q, want %q", key, got, want)
		}
	}

	t.Setenv("RECORDER_SIGNALING_API_KEY", "")
	for key, value := range others {
		t.Run(key, func(t *testing.T) {
			t.Setenv(EnvName(key), value)
			if strings.Contains(key, "secret_key") {
				t.Setenv("RECORDER_SIGNALING_SECRET_KEY_ID", "sk_id_env")
				if key == "signaling.secret_key.id" {
					t.Setenv("RECORDER_SIGNALING_SECRET_KEY_SECRET", "sk_secret_env")
				}
			}
			if got := scalar(load(t, file), key); got != value {
				t.Errorf("got %q, want %q", got, value)
			}
		})
	}
}

func TestFaultNamesTheVariableItCameFrom(t *testing.T) {
	t.Setenv("RECORDER_SHUTDOWN_TIMEOUT", "10")
	t.Setenv("RECORDER_SIGNALING_URL", "ftp://user:TOPSECRET@x")
	_, err := Load(write(t, "signaling: {api_key: pk_live_x}\nchannels: [{name: a}]\n"))
	if err == nil {
		t.Fatal("was accepted")
	}
	for _, want := range []string{
		"shutdown_timeout (from RECORDER_SHUTDOWN_TIMEOUT): want a duration with its unit, such as 500ms, 10s, 2m, 12h or 30d",
		"signaling.url (from RECORDER_SIGNALING_URL): scheme \"ftp\"; want wss",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "TOPSECRET") {
		t.Errorf("the message holds a credential:\n%v", err)
	}
}

func TestCredentialsAreReadFromTheirFiles(t *testing.T) {
	cfg := load(t, "signaling: {secret_key: {id: sk_id_1, secret_file: "+secretFile(t, " sk_secret_1\n")+"}}\nchannels: [{name: a}]\n")
	if cfg.Signaling.SecretKey.Secret != "sk_secret_1" {
		t.Errorf("got %q", cfg.Signaling.SecretKey.Secret)
	}
}

func TestFileThatCannotBeReadIsNoConfigError(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "none.yaml"))
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestShippedConfigurationShowsEveryKeyWithItsDefault reads config.yaml as it is, with the key that a user would give, and
// once more with its commented-out keys in force.
func TestShippedConfigurationShowsEveryKeyWithItsDefault(t *testing.T) {
	const shipped = "../../config.yaml"
	t.Setenv("RECORDER_SIGNALING_API_KEY", "pk_live_x")
	cfg, err := Load(shipped)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Signaling.APIKey = "pk_live_x"
	want.Defaults.Roles = []string{}
	want.Channels = []ChannelConfig{{Name: "room-42", ChannelOptions: want.Defaults}}
	want.WebRTC.ICEServers, want.WebRTC.DenyAddresses = []ICEServerConfig{}, []string{}
	if !reflect.DeepEqual(*cfg, want) {
		t.Errorf("got  %+v\nwant %+v", *cfg, want)
	}

	text, err := os.ReadFile(shipped)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range allKeys(reflect.TypeFor[Config]()) {
		if !strings.Contains(string(text), key+":") {
			t.Errorf("config.yaml does not mention %s", key)
		}
	}
}

// TestShippedExamplesAreGood reads config.yaml with every example in its comments in force.
func TestShippedExamplesAreGood(t *testing.T) {
	text, err := os.ReadFile("../../config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	example := regexp.MustCompile(`(?m)^( *)# ( *(?:- )?[a-z_]+:(?: .*)?)$`)
	if n := len(example.FindAll(text, -1)); n < 10 {
		t.Fatalf("%d examples found", n)
	}
	used := example.ReplaceAllString(string(text), "$1$2")
	used = strings.NewReplacer("ice_servers: []", "", "  #   - urls", "    - urls").Replace(used)
	used = strings.Replace(used, "  # STUN and TURN servers", "  ice_servers:\n  # STUN and TURN servers", 1)
	var cfg Config
	if l := newLoader("config.yaml"); !l.decode([]byte(used), &cfg) || len(l.faults) > 0 {
		t.Fatalf("%v in\n%s", l.error(), used)
	}
	if len(cfg.WebRTC.ICEServers) != 1 || cfg.Signaling.SecretKey.ID == "" || cfg.Defaults.StopAt.IsZero() {
		t.Errorf("%+v", cfg)
	}
}

const minimalConfig = "signaling: {api_key: pk_live_x}\nchannels: [{name: a}]\n"

func TestDurationsAndSizesAreReadAsPeopleWriteThem(t *testing.T) {
	for text, want := range map[string]time.Duration{"36h": 36 * time.Hour, "30d": 720 * time.Hour, "1d12h": 36 * time.Hour, "1m30s": 90 * time.Second} {
		if cfg := load(t, minimalConfig+"recordings: {max_age: "+text+"}"); cfg.Recordings.MaxAge != want {
			t.Errorf("%s is %v", text, cfg.Recordings.MaxAge)
		}
	}
	for text, want := range map[string]Size{"500MB": 5e8, "1.5GB": 15e8, "10 GB": 1e10, "1gb": 1e9, "2GiB": 2 << 30, "0": 0} {
		if cfg := load(t, minimalConfig+"recordings: {min_free: "+text+"}"); cfg.Recordings.MinFree != want {
			t.Errorf("%s is %v", text, cfg.Recordings.MinFree)
		}
	}
}

func FuzzLoadConfig(f *testing.F) {
	files, _ := filepath.Glob("testdata/bad/*.yaml")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("signaling: &x {<<: *x}"))
	f.Add([]byte("channels: [*y]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		l := newLoader("fuzz.yaml")
		cfg := Default()
		if !l.decode(text, &cfg) && len(l.faults) == 0 {
			t.Error("refused without a word")
		}
	})
}

func load(t *testing.T, text string) *Config {
	t.Helper()
	cfg, err := Load(write(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func secretFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// allKeys returns the last part of every key, inside lists too.
func allKeys(typ reflect.Type) []string {
	var keys []string
	for _, key := range KeysOf(typ) {
		keys = append(keys, key)
		field, _ := fieldOf(typ, key)
		child := field.Type
		if child.Kind() == reflect.Slice {
			child = child.Elem()
		}
		if kindOf(child) == reflect.Struct {
			keys = append(keys, allKeys(child)...)
		}
	}
	return keys
}

// scalar returns the value at the path of key, written as in YAML.
func scalar(cfg *Config, key string) string {
	v := reflect.ValueOf(*cfg)
	for part := range strings.SplitSeq(key, ".") {
		field, _ := fieldOf(v.Type(), part)
		v = v.FieldByIndex(field.Index)
	}
	if v.CanInt() && v.Type().PkgPath() == "" {
		return strconv.FormatInt(v.Int(), 10)
	}
	if v.Kind() == reflect.Bool {
		return strconv.FormatBool(v.Bool())
	}
	if t, ok := v.Interface().(time.Time); ok {
		return t.Format(time.RFC3339)
	}
	if size, ok := v.Interface().(Size); ok {
		return size.String()
	}
	if s, ok := v.Interface().(interface{ String() string }); ok {
		return strings.ToLower(s.String())
	}
	return v.String()
}

// A variable wins over the file, be it over the key that names a file of the same.
func TestACredentialOfTheEnvironmentWinsOverItsFile(t *testing.T) {
	t.Setenv("RECORDER_SIGNALING_API_KEY", "pk_live_environment")
	cfg := load(t, "signaling: {api_key_file: "+secretFile(t, "pk_live_file")+"}\nchannels: [{name: a}]\n")
	if cfg.Signaling.APIKey != "pk_live_environment" {
		t.Errorf("%q is in force", cfg.Signaling.APIKey)
	}
	_, err := Load(write(t, "signaling: {token_url: \"https://example.com/token\"}\nchannels: [{name: a}]\n"))
	if want := "more than one credential: api_key (from RECORDER_SIGNALING_API_KEY), token_url;"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

func TestAWrongCredentialIsNamedByItsFile(t *testing.T) {
	_, err := Load(write(t, "channels: [{name: a}]\nsignaling:\n  api_key_file: "+secretFile(t, "wrong")+"\n"))
	if want := ":3: signaling.api_key_file: want pk_live_"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v\nwant %s", err, want)
	}
}
