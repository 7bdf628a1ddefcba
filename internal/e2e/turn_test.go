package e2e

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"recorder/internal/lab/devserver"
	"recorder/internal/lab/member"
	"recorder/internal/lab/tape"
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

// listenTURN starts a server on a port of its own.
func listenTURN(t *testing.T) *turnServer {
	t.Helper()
	_, port, err := net.SplitHostPort(FreeAddr(t))
	must(t, err)
	s := &turnServer{t: t}
	s.port, err = strconv.Atoi(port)
	must(t, err)
	s.start()
	t.Cleanup(func() { s.stop() })
	return s
}

// With ice_transport_policy: relay no member learns an address of the bot's, and is recorded through the TURN server.
func TestAMemberOfARecorderThatOnlyRelaysSeesTheTURNServerAlone(t *testing.T) {
	turn := listenTURN(t)
	r, server := startFaultyRig(t, credentials["token"].config, fmt.Sprintf(`
webrtc:
  ice_transport_policy: relay
  ice_servers: [{urls: ["turn:127.0.0.1:%d?transport=udp"], username: u, credential: p}]
`, turn.port))
	told := make(chan string, 100) // every signal with a candidate that the member gets
	server.Intercept(func(to string, frame any) devserver.Verdict {
		if text := fmt.Sprintf("%s", frame); to == "alice" && strings.Contains(text, "candidate:") {
			told <- text
		}
		return devserver.Pass
	})
	alice, err := member.Join(context.Background(), member.Options{
		URL: "ws://" + r.server, Credential: signaling.StaticToken(Token(t, secretID, secret, "alice")), Channel: "room-42",
		Settings: func(s *webrtc.SettingEngine) { s.SetIncludeLoopbackCandidate(true) },
		Tracks:   []member.Track{{StreamID: "camera", TrackID: "audio", MimeType: webrtc.MimeTypeOpus, Source: member.Sound()}},
	})
	must(t, err)
	defer alice.Leave()
	await(t, "media through the TURN server", 30*time.Second, func() bool {
		page := metrics(t, r.http)
		return strings.Contains(page, `recorder_remote_peer_candidate_pair{channel="room-42",local="relay",peer="alice"`) &&
			strings.Contains(page, `recorder_sink_frames_written_total{channel="room-42",kind="audio"}`)
	})
	r.recorder.Stop()
	if len(told) == 0 {
		t.Error("the member was told of no candidate")
	}
	for len(told) > 0 {
		signal := <-told
		if strings.Count(signal, "candidate:") != strings.Count(signal, " typ relay raddr 0.0.0.0 rport 9") {
			t.Errorf("the member was told more than a relayed address: %s", signal)
		}
	}
}

func TestARestartOfTheTURNServerIsAGapInTheSameFiles(t *testing.T) {
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			turn := listenTURN(t)
			b := newBot(t, botOptions{relayOnly: true, window: time.Minute, ice: []webrtc.ICEServer{{
				URLs: []string{fmt.Sprintf("turn:127.0.0.1:%d?transport=%s", turn.port, transport)}, Username: "u", Credential: "p",
			}}})
			var sent tape.Tape
			alice, err := member.Join(context.Background(), member.Options{
				URL: "ws://" + b.server, Credential: signaling.StaticToken(Token(t, secretID, secret, "alice")), Channel: "room-42",
				Settings: func(s *webrtc.SettingEngine) { s.SetIncludeLoopbackCandidate(true) },
				Tracks: []member.Track{
					sent.Record(member.Track{StreamID: "camera", TrackID: "audio", MimeType: webrtc.MimeTypeOpus, Source: member.Sound()}),
					sent.Record(member.Track{StreamID: "camera", TrackID: "video", MimeType: webrtc.MimeTypeVP8, Source: member.Picture()}),
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
			stopped := time.Now()
			time.Sleep(2 * time.Second)
			turn.start()
			deadline := time.Now().Add(60 * time.Second)
			for b.count("alice: connected") < 2 {
				if time.Now().After(deadline) {
					t.Fatal("not connected again within 60 s")
				}
				time.Sleep(50 * time.Millisecond)
			}
			// A path that died is given up after 10 s, and a new one found within a few.
			outage := time.Since(stopped)
			if outage > 20*time.Second {
				t.Errorf("it took %v", outage)
			}
			time.Sleep(6 * time.Second)
			alice.Leave()
			b.leave()

			dir, m := b.recording()
			if len(m.Streams) != 1 || len(m.Streams[0].Tracks) != 2 {
				t.Fatalf("%d streams", len(m.Streams))
			}
			takes := make(map[string][]tape.Take)
			for _, track := range m.Streams[0].Tracks {
				if len(track.Parts) != 1 {
					t.Fatalf("%s: %d parts", track.Kind, len(track.Parts))
				}
				var missing time.Duration
				for _, gap := range track.Gaps {
					t.Logf("%s: gap of %v: %s", track.Kind, time.Duration(gap.Duration), gap.Reason)
					// A single packet may be lost on loopback, too.
					if gap.Reason != sink.ReasonReconnect && gap.Reason != sink.ReasonKeyFrameWait && gap.Duration.Duration() > 100*time.Millisecond {
						t.Errorf("%s: gap because of %q", track.Kind, gap.Reason)
					}
					missing += gap.Duration.Duration()
				}
				// Media comes a moment before the pair of candidates is settled on. Pictures
				// are sent again, as far as the sender remembers them, and go on with the
				// clip's next key frame, of which there is one a second.
				allowed := time.Second
				if track.Kind == "video" {
					allowed += time.Second
				}
				if d := missing - outage; d > allowed || d < -3*time.Second && track.Kind == "audio" {
					t.Errorf("%s: %v are missing of an outage of %v", track.Kind, missing, outage)
				}
				file := filepath.Join(dir, filepath.FromSlash(track.Parts[0].File))
				DecodesCleanly(t, file)
				takes[track.Kind], err = sent.Takes(file)
				must(t, err)
			}
			checkTakes(t, takes["audio"], takes["video"])
		})
	}
}

// checkTakes wants pictures beside the sound that was captured with them, and every
// outage to be as long as it was. On a busy machine single frames are late on their
// way out.
func checkTakes(t *testing.T, audio, video []tape.Take) {
	t.Helper()
	apart := tape.Apart(audio, video)
	if len(apart) < 60 {
		t.Fatalf("%d pictures with sound", len(apart))
	}
	if middle := apart[len(apart)/2]; middle.Abs() > 40*time.Millisecond {
		t.Errorf("pictures are %v behind their sound", middle)
	}
	for kind, takes := range map[string][]tape.Take{"audio": audio, "video": video} {
		moved := tape.Moved(takes)
		t.Logf("%s: between outages it is late by %v", kind, moved)
		for _, by := range moved {
			if by.Abs() > 100*time.Millisecond {
				t.Errorf("%s: after an outage it stands %v later than it should", kind, by)
			}
		}
	}
}
