package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"recorder/internal/config"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"recorder/internal/e2e"
	"recorder/internal/sink"
)

// eventually polls until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 30 s", what)
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

	cfg.Channels = []config.ChannelConfig{cfg.Channels[0], {Name: "comes", ChannelOptions: config.Default().Defaults}}
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
	read    config.Contents // when the file was first loaded
	applied chan string     // names of the channel
	failing error           // what applying returns, after it has noted the name
	during  func()          // if not nil, happens while a configuration is applied, between loading it and watching its files
	log     e2e.Buffer
	hangups chan os.Signal
}

func channelFile(name string) string {
	return fmt.Sprintf("signaling: {api_key: pk_live_x}\nchannels: [{name: %s}]\n", name)
}

// unwatched loads the file at path, which begin watches.
func unwatched(t *testing.T, path string) *watched {
	t.Helper()
	_, read, err := config.LoadFiles(path)
	must(t, err)
	return &watched{t: t, path: path, read: read, reg: prometheus.NewRegistry(), applied: make(chan string, 16), hangups: make(chan os.Signal)}
}

func (w *watched) begin() {
	w.t.Helper()
	watcher, err := newWatcher(w.path, w.read, w.reg, func(cfg config.Config) error {
		if w.during != nil {
			w.during()
		}
		w.applied <- cfg.Channels[0].Name
		return w.failing
	}, newLogger(&w.log, "text", slog.LevelInfo))
	must(w.t, err)
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		watcher.Run(ctx, w.hangups)
	}()
	w.t.Cleanup(func() {
		cancel()
		<-done
	})
}

func watch(t *testing.T, path string) *watched {
	t.Helper()
	w := unwatched(t, path)
	w.begin()
	return w
}

// replace puts a file in the place of another at once: one that is written in place may be loaded while it is empty.
func replace(t testing.TB, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path+".new", []byte(text), 0o600))
	must(t, os.Rename(path+".new", path))
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
	case <-time.After(30 * time.Second):
		w.t.Fatalf("%q was not applied within 30 s", name)
	}
	eventually(w.t, "success", w.successful)
}

func TestAFileWrittenInPlaceOrReplacedIsLoaded(t *testing.T) {
	path := write(t, channelFile("a"))
	w := watch(t, path)
	must(t, os.WriteFile(path, []byte(channelFile("b")), 0o600))
	w.expect("b")
	replace(t, path, channelFile("c"))
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
	replace(t, path, channelFile("b"))
	w.expect("b")
	if len(w.applied) != 0 {
		t.Error("applied more than once")
	}
}

func TestOtherFilesAreNoReasonToReloadAfterAReloadThatNamedAFile(t *testing.T) {
	key := secretFile(t, "pk_live_one")
	path := write(t, channelFile("a"))
	w := watch(t, path)
	replace(t, path, "signaling: {api_key_file: "+key+"}\nchannels: [{name: b}]\n")
	w.expect("b")
	must(t, os.WriteFile(path+"~", nil, 0o600))
	time.Sleep(2 * reloadPause)
	replace(t, path, channelFile("c"))
	w.expect("c")
}

func TestAChangeBeforeTheFileIsWatchedIsLoaded(t *testing.T) {
	path := write(t, channelFile("a"))
	w := unwatched(t, path)
	replace(t, path, channelFile("b"))
	w.begin()
	w.expect("b")
}

func TestAFileThatChangesBeforeItIsWatchedIsLoadedAgain(t *testing.T) {
	key := secretFile(t, "pk_live_one")
	path := write(t, channelFile("a"))
	w := unwatched(t, path)
	w.during = sync.OnceFunc(func() { replace(t, key, "pk_live_two") })
	w.begin()
	replace(t, path, "signaling: {api_key_file: "+key+"}\nchannels: [{name: b}]\n")
	w.expect("b")
	w.expect("b")
}

// A pipe, such as a shell's <(…), is empty once it was read.
func TestAPipeIsReadOnce(t *testing.T) {
	r, pipe, err := os.Pipe()
	must(t, err)
	defer r.Close()
	_, err = pipe.WriteString(channelFile("a"))
	must(t, err)
	must(t, pipe.Close())
	w := unwatched(t, fmt.Sprintf("/dev/fd/%d", r.Fd()))
	if len(w.read) != 0 || w.read.Changed() {
		t.Errorf("kept %q", w.read)
	}
}

