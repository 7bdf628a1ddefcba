package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math"
	"strings"
	"testing"
	"time"
)

// Every receiver gets everything that the members send, and the recorder writes it.
func TestBenchReceiversReceiveEverything(t *testing.T) {
	for _, role := range []string{benchRecorder, benchDiscard, benchDiscardMin} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			in, out := io.Pipe()
			loaded := make(chan error, 1)
			o := benchOptions{peers: 1, duration: 3 * time.Second, settle: 100 * time.Millisecond, role: role}
			go func() { loaded <- runBenchLoad(ctx, o, out) }()
			defer func() {
				cancel()
				if err := <-loaded; err != nil {
					t.Error(err)
				}
			}()
			buf := make([]byte, 100)
			n, err := in.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			o.url = strings.TrimSpace(string(buf[:n]))
			var result bytes.Buffer
			if err := runBenchReceiver(ctx, o, &result, t.Output()); err != nil {
				t.Fatal(err)
			}
			var turn benchTurn
			if err := json.Unmarshal(result.Bytes(), &turn); err != nil {
				t.Fatal(err)
			}
			// 30 pictures of 4 packets and 50 sounds a second; a busy machine may be behind at the end.
			seconds := uint64(o.duration / time.Second)
			if turn.Receiver != role || turn.Packets < 100*seconds || turn.Lost != 0 || turn.FramesMissing != 0 || turn.CPU <= 0 {
				t.Errorf("got %+v", turn)
			}
			if role == benchRecorder && turn.FramesWritten < 25*seconds {
				t.Errorf("%d frames written", turn.FramesWritten)
			}
		})
	}
}

func TestBenchTableComparesWithinRounds(t *testing.T) {
	rows := benchTable([]string{benchRecorder, benchDiscard}, []benchTurn{
		{Receiver: benchRecorder, Round: 1, CPU: 1}, {Receiver: benchDiscard, Round: 1, CPU: 2},
		{Receiver: benchRecorder, Round: 2, CPU: 30}, {Receiver: benchDiscard, Round: 2, CPU: 60},
		{Receiver: benchRecorder, Round: 3, CPU: 3}, {Receiver: benchDiscard, Round: 3, CPU: 4},
	})
	if got := rows[2][:3]; got[0] != benchDiscard || got[1] != "4.000" || got[2] != "0.50" {
		t.Errorf("got %q", got)
	}
	if median(nil) != 0 || median([]float64{3, 1, 2}) != 2 || math.IsNaN(median([]float64{1})) {
		t.Error("median")
	}
}

func TestBenchRefusesWhatItCannotMeasure(t *testing.T) {
	for _, args := range [][]string{{"--peers", "0"}, {"--peers", "501"}, {"--duration", "10ms"}, {"--rounds", "0"}, {"--receivers", "vlc"}} {
		if code, _, stderr := try(t, t.Context(), append([]string{"bench"}, args...)...); code != exitUsage || !strings.Contains(stderr, args[0]) {
			t.Errorf("%v: exit code %d, %q", args, code, stderr)
		}
	}
}
