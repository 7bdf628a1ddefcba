package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"recorder/internal/e2e"
	"recorder/internal/sink"
)

// eventually polls until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

func TestReloadJoinsAndLeavesAndLeavesAlone(t *testing.T) {
	cfg := testConfig(t, startDevserver(t), testSecret, "stays", "goes")
	app := startApp(t, cfg)
	await(t, app, "joined")
	before := app.set.Status()[1]
	if before.Channel != "stays" {
		t.Fatalf("got %+v", before)
	}

	cfg.Channels = []ChannelConfig{cfg.Channels[0], {Name: "comes", ChannelOptions: defaultConfig().Defaults}}
	cfg.Channels[0].MaxDuration = time.Hour
	if err := app.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	r := await(t, app, "joined")
	if len(r.Channels) != 2 || r.Channels[0].Channel != "comes" || r.Channels[1].Channel != "stays" {
		t.Errorf("channels %+v", r.Channels)
	}
	if after := app.set.Status()[1]; after.PeerID != before.PeerID {
		t.Errorf("the channel that stayed was joined anew: %q, then %q", before.PeerID, after.PeerID)
	}
}

func TestReloadedCredentialHealsAFailedChannel(t *testing.T) {
	cfg := testConfig(t, startDevserver(t), testWrongSecret, "a")
	app := startApp(t, cfg)
	await(t, app, "failed")
	cfg.Signaling.SecretKey.Secret = testSecret
	if err := app.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	await(t, app, "joined")
}

func TestReloadSaysWhatTakesARestartAndKeepsItAsItWas(t *testing.T) {
	cfg := testConfig(t, startDevserver(t), testSecret, "a")
	var log e2e.Buffer
	level := new(slog.LevelVar)
	app, err := NewApp(AppOptions{Config: cfg, Logger: newLogger(&log, "text", level), Level: level, Loopback: true})
	if err != nil {
		t.Fatal(err)
	}
	defer app.Stop(context.Background())
	next := cfg
	next.HTTP.Listen, next.Recordings.SyncInterval, next.Log.Level = "127.0.0.1:1", time.Minute, slog.LevelDebug
	next.HTTP.Pprof, next.WebRTC.ICETransportPolicy = true, "relay"
	next.Bot.Metadata = map[string]any{"name": "other"}
	if err := app.Reload(next); err != nil {
		t.Fatal(err)
	}
	var keys []string
	for line := range strings.Lines(log.String()) {
		if _, key, ok := strings.Cut(strings.TrimSpace(line), "with the next start\" key="); ok {
			keys = append(keys, key)
		}
	}
	if want := []string{"http.listen", "http.pprof", "recordings.sync_interval", "webrtc.ice_transport_policy"}; !slices.Equal(keys, want) {
		t.Errorf("keys %v, want %v", keys, want)
	}
	if live := app.live.Load(); live.HTTP.Listen != cfg.HTTP.Listen || live.Bot.Metadata["name"] != "other" {
		t.Errorf("in force: %+v", live)
	}
	if level.Level() != slog.LevelDebug {
		t.Errorf("level %v", level.Level())
	}
}

