package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// The receivers that are compared.
const (
	benchRecorder   = "recorder"
	benchDiscard    = "discard"
	benchDiscardMin = "discard-min"
	benchLoad       = "load" // not a receiver: the server and the members
)

// benchOptions are the flags of the bench command, and of the processes that it starts.
type benchOptions struct {
	peers     int
	duration  time.Duration
	rounds    int
	receivers []string
	asJSON    bool
	role      string // of this process; empty: the one that starts the others
	url       string // of the server, for receivers
	settle    time.Duration
}

func newBenchCommand() *cobra.Command {
	o := benchOptions{settle: benchSettle}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure what recording costs on this machine",
		Long: `bench records synthetic members, each with one picture (VP8, 30 frames/s, 1 Mbit/s) and one sound (Opus),
and compares what that costs with two receivers that drop every packet: discard is an ordinary pion
program with pion's defaults, discard-min has one socket for all members and answers with NACKs and
receiver reports only. They take turns; server and members run in a process of their own.

A stream is the picture and the sound of one member. The recorder's ratio is its CPU time in proportion
to that of the receiver in the row, RSS the most memory a receiver had and GROWTH by how much it grew
while it was measured; WRITES go to media files, LOST are RTP packets, DROPPED datagrams that the system
had no room for, and FRAMES MISSING pictures that were received in part or could not be written.

CPU time depends on the machine and on what else it does: compare ratios, over several rounds.
Everything happens on 127.0.0.1; files go to a temporary directory.

Exit codes: 0 measured, 1 failed, 2 usage.`,
		Example: `  recorder bench --peers 40 --duration 20s
  recorder bench --peers 10 --rounds 5 --json
  recorder bench --peers 10 --duration 10m --receivers recorder    # does its memory grow?`,
		Args: noArgument,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return &usageError{err}
			}
			switch o.role {
			case "":
				return runBench(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
			case benchLoad:
				return runBenchLoad(cmd.Context(), o, cmd.OutOrStdout())
			default:
				return runBenchReceiver(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
			}
		},
	}
	cmd.Flags().IntVar(&o.peers, "peers", 10, "the `number` of members, 1 to 500")
	cmd.Flags().DurationVar(&o.duration, "duration", 20*time.Second, "how long each receiver is measured, 1s to 1h")
	cmd.Flags().IntVar(&o.rounds, "rounds", 1, "how often each receiver has its turn; medians are shown")
	cmd.Flags().StringSliceVar(&o.receivers, "receivers", []string{benchRecorder, benchDiscard, benchDiscardMin}, "which receivers")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print every turn as JSON")
	cmd.Flags().StringVar(&o.role, "role", "", "what this process is")
	cmd.Flags().StringVar(&o.url, "url", "", "the server")
	_ = cmd.Flags().MarkHidden("role") // they exist
	_ = cmd.Flags().MarkHidden("url")
	return cmd
}

func (o *benchOptions) check() error {
	switch {
	case o.peers < 1 || o.peers > 500:
		return errors.New("--peers: want 1 to 500")
	case o.duration < time.Second || o.duration > time.Hour:
		return errors.New("--duration: want 1s to 1h")
	case o.rounds < 1:
		return errors.New("--rounds: want at least 1")
	case len(o.receivers) == 0:
		return errors.New("--receivers: want at least one")
	}
	for _, r := range o.receivers {
		if !slices.Contains([]string{benchRecorder, benchDiscard, benchDiscardMin}, r) {
			return fmt.Errorf("--receivers: %q is none of %s, %s and %s", r, benchRecorder, benchDiscard, benchDiscardMin)
		}
	}
	return nil
}

// benchTurn is what one receiver's turn came to.
type benchTurn struct {
	Receiver string `json:"receiver"`
	Round    int    `json:"round"`

	CPU           float64 `json:"cpu_seconds_per_stream_minute"`
	RSS           uint64  `json:"peak_rss_bytes"`
	RSSGrowth     int64   `json:"rss_growth_bytes"` // while it was measured
	Packets       uint64  `json:"packets"`          // RTP, while it was measured
	Lost          int64   `json:"packets_lost"`     // all the time
	Allocs        float64 `json:"allocations_per_packet"`
	AllocBytes    float64 `json:"allocated_bytes_per_packet"`
	Writes        float64 `json:"writes_per_stream_second,omitempty"`  // to media files, by the recorder
	Reads         float64 `json:"socket_reads_per_datagram,omitempty"` // where they are counted
	KernelDrops   float64 `json:"kernel_drops,omitempty"`              // likewise
	FramesWritten uint64  `json:"frames_written,omitempty"`            // pictures, by the recorder
	FramesMissing uint64  `json:"frames_missing,omitempty"`            // pictures received in part, or not writable
	GapPackets    int64   `json:"packets_missing_in_files,omitempty"`  // known to be lost and not made up for
}

