package main

import (
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"recorder/internal/config"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"recorder/internal/e2e"
	"recorder/internal/lab/devserver"
	"recorder/internal/sink"
)

// The credentials of these tests; none of them may appear in what the recorder prints or serves.
const (
	testSecret      = "sk_secret_TOPSECRET"
	testWrongSecret = "sk_secret_TOPSECRET_wrong"
	testKey         = "pk_live_TOPSECRET"
)

// startDevserver returns the address of a server that knows testSecret.
func startDevserver(t testing.TB) string {
	t.Helper()
	server := devserver.New(devserver.Options{Secrets: map[string]string{"sk_id_1": testSecret}})
	web := httptest.NewServer(server)
	t.Cleanup(func() {
		server.Close()
		web.Close()
	})
	return "ws://" + web.Listener.Addr().String()
}

func testConfig(t testing.TB, url, secret string, channels ...string) config.Config {
	t.Helper()
	cfg := config.Default()
	cfg.Signaling = config.SignalingConfig{URL: url, SecretKey: config.SecretKeyConfig{ID: "sk_id_1", Secret: secret}}
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.Recordings.MinFree = 0
	cfg.Recordings.Dir = filepath.Join(t.TempDir(), "recordings")
	cfg.Channels = nil
	for _, name := range channels {
		cfg.Channels = append(cfg.Channels, config.ChannelConfig{Name: name, ChannelOptions: config.Default().Defaults})
	}
	return cfg
}

// startApp runs an App until the test ends, and checks then that it never showed a credential.
func startApp(t testing.TB, cfg config.Config) *App {
	t.Helper()
	_, app := startLoggedApp(t, cfg)
	return app
}

// startLoggedApp is startApp, and returns what the App logs.
func startLoggedApp(t testing.TB, cfg config.Config) (*e2e.Buffer, *App) {
	t.Helper()
	log := new(e2e.Buffer)
	app, err := NewApp(AppOptions{Config: cfg, Logger: newLogger(log, "text", slog.LevelDebug), Loopback: true})
	if err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceValue(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		return app.Stop(ctx)
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
		if strings.Contains(log.String(), "TOPSECRET") {
			t.Errorf("the log holds a credential:\n%s", log.String())
		}
		if t.Failed() {
			t.Logf("log:\n%s", log.String())
		}
	})
	if err := app.Start(); err != nil {
		t.Fatal(err)
	}
	return log, app
}

// readyz returns what the App says of itself.
func readyz(t *testing.T, app *App) (status int, r Readiness) {
	t.Helper()
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + app.Addr().String() + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(body), "TOPSECRET") {
		t.Errorf("/readyz holds a credential: %s", body)
	}
	if err := json.Unmarshal(body, &r); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, r
}

// await polls /readyz until every channel is in the wanted state, and returns it.
func await(t *testing.T, app *App, state string) Readiness {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		_, r := readyz(t, app)
		in := 0
		for _, c := range r.Channels {
			if c.State == state {
				in++
			}
		}
		if r.Ready && in == len(r.Channels) && in > 0 {
			return r
		}
		if time.Now().After(deadline) {
			t.Fatalf("no channel became %s: %+v", state, r)
		}
	}
}

func TestAppJoinsEveryChannelUnderAPeerIDOfItsOwn(t *testing.T) {
	app := startApp(t, testConfig(t, startDevserver(t), testSecret, "a", "b"))
	await(t, app, "joined")
	ids := map[string]bool{}
	for _, s := range app.set.Status() {
		if !strings.HasPrefix(s.PeerID, "recorder-") {
			t.Errorf("peer id %q", s.PeerID)
		}
		ids[s.PeerID] = true
	}
	if len(ids) != 2 {
		t.Errorf("peer ids %v", ids)
	}
}

func TestPeerIDIsStableInAProcessAndDiffersBetweenThem(t *testing.T) {
	one, other := newProcessSalt(), newProcessSalt()
	id := one.peerID("bot", "a")
	if again := one.peerID("bot", "a"); again != id {
		t.Errorf("first %s, then %s", id, again)
	}
	if id == one.peerID("bot", "b") {
		t.Error("the same in two channels")
	}
	if id == other.peerID("bot", "a") {
		t.Error("the same in two processes")
	}
}

