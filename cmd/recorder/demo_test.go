package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"recorder/internal/lab/member"
	"recorder/internal/sink"
)

func TestDemoRecordsWhatItsMembersSentAndSaysSo(t *testing.T) {
	var out bytes.Buffer
	d := demo{
		dir:     t.TempDir(),
		program: []appearance{{"alice", 0, 1500 * time.Millisecond}, {"bob", 300 * time.Millisecond, 1600 * time.Millisecond}},
		out:     newConsole(&out),
		log:     slog.New(slog.DiscardHandler),
	}
	if err := d.run(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	text := out.String()
	report, err := sink.Verify(t.Context(), d.dir, nil)
	if err != nil || len(report.Recordings) != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	for _, p := range report.Recordings[0].Parts {
		if line := regexp.MustCompile(`(?m)^ *` + p.File + ` .*$`).FindString(text); !slices.Contains(strings.Fields(line), strconv.FormatInt(p.Frames, 10)) {
			t.Errorf("verify counts %d frames, the demo says %q", p.Frames, line)
		}
	}
	if n := strings.Count(text, "as sent\n"); n != 4 {
		t.Errorf("%d files as sent, want 4", n)
	}
	for _, want := range []string{
		"alice/alice-camera/video-1.ivf",
		"bob/bob-camera/audio-1.ogg",
		`recorder_remote_peer_state{channel="demo",peer="bob",state="connected"} 1`,
		`recorder_sink_frames_written_total{channel="demo",kind="video"}`,
		"ffmpeg -i ",
		"ffplay ",
		"The files stay in " + d.dir,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if strings.Contains(text, d.secret) || strings.Contains(text, "\x1b") || strings.Contains(text, "\r") {
		t.Error("it holds a credential or control characters")
	}
	if t.Failed() {
		t.Log(text)
	}
}

// Of a member whose pictures the bot does not write not everything is there, whatever it sends.
func TestEveryoneIsHereOnceEveryTrackIsWritten(t *testing.T) {
	url := startDevserver(t)
	cfg := testConfig(t, url, testSecret, demoChannel)
	cfg.Channels[0].Video = false
	d := demo{app: startApp(t, cfg), program: program[:1]}
	await(t, d.app, "joined")
	d.bot = d.app.set.Status()[0].PeerID
	m := visit(t, url, demoChannel, "alice", time.Hour)
	d.present = []*member.Member{m}
	eventually(t, "both are sent, and the sound is written", func() bool {
		sent := d.sentBy(m)
		silent := func(s member.Sent) bool { return s.Frames == 0 }
		return len(sent) == 2 && !slices.ContainsFunc(sent, silent) && framesWritten(d.app.reg)[streamKind{"alice", "audio"}] > 0
	})
	if d.everyoneIsHere() {
		t.Error("the pictures are not")
	}
}

func TestInterruptedDemoFailsAndSaysWhereItsFilesAre(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	d := demo{dir: t.TempDir(), program: program, out: newConsole(&out), log: slog.New(slog.DiscardHandler)}
	if err := d.run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(out.String(), d.dir) {
		t.Errorf("it does not say where its files are: %q", out.String())
	}
}

func TestDemoNoticesWhatIsNotAsSent(t *testing.T) {
	sent := delivery{"alice", member.Sent{TrackID: "picture", Frames: 30, Played: 2 * time.Second}}
	good := func() *sink.ManifestTrack {
		return &sink.ManifestTrack{
			Start:  &sink.TrackStart{Position: sink.Seconds(time.Second)},
			Parts:  []*sink.ManifestPart{{File: "video-1.ivf", Duration: sink.Seconds(3 * time.Second)}},
			Ledger: sink.Ledger{FramesWritten: 30},
		}
	}
	if _, faults := compare(good(), sent); len(faults) > 0 {
		t.Errorf("a good one: %v", faults)
	}
	for _, tt := range []struct {
		name   string
		breaks func(*sink.ManifestTrack) *sink.ManifestTrack
		want   string
	}{
		{"no track", func(*sink.ManifestTrack) *sink.ManifestTrack { return nil }, "alice's picture was not recorded"},
		{"no file", func(t *sink.ManifestTrack) *sink.ManifestTrack { t.Parts = nil; return t }, "alice's picture was not recorded"},
		{"a frame too few", func(t *sink.ManifestTrack) *sink.ManifestTrack { t.Ledger.FramesWritten--; return t },
			"alice's picture: 29 frames recorded of 30 sent"},
		{"too long", func(t *sink.ManifestTrack) *sink.ManifestTrack {
			t.Parts[0].Duration += sink.Seconds(time.Second)
			return t
		}, "alice's picture: 3.00 s recorded of 2.00 s sent"},
		{"two files", func(t *sink.ManifestTrack) *sink.ManifestTrack {
			t.Parts = append(t.Parts, &sink.ManifestPart{})
			return t
		}, "alice's picture: in 2 files instead of one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, faults := compare(tt.breaks(good()), sent); len(faults) != 1 || faults[0] != tt.want {
				t.Errorf("got %q, want %q", faults, tt.want)
			}
		})
	}
}

func TestDemoPrintsItsResultAsJSON(t *testing.T) {
	var out bytes.Buffer
	d := demo{
		dir:     t.TempDir(),
		program: []appearance{{"alice", 0, time.Second}},
		out:     newConsole(io.Discard),
		json:    &out,
		log:     slog.New(slog.DiscardHandler),
	}
	if err := d.run(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	var result struct {
		OK       bool
		Dir      string
		Files    []row
		Problems []string
	}
	if err := json.Unmarshal(out.Bytes(), &result); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if !result.OK || len(result.Files) != 2 || len(result.Problems) != 0 || !strings.HasPrefix(result.Dir, d.dir) {
		t.Errorf("got %s", out.String())
	}
	for _, f := range result.Files {
		if f.Sent == 0 || f.Recorded != uint64(f.Sent) || f.Duration == 0 {
			t.Errorf("got %+v", f)
		}
	}
	d.sent[0].Frames++
	out.Reset()
	if err := d.review(nil); !errors.Is(err, errSilent) || !strings.Contains(out.String(), `"ok": false`) {
		t.Errorf("a frame less than was sent: %v\n%s", err, out.String())
	}
}
