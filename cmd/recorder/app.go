package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/pion/webrtc/v4"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"

	"recorder/internal/config"
	"recorder/internal/loglimit"
	"recorder/internal/remote"
	"recorder/internal/session"
	"recorder/internal/signaling"
	"recorder/internal/sink"
)

// App is a recorder: a bot in each configured channel, the files they write and the HTTP server that tells of them. Several can
// live in one process.
type App struct {
	cfg       config.Config                 // as it was when the App was made
	live      atomic.Pointer[config.Config] // as it is now; only what can change meanwhile differs, see Reload
	log       *slog.Logger
	level     *slog.LevelVar
	reg       *prometheus.Registry
	ready     readiness
	web       *http.Server
	addr      net.Addr
	root      *sink.Root
	set       *session.Set
	signaling *signaling.MetricsVec

	failed   chan error // what ended the App before Stop
	cleanups []func(context.Context) error
}

// AppOptions configure an App.
type AppOptions struct {
	Config config.Config // checked, as loadConfig returns it
	Logger *slog.Logger
	// Level, if not nil, is the Logger's, for Reload to set.
	Level *slog.LevelVar
	// Loopback keeps all media on this machine, and works where there is no network.
	Loopback bool
}

// NewApp takes what the recorder needs, the directory and the ports, and undoes it all if one thing is missing. It connects
// to nothing: see Start.
func NewApp(opts AppOptions) (_ *App, err error) {
	a := &App{cfg: opts.Config, level: opts.Level, reg: newRegistry(), failed: make(chan error, 1)}
	a.live.Store(&a.cfg)
	defer func() {
		if err != nil {
			err = errors.Join(err, a.cleanUp(context.Background()))
		}
	}()

	limited, log := loglimit.New(opts.Logger.Handler())
	a.log = log
	a.reg.MustRegister(limited)
	a.onStop(func(context.Context) error {
		limited.Close()
		return nil
	})

	// The first thing taken is the last to go but the log: /readyz tells of a stop until everything else has ended.
	listener, err := net.Listen("tcp", a.cfg.HTTP.Listen)
	if err != nil {
		return nil, fmt.Errorf("http.listen: %w", err)
	}
	a.addr = listener.Addr()
	listener = netutil.LimitListener(listener, httpConnections(sink.DescriptorLimit()))
	a.web = newHTTPServer(nil) // serves at the end of New
	a.onStop(func(ctx context.Context) error {
		stopHTTP(ctx, a.web)
		_ = listener.Close() // an error if it was served, as it is closed then
		return nil
	})

	a.root, err = sink.Open(sink.Options{
		Dir:           a.cfg.Recordings.Dir,
		SyncInterval:  a.cfg.Recordings.SyncInterval,
		ReorderWindow: a.cfg.Recordings.ReorderWindow,
		MinFree:       int64(a.cfg.Recordings.MinFree),
		Logger:        a.log,
		Registerer:    a.reg,
	})
	if err != nil {
		return nil, err
	}
	a.onStop(func(context.Context) error { return a.root.Close() })

	a.ready.space = a.root.Err
	a.recover()
	a.retain()
	a.ready.disk = newDiskProbe(a.cfg.Recordings.Dir, a.log)
	a.reg.MustRegister(a.ready.disk)
	a.background(a.ready.disk.Run)

	api, err := remote.NewAPI(remote.APIOptions{
		OnePort:         true,
		RelayOnly:       a.cfg.WebRTC.ICETransportPolicy == "relay",
		UDPPort:         a.cfg.WebRTC.UDPPort,
		ReadLag:         a.cfg.WebRTC.ReadLag,
		Loopback:        opts.Loopback,
		LoopbackMembers: signaling.OnLoopback(a.cfg.Signaling.URL),
		DenyAddresses:   prefixes(a.cfg.WebRTC.DenyAddresses),
		Logger:          a.log,
		Registerer:      a.reg,
	})
	if err != nil {
		return nil, fmt.Errorf("webrtc: %w", err)
	}
	a.onStop(func(context.Context) error { return api.Close() })

	a.signaling = signaling.NewMetrics(a.reg)
	a.set = session.NewSet(session.Options{
		Root:         a.root,
		API:          api,
		Signaling:    a.newSignaling(),
		ICEServers:   iceServers(a.cfg.WebRTC.ICEServers),
		CloseTimeout: a.cfg.ShutdownTimeout * 9 / 10, // leaves the rest of the time for what is stopped after it
		Logger:       a.log,
	})
	a.reg.MustRegister(a.set)
	a.onStop(a.leave)

	a.ready.channels = a.channels
	a.web.Handler = newHandler(a.reg, &a.ready, a.cfg.HTTP.Pprof, a.log)
	a.web.ErrorLog = slog.NewLogLogger(a.log.Handler(), slog.LevelDebug)
	go func() {
		if err := serveHTTP(a.web, listener, a.cfg.HTTP.WebConfigFile, a.log); !errors.Is(err, http.ErrServerClosed) {
			a.failed <- fmt.Errorf("http server: %w", err)
		}
	}()
	return a, nil
}