func TestHostileChannelNameStaysInsideTheRecordingsDirectory(t *testing.T) {
	const name = "../../etc/x"
	cfg := testConfig(t, startDevserver(t), testSecret, name)
	app := startApp(t, cfg)
	await(t, app, "joined")
	var manifests []string
	above := filepath.Dir(filepath.Dir(cfg.Recordings.Dir))
	find := func() error {
		return filepath.WalkDir(above, func(path string, _ fs.DirEntry, err error) error {
			if filepath.Base(path) == sink.ManifestName {
				manifests = append(manifests, path)
			}
			return err
		})
	}
	err := find()
	for until := time.Now().Add(10 * time.Second); len(manifests) == 0 && time.Now().Before(until); err = find() {
		time.Sleep(10 * time.Millisecond) // the recording begins a moment after the bot has joined
	}
	if err != nil || len(manifests) != 1 || !strings.HasPrefix(manifests[0], cfg.Recordings.Dir+string(filepath.Separator)) {
		t.Fatalf("manifests %v, %v", manifests, err)
	}
	f, err := os.Open(manifests[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if m, err := sink.DecodeManifest(f); err != nil || m.Channel != name {
		t.Errorf("the manifest says %+v, %v", m, err)
	}
}

func TestWrongKeyFailsTheChannelAndNotTheProcess(t *testing.T) {
	app := startApp(t, testConfig(t, startDevserver(t), testWrongSecret, "a"))
	r := await(t, app, "failed")
	if why := r.Channels[0].Error; !strings.Contains(why, "4001") {
		t.Errorf("got %q", why)
	}
	if err := healthcheck(t.Context(), config.HTTPConfig{Listen: app.Addr().String()}); err != nil {
		t.Error(err)
	}
}

func TestRefusedConnectionIsTriedAgainUntilTheServiceIsThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	cfg := testConfig(t, "ws://"+address, "", "a")
	cfg.Signaling.SecretKey = config.SecretKeyConfig{}
	cfg.Signaling.APIKey = testKey
	app := startApp(t, cfg)
	await(t, app, "joining")

	if l, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	server := devserver.New(devserver.Options{})
	web := newHTTPServer(server)
	go func() { _ = web.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		web.Close()
	})
	await(t, app, "joined")
	if n, err := testutil.GatherAndCount(app.reg, "recorder_signaling_reconnects_total"); err != nil || n == 0 {
		t.Errorf("no attempt was refused: %v", err)
	}
}

func TestWhatCannotBeTakenIsOneClearErrorAndLeavesNothingBehind(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		breaks func(*config.Config)
		want   string
	}{
		{"directory below a file", func(c *config.Config) { c.Recordings.Dir = filepath.Join(file, "x") },
			`recordings directory "` + file + `/x": `},
		{"directory is a file", func(c *config.Config) { c.Recordings.Dir = file }, `recordings directory "` + file + `": `},
		{"address taken", func(c *config.Config) { c.HTTP.Listen = taken.Addr().String() },
			"http.listen: listen tcp " + taken.Addr().String() + ": bind: address already in use"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := testConfig(t, "ws://127.0.0.1:1", testSecret, "a")
			tt.breaks(&cfg)
			_, err := NewApp(AppOptions{Config: cfg, Logger: slog.New(slog.DiscardHandler)})
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "TOPSECRET") {
				t.Errorf("got  %v\nwant %s…", err, tt.want)
			}
		})
	}
}

func TestRunStopsWhenAskedAndFinalisesItsFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "recordings")
	config := write(t, `
signaling: {url: '`+startDevserver(t)+`', api_key: `+testKey+`}
http: {listen: '127.0.0.1:0'}
recordings: {dir: '`+dir+`'}
channels: [{name: a}]
`)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { // a signal, as soon as the channel is being recorded
		for found := []string(nil); len(found) == 0 && ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
			found, _ = filepath.Glob(filepath.Join(dir, "*", "*", sink.ManifestName))
		}
		cancel()
	}()
	code, _, stderr := try(t, ctx, "run", "-c", config)
	if code != exitOK || strings.Contains(stderr, "TOPSECRET") {
		t.Errorf("exit code %d:\n%s", code, stderr)
	}
	report, err := sink.Verify(t.Context(), dir, nil)
	if err != nil || !report.OK || len(report.Recordings) != 1 || report.Recordings[0].State != sink.StateComplete {
		t.Errorf("got %+v, %v", report, err)
	}
}

func TestRunFailsIfARecordingCannotBeFinalised(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "recordings")
	config := write(t, `
signaling: {url: '`+startDevserver(t)+`', api_key: `+testKey+`}
http: {listen: '127.0.0.1:0'}
recordings: {dir: '`+dir+`'}
channels: [{name: a}]
`)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stderr e2e.Buffer
	go func() {
		for ; ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
			if strings.Contains(stderr.String(), "recording began") {
				channel := filepath.Join(dir, "a")
				if os.RemoveAll(channel) == nil && os.WriteFile(channel, nil, 0o600) == nil { // or something was written there meanwhile
					cancel() // nothing can be written there any more, and no other directory be made
				}
			}
		}
	}()
	code := execute(ctx, []string{"run", "-c", config}, io.Discard, &stderr)
	if code != exitFailed || !strings.Contains(stderr.String(), "recorder: could not finalise the recording: ") {
		t.Errorf("exit code %d:\n%s", code, stderr.String())
	}
}

func TestRunOutlivesTheReaderOfItsLog(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "recordings")
	config := write(t, `
signaling: {url: '`+startDevserver(t)+`', api_key: `+testKey+`}
http: {listen: '127.0.0.1:0'}
recordings: {dir: '`+dir+`'}
channels: [{name: a}]
`)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "run", "-c", config)
	cmd.Env = append(os.Environ(), mainEnv+"=1")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stderr.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	stderr.Close()
	eventually(t, "recording", func() bool { // which is logged after it began
		found, _ := filepath.Glob(filepath.Join(dir, "*", "*", sink.ManifestName))
		return len(found) > 0
	})
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestStopTellsReadyzFirst(t *testing.T) {
	app := startApp(t, testConfig(t, startDevserver(t), testSecret, "a"))
	await(t, app, "joined")
	app.ready.draining.Store(true) // the first thing that Stop does
	if status, r := readyz(t, app); status != http.StatusServiceUnavailable || len(r.Reasons) != 1 || r.Reasons[0] != "draining" {
		t.Errorf("got %d, %+v", status, r)
	}
}
