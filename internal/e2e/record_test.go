package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"recorder/internal/sink"
)

const (
	secretID = "sk_id_test"
	secret   = "sk_secret_for_the_test_only"
)

// rig is the product as its user runs it: a development server and a recorder,
// each a process of its own, and a browser.
type rig struct {
	t         testing.TB
	server    string // host:port of the development server
	http      string // host:port of the recorder's HTTP listener
	dir       string // recordings
	devserver *Process
	recorder  *Process
}

// credential is a "signaling" key of the configuration and how the browser
// presents the same kind.
type credential struct {
	config  string
	browser func(t testing.TB) string // fields of the page's join argument
}

var credentials = map[string]credential{
	"publishable key": {
		config:  "api_key: pk_live_test",
		browser: func(testing.TB) string { return `apiKey: "pk_live_test"` },
	},
	"token": {
		config:  fmt.Sprintf("secret_key: {id: %s, secret: %s}", secretID, secret),
		browser: func(t testing.TB) string { return fmt.Sprintf("token: %q", Token(t, secretID, secret, "alice")) },
	},
}

func startRig(t testing.TB, credential string, extra string) *rig {
	t.Helper()
	r := &rig{t: t, server: FreeAddr(t), http: FreeAddr(t), dir: filepath.Join(t.TempDir(), "recordings")}
	config := filepath.Join(t.TempDir(), "config.yaml")
	text := fmt.Sprintf(`
signaling:
  url: ws://%s
  %s
bot: {name: recorder, metadata: {name: Recorder, role: recorder}}
http: {listen: %s}
recordings: {dir: %s}
channels:
  - name: room-42
%s`, r.server, credential, r.http, r.dir, extra)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r.devserver = Start(t, "devserver", "--listen", r.server, "--secret-key", secretID+"="+secret, "--sdk", SDK(t))
	WaitHTTP(t, "http://"+r.server+"/", 10*time.Second)
	r.recorder = Start(t, "run", "--config", config)
	WaitHTTP(t, "http://"+r.http+"/readyz", 10*time.Second)
	return r
}

// recording returns the only recording's directory and manifest.
func (r *rig) recording() (string, sink.Manifest) {
	r.t.Helper()
	found, _ := filepath.Glob(filepath.Join(r.dir, "*", "*", sink.ManifestName))
	if len(found) != 1 {
		r.t.Fatalf("want one recording, have %v", found)
	}
	data, err := os.ReadFile(found[0])
	if err != nil {
		r.t.Fatal(err)
	}
	var m sink.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		r.t.Fatal(err)
	}
	return filepath.Dir(found[0]), m
}

type sentStats struct {
	Frames       int    `json:"frames"`
	AudioPackets int    `json:"audioPackets"`
	Width        int    `json:"width"`
	Height       int    `json:"height"`
	Codec        string `json:"codec"`
}

func TestBrowserIsRecordedToFilesThatFFmpegAccepts(t *testing.T) {
	browser := StartBrowser(t)
	for name, credential := range credentials {
		t.Run(name, func(t *testing.T) {
			r := startRig(t, credential.config, "")
			page := browser.Open(t)
			page.Do(`join({url: "ws://%s", channel: "room-42", %s})`, r.server, credential.browser(t))
			page.Do(`addCamera()`)
			page.Do(`until(async () => (await sent()).frames > 0, 15000)`)
			const length = 10 * time.Second
			began := time.Now()
			page.Do("sleep(%d)", length.Milliseconds())
			sent := Eval[sentStats](page, "sent()")
			took := time.Since(began)
			page.Do("leave()")
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
				if d := probe.Duration - took.Seconds(); d < -0.3 || d > 0.3 {
					t.Errorf("%s: file lasts %.3f s, the call lasted %.3f s", track.Kind, probe.Duration, took.Seconds())
				}
				if track.Kind == "video" {
					if probe.Frames*100 < sent.Frames*95 {
						t.Errorf("file has %d frames, the browser sent %d", probe.Frames, sent.Frames)
					}
					if probe.Width != sent.Width || probe.Height != sent.Height {
						t.Errorf("file is %dx%d, the browser sent %dx%d", probe.Width, probe.Height, sent.Width, sent.Height)
					}
				}
			}
		})
	}
}