func TestStopDuringReloadJoinsNothing(t *testing.T) {
	cfg := testConfig(t, startDevserver(t), testSecret, "a")
	app, err := NewApp(AppOptions{Config: cfg, Logger: slog.New(slog.DiscardHandler), Loopback: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := app.Reload(cfg); err == nil || len(app.set.Status()) != 0 {
		t.Errorf("joined %v, %v", app.set.Status(), err)
	}
}

// watched is a watcher of a file that holds one channel, whose name is what the tests change.
type watched struct {
	t       *testing.T
	path    string
	reg     *prometheus.Registry
	applied chan string // names of the channel
	hangups chan os.Signal
}

func channelFile(name string) string {
	return fmt.Sprintf("signaling: {api_key: pk_live_x}\nchannels: [{name: %s}]\n", name)
}

func watch(t *testing.T, path string) *watched {
	t.Helper()
	cfg, err := loadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{t: t, path: path, reg: prometheus.NewRegistry(), applied: make(chan string, 16), hangups: make(chan os.Signal)}
	watcher, err := newWatcher(path, cfg, w.reg, func(cfg Config) error {
		w.applied <- cfg.Channels[0].Name
		return nil
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		watcher.Run(ctx, w.hangups)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return w
}

func (w *watched) successful() bool { return w.gauge("recorder_config_last_reload_successful") == 1 }

// loaded is when the configuration in force was, as the metrics have it.
func (w *watched) loaded() float64 {
	return w.gauge("recorder_config_last_reload_success_timestamp_seconds")
}

func (w *watched) gauge(name string) float64 {
	w.t.Helper()
	all, err := w.reg.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, family := range all {
		if family.GetName() == name {
			return family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	w.t.Fatalf("no metric %s", name)
	return 0
}

func (w *watched) expect(name string) {
	w.t.Helper()
	select {
	case got := <-w.applied:
		if got != name {
			w.t.Errorf("applied %q, want %q", got, name)
		}
	case <-time.After(10 * time.Second):
		w.t.Fatalf("%q was not applied within 10 s", name)
	}
	eventually(w.t, "success", w.successful)
}

func TestAFileWrittenInPlaceOrReplacedIsLoaded(t *testing.T) {
	path := write(t, channelFile("a"))
	w := watch(t, path)
	must(t, os.WriteFile(path, []byte(channelFile("b")), 0o600))
	w.expect("b")
	must(t, os.WriteFile(path+".new", []byte(channelFile("c")), 0o600))
	must(t, os.Rename(path+".new", path))
	w.expect("c")
}

// configMap is a directory as the kubelet makes it: the file is a link through a directory link, which is swapped.
type configMap struct {
	t       *testing.T
	dir     string
	version int
}

func newConfigMap(t *testing.T, text string) *configMap {
	m := &configMap{t: t, dir: t.TempDir()}
	m.swap(text)
	must(t, os.Symlink("..data/config.yaml", m.path()))
	return m
}

func (m *configMap) path() string { return filepath.Join(m.dir, "config.yaml") }

// swap puts another text in the place of the last.
func (m *configMap) swap(text string) {
	m.t.Helper()
	last := filepath.Join(m.dir, fmt.Sprintf("..2026_01_%02d", m.version))
	m.version++
	data := fmt.Sprintf("..2026_01_%02d", m.version)
	must(m.t, os.Mkdir(filepath.Join(m.dir, data), 0o700))
	must(m.t, os.WriteFile(filepath.Join(m.dir, data, "config.yaml"), []byte(text), 0o600))
	must(m.t, os.Symlink(data, filepath.Join(m.dir, "..data_tmp")))
	must(m.t, os.Rename(filepath.Join(m.dir, "..data_tmp"), filepath.Join(m.dir, "..data")))
	must(m.t, os.RemoveAll(last))
}

func TestASwappedConfigMapIsLoaded(t *testing.T) {
	m := newConfigMap(t, channelFile("a"))
	w := watch(t, m.path())
	for _, name := range []string{"b", "c"} {
		m.swap(channelFile(name))
		w.expect(name)
	}
}

func TestABadFileKeepsTheOldOneAndSaysSo(t *testing.T) {
	path := write(t, channelFile("a"))
	w := watch(t, path)
	began := w.loaded()
	if ago := float64(time.Now().UnixNano())/1e9 - began; ago < 0 || ago > 60 {
		t.Errorf("loaded %v s ago", ago)
	}
	must(t, os.WriteFile(path, []byte("signaling: {api_key: pk_live_x}\n"), 0o600))
	eventually(t, "failure", func() bool { return !w.successful() })
	if w.loaded() != began {
		t.Error("what was not loaded is said to have been")
	}
	must(t, os.WriteFile(path, []byte(channelFile("a")), 0o600))
	w.expect("a")
	if w.loaded() <= began {
		t.Error("nothing is said to have been loaded")
	}
	must(t, os.Remove(path))
	eventually(t, "failure", func() bool { return !w.successful() })
	must(t, os.WriteFile(path, []byte(channelFile("b")), 0o600))
	w.expect("b")
}

func TestASecretFileThatChangesIsLoaded(t *testing.T) {
	key := secretFile(t, "pk_live_one")
	path := write(t, "signaling: {api_key_file: "+key+"}\nchannels: [{name: a}]\n")
	w := watch(t, path)
	must(t, os.WriteFile(key, []byte("pk_live_two"), 0o600))
	w.expect("a")
}

func TestAWebConfigurationThatBreaksIsToldOf(t *testing.T) {
	web := secretFile(t, "basic_auth_users: {}\n")
	w := watch(t, write(t, "http: {web_config_file: "+web+"}\n"+channelFile("a")))
	must(t, os.WriteFile(web, []byte("junk"), 0o600))
	eventually(t, "failure", func() bool { return !w.successful() })
	must(t, os.WriteFile(web, []byte("basic_auth_users: {}\n"), 0o600))
	w.expect("a")
}

func TestOtherFilesInTheDirectoryAreNoReasonToReload(t *testing.T) {
	path := write(t, channelFile("a"))
	w := watch(t, path)
	must(t, os.WriteFile(path+"~", nil, 0o600))
	time.Sleep(2 * reloadPause)
	must(t, os.WriteFile(path, []byte(channelFile("b")), 0o600))
	w.expect("b")
	if len(w.applied) != 0 {
		t.Error("applied more than once")
	}
}

func TestHangupReloadsWhateverChanged(t *testing.T) {
	w := watch(t, write(t, channelFile("a")))
	w.hangups <- syscall.SIGHUP
	w.expect("a")
}

func TestReloadMetricsAreClean(t *testing.T) {
	w := watch(t, write(t, channelFile("a")))
	if problems, err := testutil.GatherAndLint(w.reg); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestRunFollowsItsFileAndHangups(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "recordings")
	head := "signaling: {url: '" + startDevserver(t) + "', api_key: " + testKey + "}\nhttp: {listen: '127.0.0.1:0'}\nrecordings: {dir: '" + dir + "'}\n"
	path := write(t, head+"channels: [{name: a}]\n")
	recorded := func(channel string) func() bool {
		return func() bool {
			found, _ := filepath.Glob(filepath.Join(dir, channel, "*", sink.ManifestName))
			return len(found) == 1
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan string, 1)
	go func() {
		code, _, stderr := try(t, ctx, "run", "-c", path)
		done <- fmt.Sprintf("exit code %d\n%s", code, stderr)
	}()
	eventually(t, "a is recorded", recorded("a"))
	must(t, os.WriteFile(path, []byte(head+"channels: [{name: a}, {name: b}]\n"), 0o600))
	eventually(t, "b is recorded", recorded("b"))
	must(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	time.Sleep(reloadPause)
	cancel()
	out := <-done
	if !strings.HasPrefix(out, "exit code 0\n") || strings.Count(out, `why="file changed"`) != 1 || strings.Count(out, "why=signal") != 1 {
		t.Error(out)
	}
	if !recorded("a")() {
		t.Error("a was begun anew")
	}
}

// Kubernetes brings the configuration and a file that it names one after the other, whichever comes first.
func TestFileThatComesAfterTheConfigurationThatNamesItIsLoaded(t *testing.T) {
	path := write(t, channelFile("a"))
	w := watch(t, path)
	key := filepath.Join(t.TempDir(), "key")
	must(t, os.WriteFile(path, fmt.Appendf(nil, "signaling: {api_key_file: %s}\nchannels: [{name: b}]\n", key), 0o600))
	eventually(t, "failure", func() bool { return !w.successful() })
	must(t, os.WriteFile(key, []byte("pk_live_two"), 0o600))
	w.expect("b")
}
