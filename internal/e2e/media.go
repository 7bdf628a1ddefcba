package e2e

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strconv"
	"testing"
)

// Probe is what ffprobe says of a media file after it has decoded all of it.
type Probe struct {
	Codec         string
	Width, Height int
	Frames        int     // decoded
	Duration      float64 // seconds
}

// FFprobe decodes a file's only stream and fails the test when ffprobe does
// not accept it.
func FFprobe(t testing.TB, file string) Probe {
	t.Helper()
	out, err := exec.Command(Tool(t, "ffprobe"), "-v", "error", "-count_frames", "-of", "json",
		"-show_entries", "stream=codec_name,width,height,nb_read_frames,duration:format=duration", file).Output()
	if err != nil {
		t.Fatalf("ffprobe %s: %v", file, err)
	}
	var doc struct {
		Streams []struct {
			Codec    string `json:"codec_name"`
			Width    int    `json:"width"`
			Height   int    `json:"height"`
			Frames   string `json:"nb_read_frames"`
			Duration string `json:"duration"`
		} `json:"streams"`
		Format struct {
			Duration string `json:"duration"`
		} `json:"format"`
	}
	if err := json.Unmarshal(out, &doc); err != nil || len(doc.Streams) != 1 {
		t.Fatalf("ffprobe %s: %d streams in %s", file, len(doc.Streams), out)
	}
	s := doc.Streams[0]
	frames, _ := strconv.Atoi(s.Frames)
	text := s.Duration
	if text == "" {
		text = doc.Format.Duration
	}
	duration, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatalf("ffprobe %s: duration %q", file, text)
	}
	return Probe{Codec: s.Codec, Width: s.Width, Height: s.Height, Frames: frames, Duration: duration}
}

// DecodesCleanly fails the test unless ffmpeg decodes the file to its end
// without a word. Its exit status alone proves nothing.
func DecodesCleanly(t testing.TB, file string) {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(Tool(t, "ffmpeg"), "-v", "error", "-i", file, "-f", "null", "-")
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil || stderr.Len() > 0 {
		t.Errorf("ffmpeg %s: %v\n%s", file, err, stderr.Bytes())
	}
}