func runBench(ctx context.Context, o benchOptions, stdout, stderr io.Writer) error {
	var turns []benchTurn
	progress := newConsole(stderr)
	for round := range o.rounds {
		order := slices.Clone(o.receivers)
		if round%2 == 1 {
			slices.Reverse(order) // whatever drifts, drifts against each of them
		}
		for _, receiver := range order {
			progress.Status(time.Now(), fmt.Sprintf("round %d of %d: %s", round+1, o.rounds, receiver))
			turn, err := o.turn(ctx, receiver, stderr)
			if err != nil {
				return fmt.Errorf("bench %s: %w", receiver, err)
			}
			turn.Round = round + 1
			turns = append(turns, turn)
		}
	}
	progress.Printf("")
	if o.asJSON {
		return printJSON(stdout, turns)
	}
	newConsole(stdout).Table(benchTable(o.receivers, turns))
	return nil
}

// turn starts a server with members, and one receiver.
func (o benchOptions) turn(ctx context.Context, receiver string, stderr io.Writer) (turn benchTurn, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	load, err := o.process(ctx, benchLoad, "", stderr)
	if err != nil {
		return turn, err
	}
	out, err := load.StdoutPipe()
	if err != nil {
		return turn, err
	}
	if err := load.Start(); err != nil {
		return turn, err
	}
	defer func() {
		cancel()
		_ = load.Wait() // it was interrupted
	}()
	var url string
	if _, err := fmt.Fscanln(out, &url); err != nil {
		return turn, fmt.Errorf("start the members: %w", err)
	}
	cmd, err := o.process(ctx, receiver, url, stderr)
	if err != nil {
		return turn, err
	}
	var result bytes.Buffer
	cmd.Stdout = &result
	if err := cmd.Run(); err != nil {
		return turn, err
	}
	return turn, json.Unmarshal(result.Bytes(), &turn)
}

// process is this program in another role. It is interrupted when ctx ends.
func (o benchOptions) process(ctx context.Context, role, url string, stderr io.Writer) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "bench", "--role", role, "--url", url,
		"--peers", strconv.Itoa(o.peers), "--duration", o.duration.String())
	cmd.Stderr = stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = demoPatience
	return cmd, nil
}

// benchTable shows medians, and the CPU time of the first receiver in proportion to each other, taken within rounds.
func benchTable(receivers []string, turns []benchTurn) [][]string {
	rows := [][]string{{
		"RECEIVER", "CPU-S/STREAM-MIN", strings.ToUpper(receivers[0]) + "'S RATIO", "RSS", "GROWTH", "ALLOCS/PACKET", "READS/PACKET",
		"WRITES/STREAM-S", "PACKETS", "LOST", "DROPPED", "FRAMES MISSING",
	}}
	for _, name := range receivers {
		of := func(value func(benchTurn) float64) float64 {
			var values []float64
			for _, t := range turns {
				if t.Receiver == name {
					values = append(values, value(t))
				}
			}
			return median(values)
		}
		var ratios []float64
		for _, t := range turns {
			for _, first := range turns {
				if t.Receiver == name && first.Receiver == receivers[0] && first.Round == t.Round {
					ratios = append(ratios, first.CPU/t.CPU)
				}
			}
		}
		writes, drops, missing := "-", "-", "-" // which only the recorder knows
		if name == benchRecorder {
			writes = number(of(func(t benchTurn) float64 { return t.Writes }), 2)
			drops = number(of(func(t benchTurn) float64 { return t.KernelDrops }), 0)
			missing = number(of(func(t benchTurn) float64 { return float64(t.FramesMissing) }), 0)
		}
		reads := "-"
		if n := of(func(t benchTurn) float64 { return t.Reads }); n > 0 {
			reads = number(n, 3)
		}
		rows = append(rows, []string{
			name,
			number(of(func(t benchTurn) float64 { return t.CPU }), 3),
			number(median(ratios), 2),
			number(of(func(t benchTurn) float64 { return float64(t.RSS) / 1e6 }), 0) + " MB",
			number(of(func(t benchTurn) float64 { return float64(t.RSSGrowth) / 1e6 }), 1) + " MB",
			number(of(func(t benchTurn) float64 { return t.Allocs }), 2),
			reads,
			writes,
			number(of(func(t benchTurn) float64 { return float64(t.Packets) }), 0),
			number(of(func(t benchTurn) float64 { return float64(t.Lost) }), 0),
			drops,
			missing,
		})
	}
	return rows
}

func number(v float64, decimals int) string { return strconv.FormatFloat(v, 'f', decimals, 64) }

// median is the middle one of values, the lower of two.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.SortFunc(values, cmp.Compare)
	return values[(len(values)-1)/2]
}
