package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"recorder/internal/sink"
)

func TestVerifyNamesEveryProblemAndCountsTheBadRecordings(t *testing.T) {
	var buf bytes.Buffer
	out := &console{w: &buf}
	good := sink.RecordingReport{Dir: "room/1", Channel: "room", State: sink.StateComplete, OK: true, Parts: []sink.PartReport{
		{File: "alice/s/audio-1.ogg", Codec: "opus", Duration: sink.Seconds(8 * time.Second), Frames: 400, Size: 12345},
	}}
	bad := sink.RecordingReport{Dir: "room/2", Channel: "ro\x1b[2Jom", State: sink.StateComplete, Problems: []string{"no end although complete"}, Parts: []sink.PartReport{
		{File: "bob/s/video-1.ivf", Codec: "vp8", Problems: []string{"frame count is 1, the manifest says 2"}},
	}}
	printRecording(out, good)
	printRecording(out, bad)
	printVerdict(out, sink.Report{Recordings: []sink.RecordingReport{good, bad}})
	want := `room/1  channel "room", complete
  FILE                 CODEC  DURATION  FRAMES  BYTES  
  alice/s/audio-1.ogg  opus   8.00 s    400     12345  ok
room/2  channel "ro\x1b[2Jom", complete
  FILE               CODEC  DURATION  FRAMES  BYTES  
  bob/s/video-1.ivf  vp8    0.00 s    0       0      BAD
  BAD no end although complete
  BAD bob/s/video-1.ivf: frame count is 1, the manifest says 2
recordings 2, files 2: 1 BAD
`
	if got := buf.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestVerifyExitCodes(t *testing.T) {
	if code, stdout, _ := try(t, t.Context(), "verify", t.TempDir()); code != exitOK || stdout != "recordings 0, files 0: good\n" {
		t.Errorf("empty directory: %d, %q", code, stdout)
	}
	if code, stdout, _ := try(t, t.Context(), "verify", "--json", t.TempDir()); code != exitOK || !strings.Contains(stdout, `"ok": true`) {
		t.Errorf("as JSON: %d, %q", code, stdout)
	}
	if code, _, stderr := try(t, t.Context(), "verify", "none"); code != exitFailed || !strings.Contains(stderr, "none") {
		t.Errorf("no directory: %d, %q", code, stderr)
	}
	if code, _, _ := try(t, t.Context(), "verify"); code != exitUsage {
		t.Errorf("no argument: %d", code)
	}
}
