package e2e

import (
	"context"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"recorder/internal/member"
	"recorder/internal/signaling"
	"recorder/internal/sink"
)

// turnServer is a real coturn on loopback that can be restarted.
type turnServer struct {
	t    *testing.T
	port int
	cmd  *exec.Cmd
}

func (s *turnServer) start() {
	s.t.Helper()
	dir := s.t.TempDir()
	s.cmd = exec.Command(Tool(s.t, "turnserver"), "-n", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1",
		"--listening-port="+strconv.Itoa(s.port), "--allow-loopback-peers", "--lt-cred-mech", "--user=u:p", "--realm=t",
		"--no-cli", "--cli-password=x", "--no-tls", "--no-dtls", "--log-file=stdout",
		"--userdb="+filepath.Join(dir, "turn.db"), "--pidfile="+filepath.Join(dir, "turn.pid"))
	must(s.t, s.cmd.Start())
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)))
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("coturn does not listen: %v", err)
		}
	}
}

func (s *turnServer) stop() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

func TestARestartOfTheTURNServerIsAGapInTheSameFiles(t *testing.T) {
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			_, port, err := net.SplitHostPort(FreeAddr(t))
			must(t, err)
			turn := &turnServer{t: t}
			turn.port, err = strconv.Atoi(port)
			must(t, err)
			turn.start()
			defer func() { turn.stop() }()

			b := newBot(t, botOptions{relayOnly: true, window: time.Minute, ice: []webrtc.ICEServer{{
				URLs: []string{"turn:127.0.0.1:" + port + "?transport=" + transport}, Username: "u", Credential: "p",
			}}})
			alice, err := member.Join(context.Background(), member.Options{
				URL: "ws://" + b.server, Credential: signaling.StaticToken(Token(t, secretID, secret, "alice")), Channel: "room-42",
				Settings: func(s *webrtc.SettingEngine) { s.SetIncludeLoopbackCandidate(true) },
				Tracks: []member.Track{
					{StreamID: "camera", TrackID: "audio", MimeType: webrtc.MimeTypeOpus, Source: member.Sound()},
					{StreamID: "camera", TrackID: "video", MimeType: webrtc.MimeTypeVP8, Source: member.Picture()},
				},
			})
			must(t, err)
			defer alice.Leave()
			b.await("alice: connected")
			if pair := b.peer("alice").Stats(); pair.LocalCandidate != "relay" {
				t.Errorf("the bot's candidate is of type %q", pair.LocalCandidate)
			}
			time.Sleep(3 * time.Second)

			turn.stop()
			time.Sleep(2 * time.Second)
			turn.start()
			deadline := time.Now().Add(60 * time.Second)
			for b.count("alice: connected") < 2 {
				if time.Now().After(deadline) {
					t.Fatal("not connected again within 60 s")
				}
				time.Sleep(50 * time.Millisecond)
			}
			time.Sleep(3 * time.Second)
			alice.Leave()
			b.leave()

			dir, m := b.recording()
			if len(m.Streams) != 1 || len(m.Streams[0].Tracks) != 2 {
				t.Fatalf("%d streams", len(m.Streams))
			}
			for _, track := range m.Streams[0].Tracks {
				if len(track.Parts) != 1 {
					t.Errorf("%s: %d parts", track.Kind, len(track.Parts))
				}
				for _, gap := range track.Gaps {
					t.Logf("%s: gap of %v: %s", track.Kind, time.Duration(gap.Duration), gap.Reason)
					if gap.Reason == sink.ReasonMute || gap.Reason == sink.ReasonDisk {
						t.Errorf("%s: gap because of %q", track.Kind, gap.Reason)
					}
				}
				DecodesCleanly(t, filepath.Join(dir, filepath.FromSlash(track.Parts[0].File)))
			}
		})
	}
}
