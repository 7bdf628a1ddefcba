package e2e

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/webrtc/v4"

	"recorder/internal/lab/devserver"
	"recorder/internal/remote"
	"recorder/internal/session"
	"recorder/internal/signaling"
	"recorder/internal/sink"
)

var lossTime = flag.Duration("loss-time", 10*time.Second, "how long a browser is recorded over each lossy network")

// lossyConn loses packets of both directions, each with the same probability.
type lossyConn struct {
	net.PacketConn

	mu            sync.Mutex
	random        *rand.Rand
	loss          float64
	packets, lost int
}

func (c *lossyConn) set(loss float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loss = loss
}

func (c *lossyConn) loses() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.packets++
	if c.random.Float64() < c.loss {
		c.lost++
		return true
	}
	return false
}

func (c *lossyConn) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.PacketConn.ReadFrom(p)
		if err != nil || !c.loses() {
			return n, from, err
		}
	}
}

func (c *lossyConn) WriteTo(p []byte, to net.Addr) (int, error) {
	if c.loses() {
		return len(p), nil
	}
	return c.PacketConn.WriteTo(p, to)
}

// startLossyRig starts a recorder in this process, with a network that can be
// made to lose packets. stop ends it.
func startLossyRig(t testing.TB) (r *rig, network *lossyConn, stop func()) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	server := devserver.New(devserver.Options{Secrets: map[string]string{secretID: secret}, Logger: log, Limits: devserver.Limits{Connects: -1}})
	web := httptest.NewServer(server)
	r = &rig{t: t, server: web.Listener.Addr().String(), dir: t.TempDir()}

	udp, err := net.ListenUDP("udp", &net.UDPAddr{})
	must(err)
	must(udp.SetReadBuffer(4 << 20))
	network = &lossyConn{PacketConn: udp, random: rand.New(rand.NewPCG(1, 2))}
	mux := webrtc.NewICEUDPMux(logging.NewDefaultLeveledLoggerForScope("ice", logging.LogLevelDisabled, io.Discard), network)
	api, err := remote.NewAPI(remote.APIOptions{Logger: log, LoopbackMembers: true, Settings: func(s *webrtc.SettingEngine) { s.SetICEUDPMux(mux) }})
	must(err)
	root, err := sink.Open(sink.Options{Dir: r.dir, Logger: log})
	must(err)
	s, err := session.New(session.Config{Channel: "room-42", Bot: "recorder", ReconnectWindow: time.Minute}, session.Options{
		Root: root, API: api, Logger: log,
		Signaling: func(string) (*signaling.Client, error) {
			credential, err := signaling.PublishableKey("pk_live_test")
			if err != nil {
				return nil, err
			}
			return signaling.NewClient(signaling.Options{URL: "ws://" + r.server, Credential: credential, Logger: log})
		},
	})
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		root.Close()
		mux.Close()
		server.Close()
		web.Close()
	})
	t.Cleanup(stop)
	return r, network, stop
}

func TestABrowserIsRecordedWholeOverALossyNetwork(t *testing.T) {
	browser := StartBrowser(t)
	for _, loss := range []struct {
		share   float64
		missing float64 // share of the sound, at most
	}{{0.01, 0}, {0.05, 0.003}} {
		t.Run(fmt.Sprintf("%v%%", 100*loss.share), func(t *testing.T) {
			t.Parallel()
			r, network, stop := startLossyRig(t)
			page := browser.Open(t)
			r.join(page, credentials["publishable key"].browser(t))
			page.Do(`addCamera()`)
			page.Do(`until(async () => (await sent()).frames > 10, 45000)`)
			// What is sent before the recorder is ready, as on a busy machine, no one can repeat.
			before := Eval[sentStats](page, "sent()")
			network.set(loss.share)
			page.Do("sleep(%d)", lossTime.Milliseconds())
			network.set(0)
			page.Do("sleep(2500)")     // what is missing may come until the reorder window ends
			page.Do("pause('camera')") // and a browser that stops sending stops repeating
			page.Do("sleep(500)")
			sent := Eval[sentStats](page, "sent()")
			if codec := Eval[string](page, "preferred('audio')"); codec != "audio/red" {
				t.Errorf("the browser sends %s, want audio/red", codec)
			}
			page.Do("leave()")
			stop()

			dir, m := r.recording()
			if len(m.Streams) != 1 || len(m.Streams[0].Tracks) != 2 {
				t.Fatalf("want one stream of two tracks, have %d streams", len(m.Streams))
			}
			for _, track := range m.Streams[0].Tracks {
				if len(track.Parts) != 1 {
					t.Fatalf("%s: want one part, have %d", track.Kind, len(track.Parts))
				}
				DecodesCleanly(t, filepath.Join(dir, filepath.FromSlash(track.Parts[0].File)))
				l := track.Ledger
				t.Logf("%s: sent %+v; network lost %d of %d packets; %+v", track.Kind, sent, network.lost, network.packets, l)
				have, missing, limit, least := l.FramesWritten, l.FramesDropped, 0.001, sent.Frames-before.Frames
				if track.Kind == "audio" { // of which some is dropped when the browser's clock runs away
					have, missing, limit, least = l.Received, l.Lost, loss.missing, sent.AudioPackets-before.AudioPackets
				}
				if track.Kind == "video" && float64(l.NACKs) > 1.3*float64(l.Recovered+l.Lost)+10 {
					t.Errorf("%d packets were asked for, %d came and %d did not", l.NACKs, l.Recovered, l.Lost)
				}
				if float64(missing) > limit*float64(have) {
					t.Errorf("%s: %d are missing beside %d", track.Kind, missing, have)
				}
				if float64(have) < (1-limit)*float64(least) {
					t.Errorf("%s: %d came, at least %d were sent", track.Kind, have, least)
				}
			}
			if l := audioOf(m).Ledger; loss.share >= 0.05 && l.RED == 0 {
				t.Errorf("no packet came back from redundancy: %+v", l)
			}
		})
	}
}

func audioOf(m sink.Manifest) *sink.ManifestTrack {
	for _, track := range m.Streams[0].Tracks {
		if track.Kind == "audio" {
			return track
		}
	}
	return new(sink.ManifestTrack)
}
