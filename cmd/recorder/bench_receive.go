package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/nack"
	"github.com/pion/interceptor/pkg/report"
	"github.com/pion/webrtc/v4"

	"recorder/internal/member"
	"recorder/internal/signaling"
	"recorder/internal/sink"
)

const (
	// benchSettle is how long a receiver runs, at least, with everyone connected before it is measured. For long ones it is a
	// part of the duration, so that the collector has run and growth is not that of a heap which is filled for the first time.
	benchSettle = 3 * time.Second
	settlePart  = 5
	// benchPatience is how long connecting to everyone may take.
	benchPatience = time.Minute
)

// benchReceiver is what a turn measures.
type benchReceiver interface {
	// count says how much came so far.
	count() (benchCount, error)
	// stop ends it, and adds what only then is known.
	stop(*benchTurn) error
}

// benchCount is what a receiver received.
type benchCount struct {
	tracks  int // that have delivered something
	packets uint64
	lost    int64
	reads   float64 // system calls that read from sockets, 0 if not counted
	read    float64 // datagrams they brought
	drops   float64 // by the kernel
	writes  float64 // to media files
}

// runBenchReceiver is one turn of one receiver, in this process.
func runBenchReceiver(ctx context.Context, o benchOptions, stdout, stderr io.Writer) error {
	var r benchReceiver
	var err error
	if o.role == benchRecorder {
		tuneRuntime(ctx)
		r, err = newRecordingReceiver(o.url, stderr)
	} else {
		r, err = newDiscardReceiver(ctx, o.url, o.role == benchDiscardMin)
	}
	if err != nil {
		return err
	}
	turn, err := measure(ctx, o, r)
	if err := errors.Join(err, r.stop(&turn)); err != nil {
		return err
	}
	turn.Receiver = o.role
	return printJSON(stdout, turn)
}

// measure waits until everyone is there, and then for the time to be measured.
func measure(ctx context.Context, o benchOptions, r benchReceiver) (turn benchTurn, err error) {
	connecting, cancel := context.WithTimeoutCause(ctx, benchPatience, errors.New("not everyone could be connected in time"))
	defer cancel()
	for {
		c, err := r.count()
		if err != nil {
			return turn, err
		}
		if c.tracks >= 2*o.peers {
			break
		}
		if err := sleepUntil(connecting, time.Now().Add(100*time.Millisecond)); err != nil {
			return turn, fmt.Errorf("%w: %d of %d tracks", err, c.tracks, 2*o.peers)
		}
	}
	if err := sleepUntil(ctx, time.Now().Add(max(o.settle, o.duration/settlePart))); err != nil {
		return turn, err
	}
	before, err := r.count()
	if err != nil {
		return turn, err
	}
	from := usageNow()
	if err := sleepUntil(ctx, time.Now().Add(o.duration)); err != nil {
		return turn, err
	}
	to := usageNow()
	after, err := r.count()
	if err != nil {
		return turn, err
	}
	packets := float64(after.packets - before.packets)
	streams := float64(o.peers) * to.at.Sub(from.at).Seconds()
	turn = benchTurn{
		CPU:         (to.cpu - from.cpu).Seconds() / (streams / 60),
		RSS:         to.peak,
		RSSGrowth:   int64(to.rss) - int64(from.rss),
		Packets:     after.packets - before.packets,
		Lost:        after.lost,
		Allocs:      float64(to.allocs-from.allocs) / packets,
		AllocBytes:  float64(to.allocated-from.allocated) / packets,
		Writes:      (after.writes - before.writes) / streams,
		KernelDrops: after.drops,
	}
	if after.read > before.read {
		turn.Reads = (after.reads - before.reads) / (after.read - before.read)
	}
	return turn, nil
}

// recordingReceiver is the recorder.
type recordingReceiver struct {
	app *App
	dir string
}

func newRecordingReceiver(url string, stderr io.Writer) (_ *recordingReceiver, err error) {
	dir, err := os.MkdirTemp("", "recorder-bench-")
	if err != nil {
		return nil, err
	}
	cfg := defaultConfig()
	cfg.Signaling = SignalingConfig{URL: url, APIKey: "pk_live_bench"}
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.Recordings.Dir = dir
	cfg.Channels = []ChannelConfig{{Name: benchChannel, ChannelOptions: cfg.Defaults}}
	app, err := NewApp(AppOptions{Config: cfg, Loopback: true, Logger: newLogger(stderr, "text", slog.LevelWarn)})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	r := &recordingReceiver{app: app, dir: dir}
	if err := app.Start(); err != nil {
		return nil, errors.Join(err, r.stop(new(benchTurn)))
	}
	return r, nil
}

