package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"recorder/internal/lab/devserver"
	"recorder/internal/lab/member"
	"recorder/internal/lab/tape"
	"recorder/internal/signaling"
	"recorder/internal/sink"
)

var kills = flag.Int("kills", 5, "how often TestKilledAtAnyMoment kills the recorder")

// What a kill may cost: the sync interval, and a moment to write what was due.
const costOfKill = time.Second + 200*time.Millisecond

// A recorder that is killed, again and again, at moments of no choosing, loses
// a sync interval of media each time. Restarted, it goes on in the same files.
func TestKilledAtAnyMoment(t *testing.T) {
	inStays(t, *kills, func(s stay) {
		died := time.Now()
		s.recorder.Kill()
		s.checkCrash(t, died)
	})
}

// A recorder that is stopped leaves files that are final, and says until when
// they may go on. Started again within that time it goes on in them.
func TestStoppedAndStartedAgain(t *testing.T) {
	inStays(t, 3, func(s stay) {
		WaitHTTP(t, "http://"+s.addr+"/healthz", 20*time.Second)
		s.recorder.Stop()
		if report, err := sink.Verify(t.Context(), s.dir, nil); err != nil || !report.OK {
			t.Errorf("verify: %+v %v", report, err)
		}
		for _, m := range manifests(t, s.dir) {
			if m.State != sink.StateComplete || m.ContinuableUntil == nil {
				t.Errorf("%s, continuable until %v", m.State, m.ContinuableUntil)
			}
		}
	})
}

// A recorder that is killed while it stops leaves what a kill at any other time
// does, or what a stop does.
func TestKilledWhileItStops(t *testing.T) {
	inStays(t, 3, func(s stay) {
		died := time.Now()
		s.recorder.cmd.Process.Signal(syscall.SIGTERM)
		time.Sleep(time.Duration(rand.Int64N(int64(60 * time.Millisecond))))
		s.recorder.Kill()
		s.checkCrash(t, died)
	})
}

// stay is one run of a recorder while a member sends.
type stay struct {
	n        int // since 0
	recorder *Process
	addr     string // of its HTTP server
	dir      string
	alice    *member.Member
	before   time.Duration // how much sound the member had sent when it began,
	began    time.Time     // which was then
}