// Start joins the channels. A channel that cannot be joined now is tried again; only a configuration that can never work
// is an error.
func (a *App) Start() error {
	if err := a.set.Apply(sessionConfigs(&a.cfg)); err != nil {
		return err
	}
	a.ready.loaded.Store(true)
	a.log.Info("recorder started", "channels", len(a.cfg.Channels), "recordings", a.cfg.Recordings.Dir, "http", a.addr.String())
	return nil
}

// sessionConfigs is what cfg says of each channel.
func sessionConfigs(cfg *config.Config) []session.Config {
	configs := make([]session.Config, 0, len(cfg.Channels))
	for _, c := range cfg.Channels {
		configs = append(configs, session.Config{
			Channel:         c.Name,
			Bot:             cfg.Bot.Name,
			ReconnectWindow: c.ReconnectWindow,
			SkipAudio:       !c.Audio,
			SkipVideo:       !c.Video,
			Roles:           c.Roles,
			AloneTimeout:    c.LeaveWhenAlone,
			MaxDuration:     c.MaxDuration,
			MaxSize:         int64(c.MaxSize),
			MaxMembers:      c.MaxMembers,
			MaxStreams:      c.MaxStreams,
			Start:           c.StartAt,
			Stop:            c.StopAt,
		})
	}
	return configs
}

// Stop leaves the channels, finalises the files and gives everything back, last taken first. It returns when that is done or,
// with an error, when ctx ends.
func (a *App) Stop(ctx context.Context) error {
	a.ready.draining.Store(true)
	return a.cleanUp(ctx)
}

// Failed receives what made the App stop working, if anything does.
func (a *App) Failed() <-chan error { return a.failed }

// Addr is where /metrics, /healthz and /readyz are served.
func (a *App) Addr() net.Addr { return a.addr }

// onStop registers what undoes the step just done.
func (a *App) onStop(undo func(context.Context) error) { a.cleanups = append(a.cleanups, undo) }

// background runs f until Stop.
func (a *App) background(f func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(ctx)
	}()
	a.onStop(func(ctx context.Context) error {
		cancel()
		return wait(ctx, done)
	})
}

func (a *App) cleanUp(ctx context.Context) error {
	var errs []error
	for _, undo := range slices.Backward(a.cleanups) {
		errs = append(errs, undo(ctx))
	}
	a.cleanups = nil
	return errors.Join(errs...)
}

func (a *App) leave(ctx context.Context) error {
	done := make(chan struct{})
	var lost error
	go func() {
		defer close(done)
		lost = a.set.Close()
	}()
	if err := wait(ctx, done); err != nil {
		return fmt.Errorf("leave the channels: %w", err)
	}
	return lost
}

// wait returns nil once done is closed.
func wait(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// channels is the state of every channel as /readyz shows it.
func (a *App) channels() []ChannelStatus {
	var all []ChannelStatus
	for _, s := range a.set.Status() {
		status := ChannelStatus{Channel: s.Channel, State: s.State.String(), Peers: len(s.Peers)}
		if s.Err != nil {
			status.Error = s.Err.Error()
		}
		if s.Unrecorded != nil && !errors.Is(s.Unrecorded, sink.ErrDiskFull) { // which is said for all
			status.unrecorded = s.Unrecorded
		}
		all = append(all, status)
	}
	return all
}

// newSignaling returns what makes the client of a channel. All clients share their metrics and the service's limit on
// connects, and each has a peer id of its own.
func (a *App) newSignaling() func(channel string) (*signaling.Client, error) {
	salt := newProcessSalt()
	connects := signaling.NewConnectLimiter()
	renewals := &signaling.Renewals{}
	return func(channel string) (*signaling.Client, error) {
		peerID := salt.peerID(a.cfg.Bot.Name, channel)
		credential := liveCredential(func() (signaling.Credential, error) {
			cfg := a.live.Load()
			return config.NewCredential(cfg.Signaling, cfg.Bot, peerID, channel)
		})
		if _, err := credential(); err != nil {
			return nil, err
		}
		return signaling.NewClient(signaling.Options{
			URL:        a.cfg.Signaling.URL,
			Credential: credential,
			Connects:   connects,
			Renewals:   renewals,
			Metrics:    a.signaling.Channel(channel),
			Logger:     a.log.With("channel", channel),
		})
	}
}

// prefixes reads networks that were checked.
func prefixes(texts []string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func iceServers(servers []config.ICEServerConfig) []webrtc.ICEServer {
	var all []webrtc.ICEServer
	for _, s := range servers {
		all = append(all, webrtc.ICEServer{URLs: s.URLs, Username: s.Username, Credential: s.Credential})
	}
	return all
}
