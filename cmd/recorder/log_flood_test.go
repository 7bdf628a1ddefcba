package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"recorder/internal/e2e"
	"recorder/internal/lab/devserver"
)

// floodBytes is what one channel may add to the log in the first minute of an attack: a burst of each kind of line that it
// repeats. Later minutes have six lines of each kind.
const floodBytes = 20 << 10

// TestNeitherMembersNorTheServiceCanFillTheLog has both repeat what is logged as fast as they can.
func TestNeitherMembersNorTheServiceCanFillTheLog(t *testing.T) {
	offer := func(sdp string) json.RawMessage {
		text, _ := json.Marshal(map[string]any{"type": "rtc-description", "description": map[string]string{"type": "offer", "sdp": sdp}})
		return text
	}
	peer := func(i int) string { return fmt.Sprintf("m-%d-%s", i, strings.Repeat("x", 100)) }
	for _, tt := range []struct {
		name  string
		frame func(i int) []any
	}{
		{"errors of the service", func(i int) []any {
			return []any{&devserver.Error{Code: fmt.Sprint("code_", i, strings.Repeat("y", 500)), Message: strings.Repeat("z", 1000)}}
		}},
		{"frames that are none", func(i int) []any { return []any{[]byte(fmt.Sprintf(`{"type":"t%d"}`, i)), []byte("garbage")} }},
		{"members that come and go", func(i int) []any {
			return []any{
				&devserver.Presence{Channel: "a", Joined: []devserver.Member{{PeerID: peer(i)}}},
				&devserver.Presence{Channel: "a", Left: []devserver.Member{{PeerID: peer(i)}}},
			}
		}},
		{"one member that comes and goes", func(int) []any {
			return []any{
				&devserver.Presence{Channel: "a", Joined: []devserver.Member{{PeerID: "m"}}},
				&devserver.Presence{Channel: "a", Left: []devserver.Member{{PeerID: "m"}}},
			}
		}},
		{"offers that are none", func(i int) []any {
			from := peer(i % 50)
			return []any{
				&devserver.Presence{Channel: "a", Joined: []devserver.Member{{PeerID: from}}},
				&devserver.Direct{From: from, Data: offer(fmt.Sprint("v=0\r\nm=", strings.Repeat("no ", 1000), i))},
			}
		}},
		{"streams under new ids", func(i int) []any {
			return []any{
				&devserver.Presence{Channel: "a", Joined: []devserver.Member{{PeerID: "m"}}},
				&devserver.Direct{From: "m", Data: offer(offerOf(i))},
			}
		}},
		{"notices of a restart", func(int) []any { return []any{[]byte(`{"type":"going_away","retryAfterMs":600000}`)} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := devserver.New(devserver.Options{Secrets: map[string]string{"sk_id_1": testSecret}})
			web := httptest.NewServer(server)
			defer web.Close()
			defer server.Close()
			log := floodedApp(t, "ws://"+web.Listener.Addr().String(), func(app *App) {
				bot := server.Members("a")[0]
				for i := range 400 {
					for _, frame := range tt.frame(i) {
						server.Inject(bot, frame)
					}
					time.Sleep(2 * time.Millisecond)
				}
			})
			if !strings.Contains(log, "suppressed=") {
				t.Errorf("nothing was left out:\n%.3000s", log)
			}
		})
	}
}

// offerOf is a description with 60 streams of sound, whose ids are new in each.
func offerOf(version int) string {
	var sdp strings.Builder
	fmt.Fprintf(&sdp, "v=0\r\no=- 1 %d IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE", version+1)
	for mid := range 60 {
		fmt.Fprintf(&sdp, " %d", mid)
	}
	fmt.Fprintf(&sdp, "\r\na=fingerprint:sha-256 %s\r\n", strings.TrimSuffix(strings.Repeat("AB:", 32), ":"))
	for mid := range 60 {
		fmt.Fprintf(&sdp, "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:%s\r\n"+
			"a=setup:actpass\r\na=mid:%d\r\na=sendonly\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n"+
			"a=msid:stream-%d-%d track-%d\r\n", strings.Repeat("p", 24), mid, version, mid, mid)
	}
	return sdp.String()
}

// floodedApp returns the log of an App in channel a that was attacked, after it has stopped.
func floodedApp(t *testing.T, url string, attack func(*App)) string {
	t.Helper()
	var log e2e.Buffer
	app, err := NewApp(AppOptions{Config: testConfig(t, url, testSecret, "a"), Logger: newLogger(&log, "text", slog.LevelInfo), Loopback: true})
	must(t, err)
	must(t, app.Start())
	await(t, app, "joined")
	attack(app)
	stopping, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	must(t, app.Stop(stopping))
	text := log.String()
	t.Logf("%d bytes in %d lines", len(text), strings.Count(text, "\n"))
	if len(text) > floodBytes {
		t.Errorf("%d bytes in the log, want at most %d; it begins with\n%.3000s", len(text), floodBytes, text)
	}
	return text
}
