//go:build linux && (amd64 || arm64) && !race

// With the race detector 20 members are more than two cores can send.

package remote_test

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"recorder/internal/lab/clip"
	"recorder/internal/lab/devserver"
	"recorder/internal/lab/member"
	"recorder/internal/remote"
	"recorder/internal/session"
	"recorder/internal/signaling"
	"recorder/internal/sink"
)

// What arrives while the process does not run is in the system's buffers, and what those cannot hold is asked for again.
// Where the processors are so busy that they make stalls of their own, and longer ones, that cannot be seen.
func TestNothingIsLostForGoodWhenTheReaderStalls(t *testing.T) {
	const (
		attempts = 5
		busy     = 50 * time.Millisecond
	)
	for range attempts {
		held := watchProcessors()
		lost := lostToStalls(t)
		late := held()
		if lost == 0 {
			return
		}
		if late < busy {
			t.Fatalf("%d packets were lost for good", lost)
		}
		t.Logf("%d packets were lost for good, but the processors kept a goroutine waiting for %v", lost, late)
	}
	if os.Getenv("RECORDER_E2E") == "required" {
		t.Fatalf("the processors were too busy in each of %d attempts", attempts)
	}
	t.Skipf("the processors were too busy in each of %d attempts", attempts)
}

// watchProcessors returns a function that tells for how long a goroutine that was due had to wait at most since.
func watchProcessors() (stop func() time.Duration) {
	const interval = 5 * time.Millisecond
	quit, longest := make(chan struct{}), make(chan time.Duration)
	go func() {
		var late time.Duration
		for {
			due := time.Now().Add(interval)
			select {
			case <-time.After(interval):
				late = max(late, time.Since(due))
			case <-quit:
				longest <- late
				return
			}
		}
	}()
	return func() time.Duration {
		close(quit)
		return <-longest
	}
}

// lostToStalls is how many packets are missing for good in a call of 20 with four stalls.
func lostToStalls(t *testing.T) (lost uint64) {
	const (
		members = 20
		limit   = 208 << 10 // the usual net.core.rmem_max
		stalls  = 4
		stall   = 250 * time.Millisecond
	)
	log := slog.New(slog.DiscardHandler)
	server := devserver.New(devserver.Options{
		Secrets: map[string]string{"sk_id_test": "sk_secret_test"}, Logger: log, Limits: devserver.Limits{Connects: -1, Rate: -1},
	})
	web := httptest.NewServer(server)
	defer web.Close()
	defer server.Close()
	url := "ws://" + web.Listener.Addr().String()
	credential := func(id string) signaling.Credential {
		c, err := signaling.NewSecretKey(signaling.SecretKeyOptions{ID: "sk_id_test", Secret: "sk_secret_test", PeerID: id, Channels: []string{"room"}})
		must(t, err)
		return c
	}

	options := remote.APIOptions{Logger: log, OnePort: true, Loopback: true, ReadLag: remote.DefaultReadLag}
	options.LimitSockets(limit)
	api, err := remote.NewAPI(options)
	must(t, err)
	defer api.Close()
	dir := t.TempDir()
	root, err := sink.Open(sink.Options{Dir: dir, Logger: log})
	must(t, err)
	defer root.Close()
	bot, err := session.New(session.Config{Channel: "room", Bot: "recorder", ReconnectWindow: time.Minute}, session.Options{
		Root: root, API: api, Logger: log,
		Signaling: func(string) (*signaling.Client, error) {
			return signaling.NewClient(signaling.Options{URL: url, Credential: credential("recorder"), Logger: log})
		},
	})
	must(t, err)
	ctx, leave := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- bot.Run(ctx) }()

	all := make([]*member.Member, members)
	for i := range all {
		name := fmt.Sprintf("member-%02d", i)
		all[i], err = member.Join(ctx, member.Options{
			URL: url, Credential: credential(name), Channel: "room",
			Meet:     func(peer string) bool { return peer == "recorder" },
			Settings: func(s *webrtc.SettingEngine) { s.SetIncludeLoopbackCandidate(true) },
			Tracks: []member.Track{
				{StreamID: name, TrackID: name + "-picture", MimeType: webrtc.MimeTypeVP8, Source: camera()},
				{StreamID: name, TrackID: name + "-sound", MimeType: webrtc.MimeTypeOpus, Source: member.Sound()},
			},
		})
		must(t, err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		sound, _ := filepath.Glob(filepath.Join(dir, "*", "*", "*", "*", "*.ogg"))
		pictures, _ := filepath.Glob(filepath.Join(dir, "*", "*", "*", "*", "*.ivf"))
		if len(sound)+len(pictures) == 2*members {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("only %d tracks of %d members", len(sound)+len(pictures), members)
		}
	}
	time.Sleep(time.Second)
	_, before := api.Sockets()
	for range stalls {
		api.Stall(stall)
		time.Sleep(time.Second)
	}
	sockets, dropped := api.Sockets()
	dropped -= before
	time.Sleep(time.Second)
	for _, m := range all {
		m.Leave()
	}
	time.Sleep(time.Second)
	leave()
	must(t, <-done)

	found, _ := filepath.Glob(filepath.Join(dir, "*", "*", sink.ManifestName))
	if len(found) != 1 {
		t.Fatalf("%d recordings", len(found))
	}
	file, err := os.Open(found[0])
	must(t, err)
	defer file.Close()
	m, err := sink.DecodeManifest(file)
	must(t, err)
	var received, recovered uint64
	tracks := 0
	for _, s := range m.Streams {
		for _, track := range s.Tracks {
			tracks++
			received += track.Ledger.Received
			recovered += track.Ledger.Recovered
			lost += track.Ledger.Lost
		}
	}
	t.Logf("%d sockets; of %d packets the system dropped %d, %d came again, %d were lost for good", sockets, received, dropped, recovered, lost)
	if tracks != 2*members {
		t.Errorf("%d tracks", tracks)
	}
	return lost
}

// camera is a picture of 1 Mbit/s, 30 frames a second: the clip's, padded with what decoders have no use for.
func camera() iter.Seq2[[]byte, time.Duration] {
	var frames [][]byte
	for _, s := range clip.VP8() {
		frames = append(frames, append(s.Data[:len(s.Data):len(s.Data)], make([]byte, max(0, 4042-len(s.Data)))...))
	}
	return func(yield func([]byte, time.Duration) bool) {
		for i := 0; yield(frames[i%len(frames)], time.Second/30); i++ {
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
