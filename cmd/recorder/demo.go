package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"recorder/internal/config"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"recorder/internal/lab/devserver"
	"recorder/internal/lab/member"
	"recorder/internal/remote"
	"recorder/internal/session"
)

func newDemoCommand() *cobra.Command {
	var dir string
	var verbose, asJSON bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it work: no account, network, configuration or tools needed",
		Long: `demo runs a server, the bot and two members with camera and microphone in this process. The members
come, send real VP8 and Opus over WebRTC, and leave; the bot records them. It takes about 15 s, then
prints the files, compares them with what was sent and says how to play them. The files stay.

Everything happens on 127.0.0.1.

Exit codes: 0 every file holds what was sent, 1 one does not or something failed, 2 usage.`,
		Example: `  recorder demo
  recorder demo --dir ./recordings-demo
  recorder demo --json | jq .ok`,
		Args: noArgument,
		RunE: func(cmd *cobra.Command, _ []string) error {
			level := slog.LevelWarn
			if verbose {
				level = slog.LevelDebug
			}
			d := demo{
				dir:     dir,
				program: program,
				out:     newConsole(cmd.OutOrStdout()),
				log:     newLogger(cmd.ErrOrStderr(), "text", level),
			}
			if asJSON {
				d.out, d.json = newConsole(io.Discard), cmd.OutOrStdout()
			}
			return d.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the `directory` to record to (default: a new one for temporary files)")
	cmd.Flags().BoolVar(&verbose, "verbose", false, "log what happens inside")
	addJSONFlag(cmd, &asJSON)
	return cmd
}

const (
	demoChannel = "demo"
	// demoMargin is how long before the first member has sent everything it is looked who is there.
	demoMargin = 500 * time.Millisecond
	// demoPatience is how long joining, or leaving, or writing what was sent, may take.
	demoPatience = 10 * time.Second
)

// demo is one run of the demo.
type demo struct {
	dir     string
	program []appearance
	out     *console
	json    io.Writer // takes the result instead, if not nil
	log     *slog.Logger

	secret string // of the server's only key
	server string // ws://host:port
	app    *App
	bot    string // its peer id

	met     chan struct{} // closed once everyone has been there at the same time; nobody leaves before
	mu      sync.Mutex
	present []*member.Member
	sent    []delivery
}

func (d *demo) run(ctx context.Context) error {
	if d.dir == "" {
		dir, err := os.MkdirTemp("", "recorder-demo-")
		if err != nil {
			return err
		}
		d.dir = dir
	}
	stopServer, err := d.startServer()
	if err != nil {
		return err
	}
	defer stopServer()

	d.app, err = NewApp(AppOptions{Config: d.config(), Logger: d.log, Loopback: true})
	if err != nil {
		return err
	}
	metrics, err := d.play(ctx)
	d.out.Printf("") // in the place of the last status
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), demoPatience)
	defer cancel()
	if err := errors.Join(err, d.app.Stop(stopping)); err != nil {
		d.out.Printf("what was recorded until then is in %s\n", d.dir)
		return err
	}
	return d.review(metrics)
}

// startServer starts the server that everyone meets on.
func (d *demo) startServer() (stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d.server = "ws://" + listener.Addr().String()
	d.secret = "sk_secret_" + rand.Text()
	server := devserver.New(devserver.Options{Secrets: map[string]string{"sk_id_demo": d.secret}, Logger: d.log})
	web := newHTTPServer(server)
	go func() { _ = web.Serve(listener) }() // ends with the server being closed
	return func() {
		server.Close()
		_ = web.Close()
	}, nil
}

// config is what a user would write to config.yaml.
func (d *demo) config() config.Config {
	cfg := config.Default()
	cfg.Signaling = config.SignalingConfig{URL: d.server, SecretKey: config.SecretKeyConfig{ID: "sk_id_demo", Secret: d.secret}}
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.Recordings.Dir, cfg.Recordings.MinFree = d.dir, 0
	options := config.Default().Defaults
	options.ReconnectWindow = 0 // the next demo begins a recording of its own
	cfg.Channels = []config.ChannelConfig{{Name: demoChannel, ChannelOptions: options}}
	return cfg
}

