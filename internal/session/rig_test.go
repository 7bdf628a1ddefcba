package session

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/logging"
	"github.com/pion/transport/v5/vnet"
	"github.com/pion/webrtc/v4"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"recorder/internal/lab/devserver"
	"recorder/internal/lab/member"
	"recorder/internal/lab/tape"
	"recorder/internal/remote"
	"recorder/internal/signaling"
	"recorder/internal/sink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	channel  = "room-42"
	keyID    = "sk_id_test"
	secret   = "sk_secret_test"
	aWindow  = 10 * time.Second // the reconnect window of tests
	settling = 2 * time.Second  // joining, negotiating, and a first key frame
)

// rig is a bot in a channel, everything around it real but the network, which
// is in memory, and time, which passes only when everyone waits.
type rig struct {
	t      *testing.T
	dir    string
	server *devserver.Server
	http   *http.Client
	router *vnet.Router
	hosts  int
	cut    atomic.Bool // nothing gets through the network
	reg    *prometheus.Registry
	wire   *signaling.MetricsVec
	dead   sync.Map // addresses nothing gets to or from, as text
	api    *remote.API
	root   *sink.Root
	set    *Set
	log    *slog.Logger
	stops  []func()

	referee   referee
	tape      tape.Tape
	recording string        // its directory, once finished
	move      func()        // has alice change networks
	ttl       time.Duration // of the bot's tokens, if not an hour
	renewals  signaling.Renewals
}

// inRig runs a test in a bubble of its own.
func inRig(t *testing.T, options devserver.Options, test func(r *rig)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, dir, options)
		defer r.close()
		test(r)
	})
	checkFiles(t, dir)
}

func newRig(t *testing.T, dir string, options devserver.Options) *rig {
	options.Secrets = map[string]string{keyID: secret}
	options.Limits.Connects = -1
	r := &rig{
		t: t, dir: dir, server: devserver.New(options), reg: prometheus.NewRegistry(), log: slog.New(slog.DiscardHandler),
		referee: referee{t: t},
	}
	if testing.Verbose() {
		r.log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	r.wire = signaling.NewMetrics(r.reg)
	listener := newPipeListener()
	web := &http.Server{Handler: r.server}
	go web.Serve(listener)
	r.http = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: listener.dial}}
	r.defers(func() { r.server.Close(); web.Close() })

	networks.Lock()
	router, err := vnet.NewRouter(&vnet.RouterConfig{CIDR: "10.0.0.0/24", LoggerFactory: logging.NewDefaultLoggerFactory()})
	networks.Unlock()
	r.must(err)
	r.router = router
	router.AddChunkFilter(r.passes)
	r.defers(func() { router.Stop() })

	api, err := remote.NewAPI(remote.APIOptions{Logger: r.log, Settings: r.host(), Registerer: r.reg})
	r.must(err)
	r.api = api
	r.must(router.Start())

	root, err := sink.Open(sink.Options{Dir: dir, Logger: r.log, Registerer: r.reg})
	r.must(err)
	r.root = root
	r.defers(func() { root.Close() })
	return r
}

// start runs the bot, with a token whose peer id in the test's channel is
// "recorder" or, without one, with a key.
func (r *rig) start(token bool) { r.begin(token, aWindow) }

// startWith has a reconnect window of the test's own.
func (r *rig) startWith(window time.Duration) { r.begin(true, window) }

func (r *rig) begin(token bool, window time.Duration) {
	if r.set != nil {
		r.reg.Unregister(r.set)
	}
	r.set = NewSet(r.options(token))
	r.reg.MustRegister(r.set)
	soon := time.Now().Add(time.Millisecond) // the referee is there by then
	r.must(r.set.Apply([]Config{{Channel: channel, Bot: "recorder", ReconnectWindow: window, Start: soon}}))
	r.referee.watch(r.set.sessions[channel].Session)
}

// options are those of every session of the test.
func (r *rig) options(token bool) Options {
	return Options{
		Root: r.root, API: r.api, Logger: r.log,
		Signaling: func(name string) (*signaling.Client, error) {
			credential := r.key()
			if token && name == channel {
				credential = r.shortToken("recorder", cmp.Or(r.ttl, time.Hour))
			} else if token {
				credential = r.token("recorder-" + name)
			}
			return signaling.NewClient(signaling.Options{
				URL: "ws://127.0.0.1", Credential: credential, HTTPClient: r.http, Logger: r.log, Metrics: r.wire.Channel(name),
				Renewals: &r.renewals,
			})
		},
	}
}

func (r *rig) key() signaling.Credential {
	c, err := signaling.PublishableKey("pk_live_test")
	r.must(err)
	return c
}

func (r *rig) token(id string) signaling.Credential { return r.shortToken(id, time.Hour) }

// shortToken is a credential whose tokens live for ttl.
func (r *rig) shortToken(id string, ttl time.Duration) signaling.Credential {
	c, err := signaling.NewSecretKey(signaling.SecretKeyOptions{
		ID: keyID, Secret: secret, PeerID: id, Channels: []string{"*"}, TTL: ttl,
		Permissions:  []string{"publish", "subscribe", "presence", "send"},
		PeerMetadata: map[string]any{"name": id},
	})
	r.must(err)
	return c
}

// join has a member join that plays a camera stream of picture and sound.
func (r *rig) join(credential signaling.Credential, stream string) *member.Member {
	return r.joinFrom(r.host(), credential, camera(stream)...)
}

// joinFrom has one join from a host, with tracks of the test's own.
func (r *rig) joinFrom(host func(*webrtc.SettingEngine), credential signaling.Credential, tracks ...member.Track) *member.Member {
	for i := range tracks {
		tracks[i] = r.tape.Record(tracks[i])
	}
	m, err := member.Join(context.Background(), member.Options{
		URL: "ws://127.0.0.1", Credential: credential, Channel: channel, HTTPClient: r.http, Settings: host, Tracks: tracks,
	})
	r.must(err)
	r.defers(m.Leave)
	return m
}

func camera(stream string) []member.Track {
	role := map[string]any{"role": "camera"}
	return []member.Track{
		{StreamID: stream, TrackID: stream + "-audio", MimeType: webrtc.MimeTypeOpus, Source: member.Sound(), Metadata: role},
		{StreamID: stream, TrackID: stream + "-video", MimeType: webrtc.MimeTypeVP8, Source: member.Picture(), Metadata: role},
	}
}

// finish leaves the channel and returns the recording's manifest.
func (r *rig) finish() sink.Manifest {
	r.set.Close()
	r.set = nil
	found, _ := filepath.Glob(filepath.Join(r.dir, "*", "*", sink.ManifestName))
	if len(found) != 1 {
		r.t.Fatalf("want one recording, have %v", found)
	}
	r.recording = filepath.Dir(found[0])
	data, err := os.ReadFile(found[0])
	r.must(err)
	var m sink.Manifest
	r.must(json.Unmarshal(data, &m))
	return m
}

func (r *rig) defers(stop func()) { r.stops = append(r.stops, stop) }

func (r *rig) close() {
	if r.set != nil {
		r.set.Close()
	}
	r.api.Close()
	for i := len(r.stops) - 1; i >= 0; i-- {
		r.stops[i]()
	}
}

func (r *rig) must(err error) {
	if err != nil {
		r.t.Helper()
		r.t.Fatal(err)
	}
}
