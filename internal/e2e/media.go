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
	Duration      float64 // seconds, from 0 to the last frame's time stamp
}

// FFprobe decodes a file's only stream and fails the test when ffprobe does
// not accept it.
func FFprobe(t testing.TB, file string) Probe {
	t.Helper()
	out, err := exec.Command(Tool(t, "ffprobe"), "-v", "error", "-count_frames", "-of", "json",
		"-show_entries", "stream=codec_name,width,height,nb_read_frames:packet=pts_time", file).Output()
	if err != nil {
		t.Fatalf("ffprobe %s: %v", file, err)
	}
	var doc struct {
		Packets []struct {
			PTS string `json:"pts_time"`
		} `json:"packets"`
		Streams []struct {
			Codec  string `json:"codec_name"`
			Width  int    `json:"width"`
			Height int    `json:"height"`
			Frames string `json:"nb_read_frames"`
		} `json:"streams"`
	}
	if err := json.Unmarshal(out, &doc); err != nil || len(doc.Streams) != 1 || len(doc.Packets) == 0 {
		t.Fatalf("ffprobe %s: %d streams, %d packets", file, len(doc.Streams), len(doc.Packets))
	}
	s := doc.Streams[0]
	frames, _ := strconv.Atoi(s.Frames)
	// Not the format's duration: for IVF ffmpeg takes the header's number of
	// frames for one.
	duration, err := strconv.ParseFloat(doc.Packets[len(doc.Packets)-1].PTS, 64)
	if err != nil {
		t.Fatalf("ffprobe %s: last packet at %q", file, doc.Packets[len(doc.Packets)-1].PTS)
	}
	return Probe{Codec: s.Codec, Width: s.Width, Height: s.Height, Frames: frames, Duration: duration}
}

// DecodesCleanly fails the test unless ffmpeg decodes the file to its end
// without a word. Its exit status alone proves nothing. It is told to keep the
// file's time stamps: left alone, ffmpeg 5 guesses a constant frame rate from
// the first frames and complains when later ones come faster, as a camera's do.
func DecodesCleanly(t testing.TB, file string) {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(Tool(t, "ffmpeg"), "-v", "error", "-i", file, "-enc_time_base", "-1", "-f", "null", "-")
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil || stderr.Len() > 0 {
		t.Errorf("ffmpeg %s: %v\n%s", file, err, stderr.Bytes())
	}
}
