package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"recorder/internal/sink"
)

// Every codec of a browser, also in spatial and temporal layers, is recorded without a loss, and a
// player shows exactly the pictures that the manifest counts.
func TestEveryVideoCodecOfABrowserIsRecorded(t *testing.T) {
	browser := StartBrowser(t)
	for _, want := range []struct{ codec, mimeType, mode string }{
		{"vp8", "video/VP8", ""},
		{"vp9", "video/VP9", ""},
		{"vp9", "video/VP9", "L3T3_KEY"},
		{"vp9", "video/VP9", "L2T2"},
		{"av1", "video/AV1", ""},
		{"av1", "video/AV1", "L2T2"},
		{"h264", "video/H264", ""},
	} {
		t.Run(strings.TrimSpace(want.codec+" "+want.mode), func(t *testing.T) {
			r, _ := startFaultyRig(t, credentials["publishable key"].config, "")
			page := browser.Open(t)
			Eval[string](page, `join({url: "ws://%s", channel: "room-42", apiKey: "pk_live_test", codec: %q})`, r.server, want.mimeType)
			page.Do(`addCamera('camera', {width: 640, height: 360, frameRate: 30})`)
			page.Do(`until(async () => (await sent()).frames > 0, 45000)`)
			if want.mode != "" {
				page.Do("setScalabilityMode(%q)", want.mode)
			}
			page.Do("sleep(3500)")
			page.Do("pause('camera')")
			page.Do("sleep(500)")
			sent := Eval[sentStats](page, "sent()")
			page.Do("leave()")
			r.recorder.Stop()

			if sent.Codec != want.mimeType || want.mode != "" && strings.HasPrefix(sent.Mode, "L1") {
				t.Fatalf("the browser sent %+v", sent)
			}
			dir, m := r.recording()
			for _, track := range m.Streams[0].Tracks {
				if track.Kind == "video" {
					checkPictures(t, dir, track, want.codec, sent, want.mode != "")
				}
			}
		})
	}
}

func checkPictures(t *testing.T, dir string, track *sink.ManifestTrack, codec string, sent sentStats, layered bool) {
	for _, part := range track.Parts {
		file := filepath.Join(dir, filepath.FromSlash(part.File))
		DecodesCleanly(t, file)
		probe := FFprobe(t, file)
		t.Logf("%+v of %+v", probe, *part)
		if probe.Codec != codec || part.Codec != codec {
			t.Errorf("%s: %s, the manifest says %s", part.File, probe.Codec, part.Codec)
		}
		if int64(probe.Frames) != part.Frames {
			t.Errorf("%s: a player shows %d pictures, the manifest says %d", part.File, probe.Frames, part.Frames)
		}
	}
	for _, r := range track.Resolutions {
		t.Logf("%+v", *r)
	}
	l := track.Ledger
	t.Logf("sent %+v; %+v", sent, l)
	if l.Lost > 0 || l.FramesDropped > 0 {
		t.Errorf("%d packets lost, %d pictures dropped", l.Lost, l.FramesDropped)
	}
	// With layers a browser counts each.
	if !layered && l.FramesWritten != uint64(sent.Frames) {
		t.Errorf("%d pictures of %d", l.FramesWritten, sent.Frames)
	}
}
