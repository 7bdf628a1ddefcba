package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"recorder/internal/sink"
)

func TestVerifyNamesEveryProblemAndCountsTheBadRecordings(t *testing.T) {
	var buf bytes.Buffer
	out := &console{w: &buf}
	good := sink.RecordingReport{Dir: "room/1", Channel: "room", State: sink.StateComplete, OK: true, Completeness: 0.5, Parts: []sink.PartReport{
		{File: "alice/s/audio-1.ogg", Codec: "opus", Duration: sink.Seconds(8 * time.Second), Frames: 400, Size: 12345},
		{File: "alice/s/audio-2.ogg", Codec: "opus", Duration: sink.Seconds(8 * time.Second), Frames: 400, Size: 12345, Unhashed: true},
		{File: "alice/s/audio-3.ogg", Codec: "opus", Unwritten: true},
		{File: "alice/s/audio-4.ogg", Codec: "opus", Unwritten: true, Error: "was deleted or replaced by others"},
	}}
	none := sink.RecordingReport{Dir: "room/0", Channel: "room", State: sink.StateComplete, OK: true, Completeness: 1}
	open := sink.RecordingReport{Dir: "room/3", Channel: "room", State: sink.StateRecording, OK: true, Completeness: 1, Parts: []sink.PartReport{
		{File: "bob/s/audio-1.ogg", Codec: "opus", Unwritten: true},
	}}
	broken := sink.RecordingReport{Dir: "room/4", Problems: []string{"no manifest"}}
	bad := sink.RecordingReport{Dir: "room/2", Channel: "ro\x1b[2Jom", State: sink.StateComplete, Completeness: 1, Problems: []string{"no end although complete"}, Parts: []sink.PartReport{
		{File: "bob/s/video-1.ivf", Codec: "vp8", Problems: []string{"frame count is 1, the manifest says 2"}},
		{File: "bob/s/audio-1.ogg", Codec: "opus", Problems: []string{"file is missing"}},
	}}
	printRecording(out, none)
	printRecording(out, good)
	printRecording(out, bad)
	printRecording(out, open)
	printRecording(out, broken)
	printVerdict(out, sink.Report{Recordings: []sink.RecordingReport{none, good, bad, open, broken}})
	want := `room/0  channel "room", complete
  no files
room/1  channel "room", complete
  FILE                 CODEC  DURATION  FRAMES  BYTES  
  alice/s/audio-1.ogg  opus   8.00 s    400     12345  ok
  alice/s/audio-2.ogg  opus   8.00 s    400     12345  ok, no hash yet
  alice/s/audio-3.ogg  opus   0.00 s    0       0      nothing was written
  alice/s/audio-4.ogg  opus   0.00 s    0       0      LOST: was deleted or replaced by others
  completeness 0.5000: the manifest says what is missing, and why
room/2  channel "ro\x1b[2Jom", complete
  FILE               CODEC  DURATION  FRAMES  BYTES  
  bob/s/video-1.ivf  vp8    0.00 s    0       0      BAD
  bob/s/audio-1.ogg  opus   0.00 s    0       0      BAD
  BAD no end although complete
  BAD bob/s/video-1.ivf: frame count is 1, the manifest says 2
  BAD bob/s/audio-1.ogg: file is missing
room/3  channel "room", recording: unfinished
  FILE               CODEC  DURATION  FRAMES  BYTES  
  bob/s/audio-1.ogg  opus   0.00 s    0       0      nothing is written yet
room/4
  BAD no manifest
recordings 5 (2 BAD), files 7 (2 BAD)
`
	if got := buf.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestVerifyExitCodes(t *testing.T) {
	empty := t.TempDir()
	if code, stdout, stderr := try(t, t.Context(), "verify", empty); code != exitFailed || stdout != "" || !strings.HasPrefix(stderr, "recorder: no recordings in "+empty+": ") {
		t.Errorf("empty directory: %d, %q, %q", code, stdout, stderr)
	}
	if code, stdout, _ := try(t, t.Context(), "verify", "--json", empty); code != exitFailed || !strings.Contains(stdout, `"ok": false`) {
		t.Errorf("as JSON: %d, %q", code, stdout)
	}
	bad := t.TempDir()
	if err := os.WriteFile(filepath.Join(bad, sink.ManifestName), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, stdout, _ := try(t, t.Context(), "verify", bad); code != exitFailed || !strings.HasPrefix(stdout, bad+"\n  BAD ") {
		t.Errorf("one recording with a broken manifest: %d, %q", code, stdout)
	}
	manifest := filepath.Join(bad, sink.ManifestName)
	if code, _, stderr := try(t, t.Context(), "verify", manifest); code != exitUsage || !strings.Contains(stderr, "verify wants a directory, and "+manifest+" is a file") {
		t.Errorf("a file: %d, %q", code, stderr)
	}
	if code, _, stderr := try(t, t.Context(), "verify", "none"); code != exitFailed || !strings.Contains(stderr, "none") {
		t.Errorf("no directory: %d, %q", code, stderr)
	}
	if code, _, _ := try(t, t.Context(), "verify"); code != exitUsage {
		t.Errorf("no argument: %d", code)
	}
}