// inStays runs a recorder n times, each of which end ends at some moment, and
// once more, while a member stays. It expects one file for each track of it.
func inStays(t *testing.T, n int, end func(stay)) {
	server := devserver.New(devserver.Options{
		Secrets: map[string]string{secretID: secret}, Logger: slog.New(slog.DiscardHandler), Limits: devserver.Limits{Connects: -1},
	})
	web := httptest.NewServer(server)
	t.Cleanup(func() {
		server.Close()
		web.Close()
	})
	url := "ws://" + web.Listener.Addr().String()
	dir := filepath.Join(t.TempDir(), "recordings")
	config := filepath.Join(t.TempDir(), "config.yaml")
	addr := FreeAddr(t)
	text := fmt.Sprintf("signaling: {url: %q, %s}\nhttp: {listen: %s}\nrecordings: {dir: %s}\nchannels: [{name: room-42}]\n",
		url, credentials["token"].config, addr, dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var sent tape.Tape
	alice := joinCrashing(t, url, &sent)

	for i := range n {
		s := stay{n: i, addr: addr, dir: dir, alice: alice, before: spoken(alice), began: time.Now()}
		s.recorder = Start(t, "run", "--config", config)
		time.Sleep(time.Duration(rand.Int64N(int64(6 * time.Second))))
		end(s)
		if t.Failed() {
			t.Fatalf("after stay %d:\n%s", i+1, s.recorder.Output())
		}
	}
	recorder := Start(t, "run", "--config", config)
	WaitHTTP(t, "http://"+addr+"/healthz", 20*time.Second)
	await(t, "sound and pictures", 30*time.Second, func() bool {
		page := metrics(t, addr)
		return strings.Contains(page, `recorder_sink_frames_written_total{channel="room-42",kind="audio"}`) &&
			strings.Contains(page, `recorder_sink_frames_written_total{channel="room-42",kind="video"}`)
	})
	time.Sleep(3 * time.Second)
	alice.Leave()
	recorder.Stop()

	if report, err := sink.Verify(t.Context(), dir, nil); err != nil || !report.OK {
		t.Errorf("verify: %+v %v", report, err)
	}
	recordings := manifests(t, dir)
	if len(recordings) != 1 {
		t.Fatalf("want one recording, have %d", len(recordings))
	}
	found, m := recordings[0].dir, recordings[0].Manifest
	if m.State != sink.StateComplete || m.ContinuableUntil == nil || len(m.Streams) != 1 || len(m.Streams[0].Tracks) != 2 {
		t.Fatalf("want one stream of two tracks, have %d streams, %s", len(m.Streams), m.State)
	}
	for _, r := range m.Streams[0].Reconnects {
		if r.Reason != sink.ReasonRestart || r.Resumed == nil {
			t.Errorf("reconnect %+v", r)
		}
	}
	takes := make(map[string][]tape.Take)
	for _, track := range m.Streams[0].Tracks {
		if len(track.Parts) != 1 {
			t.Fatalf("%s: want one part, have %d", track.Kind, len(track.Parts))
		}
		file := filepath.Join(found, filepath.FromSlash(track.Parts[0].File))
		DecodesCleanly(t, file)
		var err error
		takes[track.Kind], err = sent.Takes(file)
		must(t, err)
		for _, gap := range track.Gaps {
			t.Logf("%s: gap of %v at %v: %s", track.Kind, time.Duration(gap.Duration), time.Duration(gap.Start), gap.Reason)
			if gap.Reason != sink.ReasonRestart && gap.Reason != sink.ReasonKeyFrameWait {
				t.Errorf("%s: gap because of %q", track.Kind, gap.Reason)
			}
		}
	}
	checkTakes(t, takes["audio"], takes["video"])
}

func joinCrashing(t *testing.T, url string, sent *tape.Tape) *member.Member {
	t.Helper()
	token := signaling.StaticToken(Token(t, secretID, secret, "alice"))
	alice, err := member.Join(t.Context(), member.Options{URL: url, Credential: token, Channel: "room-42", Tracks: []member.Track{
		sent.Record(member.Track{StreamID: "camera", TrackID: "sound", MimeType: webrtc.MimeTypeOpus, Source: member.Sound()}),
		sent.Record(member.Track{StreamID: "camera", TrackID: "picture", MimeType: webrtc.MimeTypeVP8, Source: member.Picture()}),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(alice.Leave)
	return alice
}

// spoken is how much sound a member has sent so far.
func spoken(m *member.Member) (d time.Duration) {
	for _, sent := range m.Sent() {
		if sent.TrackID == "sound" {
			d += sent.Played
		}
	}
	return d
}

// checkCrash repairs a copy of what a kill left and looks at what it cost.
func (s stay) checkCrash(t *testing.T, died time.Time) {
	t.Helper()
	flowed := spoken(s.alice) - s.before
	left := filepath.Join(t.TempDir(), fmt.Sprint("crash-", s.n))
	if err := os.CopyFS(left, os.DirFS(s.dir)); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(left)
	for pass := range 2 {
		report, err := sink.Repair(t.Context(), left, nil)
		if err != nil || !report.OK || pass == 1 && len(report.Recordings) > 0 {
			t.Errorf("repair %d: %+v %v", pass, report, err)
		}
	}
	if report, err := sink.Verify(t.Context(), left, nil); err != nil || !report.OK {
		t.Errorf("verify: %+v %v", report, err)
	}
	for _, m := range manifests(t, left) {
		for _, stream := range m.Streams {
			for _, track := range stream.Tracks {
				if len(track.Parts) == 0 {
					continue
				}
				end := stream.Started.UTC.Add(track.Parts[len(track.Parts)-1].Duration.Duration())
				if track.Kind == "video" && end.Before(s.began) {
					continue // the clip's next key frame was still to come
				}
				lost := min(died.Sub(end), flowed)
				t.Logf("kill %d: %s lost %v", s.n+1, track.Kind, lost.Round(time.Millisecond))
				if lost > costOfKill {
					t.Errorf("kill %d: %s lost %v", s.n+1, track.Kind, lost)
				}
			}
		}
	}
}

type located struct {
	sink.Manifest
	dir string
}

// manifests reads those of all recordings.
func manifests(t *testing.T, dir string) (all []located) {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(dir, "*", "*", sink.ManifestName))
	for _, name := range found {
		data, err := os.ReadFile(name)
		m := located{dir: filepath.Dir(name)}
		if err == nil {
			err = json.Unmarshal(data, &m.Manifest)
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}