// play runs the program and returns what the metrics said while everyone was there.
func (d *demo) play(ctx context.Context) (metrics []string, err error) {
	if err := d.app.Start(); err != nil {
		return nil, err
	}
	if d.bot, err = d.awaitBot(ctx); err != nil {
		return nil, err
	}
	d.out.Printf("a server on %s, the bot %s in channel %q,\n", d.server, d.bot, demoChannel)
	d.out.Printf("its metrics on http://%s/metrics; members come and go\n\n", d.app.Addr())

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d.met = make(chan struct{})
	start := time.Now()
	var members sync.WaitGroup
	for _, a := range d.program {
		members.Go(func() {
			if err := d.appear(ctx, a, start); err != nil {
				cancel(fmt.Errorf("member %s: %w", a.name, err))
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		members.Wait()
	}()

	last := start.Add(d.program[0].come + d.program[0].play - demoMargin) // just before the first one would leave
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			d.out.Status(now, d.status(now.Sub(start)))
			if metrics != nil || now.Before(last) || !d.everyoneIsHere() {
				continue
			}
			if metrics, err = scrape(ctx, d.app.Addr()); err != nil {
				cancel(err)
			} else {
				close(d.met)
			}
		case <-done:
			if err := context.Cause(ctx); err != nil {
				return metrics, err
			}
			return metrics, d.awaitAlone(ctx)
		}
	}
}

// awaitBot waits until the bot is in the channel and returns its peer id.
func (d *demo) awaitBot(ctx context.Context) (id string, err error) {
	err = d.await(ctx, "the bot did not join in time", func(s session.Status) bool {
		id = s.PeerID
		return s.State == session.StateJoined
	})
	return id, err
}

// everyoneIsHere reports whether the bot is connected to everyone and has written something of every track.
func (d *demo) everyoneIsHere() bool {
	connected := 0
	for _, s := range d.app.set.Status() {
		for _, p := range s.Peers {
			if p.State() == remote.StateConnected {
				connected++
			}
		}
	}
	written := framesWritten(d.app.reg)
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.present {
		if written[streamKind{m.ID(), "video"}] == 0 || written[streamKind{m.ID(), "audio"}] == 0 {
			return false
		}
	}
	return connected == len(d.program) && len(d.present) == len(d.program)
}

// streamKind is the audio or the video of a member.
type streamKind struct{ peer, kind string }

// framesWritten is how much of what is being recorded was written, as it was sent: pictures, or packets of sound.
func framesWritten(reg prometheus.Gatherer) map[streamKind]int {
	written := make(map[streamKind]int)
	families, _ := reg.Gather() // what it has beside an error counts
	for _, f := range families {
		if f.GetName() != "recorder_sink_stream_frames_written_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			var of streamKind
			for _, l := range m.GetLabel() {
				switch l.GetName() {
				case "peer":
					of.peer = l.GetValue()
				case "kind":
					of.kind = l.GetValue()
				}
			}
			written[of] += int(m.GetCounter().GetValue())
		}
	}
	return written
}

// awaitAlone waits until the bot knows that everyone left: stopped before, it
// would record those that went last as silent for their last moment.
func (d *demo) awaitAlone(ctx context.Context) error {
	return d.await(ctx, "the bot did not see the members leave in time", func(s session.Status) bool {
		return len(s.Peers) == 0
	})
}

// await waits until the bot is as wanted; otherwise is the error when it does not come to that.
func (d *demo) await(ctx context.Context, otherwise string, wanted func(session.Status) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, demoPatience, errors.New(otherwise))
	defer cancel()
	for !slices.ContainsFunc(d.app.set.Status(), wanted) {
		if err := sleepUntil(ctx, time.Now().Add(20*time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

// status is how things stand, in a line.
func (d *demo) status(elapsed time.Duration) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	frames := 0
	for _, m := range d.present {
		names = append(names, m.ID())
		for _, s := range d.sentBy(m) {
			frames += s.Frames
		}
	}
	for _, s := range d.sent {
		frames += s.Frames
	}
	return fmt.Sprintf("%4.1f s  here: %-10s  sent: %4d frames and packets  on disk: %4d kB",
		elapsed.Seconds(), strings.Join(names, ", "), frames, bytesBelow(d.dir)/1000)
}

// bytesBelow is the size of all files below dir.
func bytesBelow(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			if info, err := e.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil // what vanishes meanwhile does not count
	})
	return n
}