func (r *recordingReceiver) count() (c benchCount, err error) {
	families, err := r.app.reg.Gather()
	if err != nil {
		return c, err
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			value := m.GetGauge().GetValue() + m.GetCounter().GetValue()
			switch strings.TrimSuffix(f.GetName(), "_total") {
			case "recorder_remote_peer_rtp_packets_received":
				c.packets += uint64(value)
				if value > 0 {
					c.tracks++
				}
			case "recorder_remote_peer_rtp_packets_lost":
				c.lost += int64(value)
			case "recorder_remote_socket_reads":
				c.reads += value
			case "recorder_remote_socket_datagrams":
				c.read += value
			case "recorder_remote_socket_dropped_datagrams":
				c.drops += value
			case "recorder_sink_writes":
				c.writes += value
			}
		}
	}
	return c, nil
}

func (r *recordingReceiver) stop(turn *benchTurn) error {
	ctx, cancel := context.WithTimeout(context.Background(), benchPatience)
	defer cancel()
	err := errors.Join(r.app.Stop(ctx), r.review(turn))
	return errors.Join(err, os.RemoveAll(r.dir))
}

// review adds what the manifest says.
func (r *recordingReceiver) review(turn *benchTurn) error {
	found, err := filepath.Glob(filepath.Join(r.dir, "*", "*", sink.ManifestName))
	if err != nil {
		return err
	}
	for _, path := range found {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		m, err := sink.DecodeManifest(f)
		_ = f.Close()
		if err != nil {
			return err
		}
		for _, s := range m.Streams {
			for _, t := range s.Tracks {
				turn.GapPackets += int64(t.Ledger.Lost)
				if t.Kind == "video" {
					turn.FramesWritten += t.Ledger.FramesWritten
					turn.FramesMissing += t.Ledger.FramesDropped
				}
			}
		}
	}
	return nil
}

// discardReceiver is a member that reads what the others send, and drops it.
type discardReceiver struct {
	member *member.Member
	socket net.PacketConn // of discard-min

	mu     sync.Mutex
	tracks []*discardedTrack
}

func newDiscardReceiver(ctx context.Context, url string, minimal bool) (*discardReceiver, error) {
	d := &discardReceiver{}
	settings := benchSettings()
	api := webrtc.NewAPI(webrtc.WithSettingEngine(settings))
	read := (*discardedTrack).readPackets
	if minimal {
		var err error
		if api, err = d.minimal(settings); err != nil {
			return nil, err
		}
		read = (*discardedTrack).readBytes
	}
	credential, err := signaling.PublishableKey("pk_live_bench")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	d.member, err = member.Join(ctx, member.Options{
		URL: url, Credential: credential, Channel: benchChannel, API: api,
		OnTrack: func(_ string, remote *webrtc.TrackRemote) {
			t := &discardedTrack{remote: remote}
			d.mu.Lock()
			d.tracks = append(d.tracks, t)
			d.mu.Unlock()
			read(t)
		},
	})
	return d, err
}

// minimal is an API with one socket, a NACK generator and receiver reports.
func (d *discardReceiver) minimal(settings webrtc.SettingEngine) (*webrtc.API, error) {
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	d.socket = socket
	if err := socket.SetReadBuffer(4 << 20); err != nil {
		return nil, err
	}
	settings.SetICEUDPMux(ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: socket, Logger: settings.LoggerFactory.NewLogger("ice")}))
	media, registry := &webrtc.MediaEngine{}, &interceptor.Registry{}
	if err := media.RegisterDefaultCodecs(); err != nil {
		return nil, err
	}
	requests, err := nack.NewGeneratorInterceptor()
	if err != nil {
		return nil, err
	}
	reports, err := report.NewReceiverInterceptor()
	if err != nil {
		return nil, err
	}
	registry.Add(requests)
	registry.Add(reports)
	return webrtc.NewAPI(webrtc.WithMediaEngine(media), webrtc.WithInterceptorRegistry(registry), webrtc.WithSettingEngine(settings)), nil
}

func (d *discardReceiver) count() (c benchCount, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range d.tracks {
		packets := t.packets.Load()
		c.packets += packets
		if packets > 0 {
			c.tracks++
			c.lost += t.spread.Load() - int64(packets)
		}
	}
	return c, nil
}

func (d *discardReceiver) stop(*benchTurn) error {
	d.member.Leave()
	if d.socket != nil {
		_ = d.socket.Close()
	}
	return nil
}

// discardedTrack reads a track in either of the usual ways.
type discardedTrack struct {
	remote  *webrtc.TrackRemote
	packets atomic.Uint64
	spread  atomic.Int64 // how many sequence numbers there were
	highest uint16
}

func (t *discardedTrack) readPackets() {
	for {
		p, _, err := t.remote.ReadRTP()
		if err != nil {
			return
		}
		t.packet(p.SequenceNumber)
	}
}

func (t *discardedTrack) readBytes() {
	buf := make([]byte, 1500)
	for {
		n, _, err := t.remote.Read(buf)
		if err != nil {
			return
		}
		if n >= 4 {
			t.packet(uint16(buf[2])<<8 | uint16(buf[3]))
		}
	}
}

func (t *discardedTrack) packet(seq uint16) {
	if t.packets.Add(1) == 1 {
		t.highest = seq
		t.spread.Store(1)
		return
	}
	if ahead := int16(seq - t.highest); ahead > 0 {
		t.highest = seq
		t.spread.Add(int64(ahead))
	}
}
