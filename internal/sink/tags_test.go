package sink

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pion/webrtc/v4/pkg/media/oggreader"
)

// A file of sound that is found without its manifest says whose it is, from when, and of how many
// channels.
func TestAFileOfSoundSaysWhatItIs(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		c.wait(3 * time.Second)
		a := c.audio()
		a.speak(50)
		for range 50 { // in stereo
			a.put([]byte{0xfc, 0xff, 0xfe})
			a.rtp += 960
			a.wait(20 * ms)
		}
		a.Close()
		c.wait(time.Second)
	})
	if len(r.track.Parts) != 2 {
		t.Fatalf("%d parts", len(r.track.Parts))
	}
	want := map[string]string{
		"CHANNEL": "room", "PEER": "alice", "STREAM": "camera", "TRACK": "audio track",
		"DATE": r.manifest.Streams[0].Started.UTC.Format(time.RFC3339Nano),
	}
	for i, part := range r.track.Parts {
		file, err := os.ReadFile(filepath.Join(r.dir, filepath.FromSlash(part.File)))
		if err != nil {
			t.Fatal(err)
		}
		reader, head, err := oggreader.NewWith(bytes.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		if channels := i + 1; int(head.Channels) != channels || int(part.Channels) != channels || head.PreSkip == 0 {
			t.Errorf("%s: %d channels, %d in the manifest, pre-skip %d", part.File, head.Channels, part.Channels, head.PreSkip)
		}
		page, _, err := reader.ParseNextPage()
		if err != nil {
			t.Fatal(err)
		}
		tags, err := oggreader.ParseOpusTags(page)
		if err != nil {
			t.Fatal(err)
		}
		got := make(map[string]string)
		for _, comment := range tags.UserComments {
			got[comment.Comment] = comment.Value
		}
		for name, value := range want {
			if got[name] != value {
				t.Errorf("%s: %s is %q, want %q", part.File, name, got[name], value)
			}
		}
	}
}
