package e2e

import (
	"bytes"
	"encoding/binary"
	"encoding/csv"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// Mux joins an audio and a video file, without offsets and without decoding, into a WebM.
func Mux(t testing.TB, audio, video string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out.webm")
	output, err := exec.Command(Tool(t, "ffmpeg"), "-v", "error", "-i", audio, "-i", video, "-c", "copy", out).CombinedOutput()
	if err != nil || len(output) > 0 {
		t.Errorf("ffmpeg -c copy: %v\n%s", err, output)
	}
	return out
}

// Flashes returns when in a file, in seconds, the picture turns from dark to bright.
func Flashes(t testing.TB, file string) (at []float64) {
	t.Helper()
	out, err := exec.Command(Tool(t, "ffprobe"), "-v", "error", "-f", "lavfi", "-of", "csv=p=0",
		"-i", "movie="+file+",signalstats", "-show_entries", "frame=pts_time:frame_tags=lavfi.signalstats.YAVG").Output()
	if err != nil {
		t.Fatalf("ffprobe %s: %v", file, err)
	}
	rows, err := csv.NewReader(bytes.NewReader(out)).ReadAll()
	if err != nil {
		t.Fatalf("ffprobe %s: %v", file, err)
	}
	const bright = 128
	dark := false
	for _, row := range rows {
		pts, _ := strconv.ParseFloat(row[0], 64)
		luma, err := strconv.ParseFloat(row[1], 64)
		if err != nil {
			t.Fatalf("ffprobe %s: frame %q", file, row)
		}
		if dark && luma >= bright {
			at = append(at, pts)
		}
		dark = luma < bright
	}
	return at
}

// Beeps returns when in a file, in seconds, sound begins after silence.
func Beeps(t testing.TB, file string) (at []float64) {
	t.Helper()
	// The first packet alone may give no frame.
	frames, err := exec.Command(Tool(t, "ffprobe"), "-v", "error", "-select_streams", "a:0", "-of", "csv=p=0",
		"-read_intervals", "%+#50", "-show_entries", "frame=pts_time", file).Output()
	if err != nil {
		t.Fatalf("ffprobe %s: %v", file, err)
	}
	first, _, _ := bytes.Cut(bytes.TrimSpace(frames), []byte("\n"))
	begin, err := strconv.ParseFloat(string(bytes.TrimRight(bytes.TrimSpace(first), ",")), 64)
	if err != nil {
		t.Fatalf("ffprobe %s: first frame at %q", file, first)
	}
	const rate = 48000
	pcm, err := exec.Command(Tool(t, "ffmpeg"), "-v", "error", "-i", file, "-map", "0:a", "-ac", "1", "-ar", "48000", "-f", "s16le", "-").Output()
	if err != nil {
		t.Fatalf("ffmpeg %s: %v", file, err)
	}
	const loud, pause = 3000, rate / 4
	silent := 0
	for i := 0; i+1 < len(pcm); i += 2 {
		sample := int16(binary.LittleEndian.Uint16(pcm[i:]))
		if sample < loud && sample > -loud {
			silent++
			continue
		}
		if silent >= pause {
			at = append(at, begin+float64(i/2)/rate)
		}
		silent = 0
	}
	return at
}
