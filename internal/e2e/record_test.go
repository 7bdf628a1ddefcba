package e2e

import (
	"path/filepath"
	"testing"
	"time"

	"recorder/internal/sink"
)

type sentStats struct {
	Frames       int    `json:"frames"`
	AudioPackets int    `json:"audioPackets"`
	Width        int    `json:"width"`
	Height       int    `json:"height"`
	Codec        string `json:"codec"`
	Mode         string `json:"mode"` // of scalability
	AudioCodec   string `json:"audioCodec"`
}

func TestBrowserIsRecordedToFilesThatFFmpegAccepts(t *testing.T) {
	browser := StartBrowser(t)
	for name, credential := range credentials {
		t.Run(name, func(t *testing.T) {
			r := startRig(t, credential.config, "")
			page := browser.Open(t)
			r.join(page, credential.browser(t))
			added := time.Now()
			page.Do(`addCamera()`)
			page.Do(`until(async () => (await sent()).frames > 0, 45000)`)
			const length = 10 * time.Second
			began := time.Now()
			page.Do("sleep(%d)", length.Milliseconds())
			sent := Eval[sentStats](page, "sent()")
			took := time.Since(began)
			page.Do("leave()")
			longest := time.Since(added)
			r.recorder.Stop()

			dir, m := r.recording()
			if m.State != sink.StateComplete {
				t.Errorf("recording is %q", m.State)
			}
			if len(m.Streams) != 1 || len(m.Streams[0].Tracks) != 2 {
				t.Fatalf("want one stream of two tracks, have %d streams", len(m.Streams))
			}
			for _, track := range m.Streams[0].Tracks {
				if len(track.Parts) != 1 {
					t.Fatalf("%s: want one part, have %d", track.Kind, len(track.Parts))
				}
				file := filepath.Join(dir, filepath.FromSlash(track.Parts[0].File))
				DecodesCleanly(t, file)
				probe := FFprobe(t, file)
				t.Logf("%s: %+v, sent %+v in %v", track.Kind, probe, sent, took)
				if probe.Duration < took.Seconds()-0.3 || probe.Duration > longest.Seconds() {
					t.Errorf("%s: file lasts %.3f s, the call lasted %.3f to %.3f s", track.Kind, probe.Duration, took.Seconds(), longest.Seconds())
				}
				if track.Kind == "video" {
					if probe.Frames*100 < sent.Frames*95 {
						t.Errorf("file has %d frames, the browser sent %d", probe.Frames, sent.Frames)
					}
					// A browser that is short of CPU lowers the resolution as it goes.
					first, last := track.Resolutions[0], track.Resolutions[len(track.Resolutions)-1]
					if part := track.Parts[0]; part.Width != first.Width || part.Height != first.Height {
						t.Errorf("file says %dx%d, begins with %dx%d", part.Width, part.Height, first.Width, first.Height)
					}
					if last.Width != sent.Width || last.Height != sent.Height {
						t.Errorf("file ends with %dx%d, the browser sent %dx%d", last.Width, last.Height, sent.Width, sent.Height)
					}
				}
			}
		})
	}
}