func TestWhatCouldNotBePutInForceIsToldFromWhatCouldNotBeLoaded(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"not put in force", channelFile("b"), `msg="configuration reloaded, but not every channel could be made what it says" why="file changed" err=refused`},
		{"not loaded", "signaling: {api_key: pk_live_x}\n", `msg="configuration not reloaded, the one before stays in force" why="file changed" err=`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, channelFile("a"))
			w := unwatched(t, path)
			w.failing = errors.New("refused")
			w.begin()
			replace(t, path, tt.text)
			eventually(t, "an error is logged", func() bool { return strings.Contains(w.log.String(), "level=ERROR") })
			if log := w.log.String(); !strings.Contains(log, tt.want) || strings.Count(log, "\n") != 1 {
				t.Errorf("got  %s\nwant %s", log, tt.want)
			}
			if w.successful() {
				t.Error("a success")
			}
		})
	}
}

func TestHangupReloadsWhateverChanged(t *testing.T) {
	w := watch(t, write(t, channelFile("a")))
	w.hangups <- syscall.SIGHUP
	w.expect("a")
}

// settable is a gauge of which a test is told before it is set.
type settable struct {
	prometheus.Gauge
	setting func()
}

func (s settable) Set(v float64) {
	s.setting()
	s.Gauge.Set(v)
}

// Whoever reads a success reads its time, too.
func TestTheTimeOfAReloadIsThereBeforeItsSuccess(t *testing.T) {
	w := watcher{succeeded: prometheus.NewGauge(prometheus.GaugeOpts{Name: "succeeded"})}
	w.successful = settable{prometheus.NewGauge(prometheus.GaugeOpts{Name: "successful"}), func() {
		if testutil.ToFloat64(w.succeeded) == 0 {
			t.Error("a success without a time")
		}
	}}
	w.accept()
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
	defer cancel()
	var log e2e.Buffer
	done := make(chan int, 1)
	go func() { done <- execute(ctx, []string{"run", "-c", path}, io.Discard, &log) }()
	eventually(t, "a is recorded", recorded("a"))
	replace(t, path, head+"channels: [{name: a}, {name: b}]\n")
	eventually(t, "b is recorded", recorded("b"))
	must(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	eventually(t, "the signal is handled", func() bool { return strings.Contains(log.String(), "why=signal") })
	cancel()
	code, out := <-done, log.String()
	if code != exitOK || strings.Count(out, `why="file changed"`) != 1 || strings.Count(out, "why=signal") != 1 {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if !recorded("a")() {
		t.Error("a was begun anew")
	}
}

// held is a buffer that waits with the line of a failed reload.
type held struct {
	e2e.Buffer
	reached, release chan struct{}
}

func (h *held) Write(p []byte) (int, error) {
	if strings.Contains(string(p), "not reloaded") {
		close(h.reached)
		<-h.release
	}
	return h.Buffer.Write(p)
}

func TestAStopWaitsForAReloadThatIsUnderWay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "recordings")
	path := write(t, "signaling: {url: 'ws://127.0.0.1:1', api_key: "+testKey+"}\nhttp: {listen: '127.0.0.1:0'}\n"+
		"recordings: {dir: '"+dir+"'}\nshutdown_timeout: 1m\nlog: {level: error}\nchannels: [{name: a}]\n")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log := held{reached: make(chan struct{}), release: make(chan struct{})}
	done := make(chan int, 1)
	go func() { done <- execute(ctx, []string{"run", "-c", path}, io.Discard, &log) }()
	eventually(t, "the recorder runs", func() bool { _, err := os.Stat(dir); return err == nil })
	replace(t, path, "channels: []\n")
	<-log.reached
	cancel()
	select {
	case <-done:
		t.Error("it has not waited")
		close(log.release)
		eventually(t, "the reload ends", func() bool { return log.String() != "" })
	case <-time.After(500 * time.Millisecond): // many times what the stop takes
		close(log.release)
		if code := <-done; code != exitOK || !strings.Contains(log.String(), "not reloaded") {
			t.Errorf("exit code %d\n%s", code, log.String())
		}
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
