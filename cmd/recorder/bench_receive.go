package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"recorder/internal/config"

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
		defer tuneRuntime(ctx)()
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
	cfg := config.Default()
	cfg.Signaling = config.SignalingConfig{URL: url, APIKey: "pk_live_bench"}
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.Recordings.Dir = dir
	cfg.Channels = []config.ChannelConfig{{Name: benchChannel, ChannelOptions: cfg.Defaults}}
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
