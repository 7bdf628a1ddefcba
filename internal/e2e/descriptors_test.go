package e2e

import (
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"recorder/internal/lab/member"
	"recorder/internal/signaling"
	"recorder/internal/sink"
)

var attack = flag.Duration("attack", 8*time.Second, "for how long members come and go in TestAMemberLosesNothingToWhatOthersLeftBehind")

const (
	attackEvery  = 200 * time.Millisecond // a member joins
	attackFrames = 10                     // of each track, and it leaves
)

// Members that come, send and go leave nothing that others lack: whatever limit of file descriptors the
// recorder has, a member that was there before and one that comes after lose nothing, nothing is said to be
// an error, and what was left behind costs neither descriptors nor series.
func TestAMemberLosesNothingToWhatOthersLeftBehind(t *testing.T) {
	for _, limit := range []int{64, 256, 1024} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			t.Parallel()
			_, server := startFaultyServer(t)
			r := startLimited(t, server, limit)
			url, addr, dir, recorder := "ws://"+server, r.http, r.dir, r.recorder
			rest := descriptorsOf(t, recorder)
			witness := joinSending(t, url, "witness")
			time.Sleep(3 * time.Second)
			seriesBefore, filesBefore := strings.Count(metrics(t, addr), "\n"), descriptorsOf(t, recorder)

			var leaving sync.WaitGroup
			members := 0
			for end := time.Now().Add(*attack); time.Now().Before(end); members++ {
				stream := fmt.Sprint("attacker-", members)
				leaving.Go(func() {
					m := joinSending(t, url, stream)
					await(t, "media of an attacker", 20*time.Second, func() bool {
						sent := framesSent(m)
						return min(sent["sound"], sent["picture"]) >= attackFrames
					})
					m.Leave()
				})
				time.Sleep(attackEvery)
			}
			leaving.Wait()
			late := joinSending(t, url, "late")
			time.Sleep(6 * time.Second) // what was left behind is noticed, and closed
			page := metrics(t, addr)
			series, files := strings.Count(page, "\n"), descriptorsOf(t, recorder)
			t.Logf("limit %d: %d descriptors at rest, %d with a member; after %d members that came and went %d with two; series %d, then %d",
				limit, rest, filesBefore, members, files, seriesBefore, series)
			if files > filesBefore+4 { // the second member's two files, and a scrape
				t.Errorf("%d descriptors, %d before the attack", files, filesBefore)
			}
			if series > seriesBefore+100 { // the second member's
				t.Errorf("%d series, %d before the attack", series, seriesBefore)
			}
			witness.Leave()
			late.Leave()
			time.Sleep(3 * time.Second)
			recorder.Stop()
			if out := recorder.Output(); strings.Contains(out, "level=ERROR") {
				t.Errorf("the log says\n%s", out)
			}
			checkWitness(t, dir, witness, "witness")
			checkWitness(t, dir, late, "late")
		})
	}
}

// However many connect to the HTTP server, they take no descriptor that files or members need.
func TestConnectionsToTheHTTPServerLeaveDescriptors(t *testing.T) {
	_, server := startFaultyServer(t)
	r := startLimited(t, server, 64)
	witness := joinSending(t, "ws://"+server, "witness")
	time.Sleep(2 * time.Second)
	var conns []net.Conn
	for range 200 {
		c, err := net.Dial("tcp", r.http)
		must(t, err)
		conns = append(conns, c)
	}
	time.Sleep(time.Second)
	if n := descriptorsOf(t, r.recorder); n > 40 {
		t.Errorf("%d descriptors are open", n)
	}
	late := joinSending(t, "ws://"+server, "late")
	time.Sleep(6 * time.Second)
	for _, c := range conns {
		c.Close()
	}
	witness.Leave()
	late.Leave()
	time.Sleep(2 * time.Second)
	r.recorder.Stop()
	if out := r.recorder.Output(); strings.Contains(out, "level=ERROR") || strings.Contains(out, "too many open files") {
		t.Errorf("the log says\n%s", out)
	}
	checkWitness(t, r.dir, witness, "witness")
	checkWitness(t, r.dir, late, "late")
}

// A limit that can be raised is, and one that is low for the configuration is told of.
func TestTheLimitOfDescriptorsIsRaisedOrToldOf(t *testing.T) {
	_, server := startFaultyServer(t)
	for _, tt := range []struct {
		soft, hard, raised string
		warns              bool
	}{{"64", "512", "51[12]", false}, {"40", "40", "40", true}} {
		r := startShell(t, server, `ulimit -S -n `+tt.soft+`; ulimit -H -n `+tt.hard)
		limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", r.recorder.PID()))
		must(t, err)
		if !regexp.MustCompile(`Max open files +` + tt.raised + ` +` + tt.hard).Match(limits) {
			t.Errorf("the limit of %s to %s is not raised:\n%s", tt.soft, tt.hard, limits)
		}
		r.recorder.Stop()
		if warned := strings.Contains(r.recorder.Output(), "the limit of file descriptors is low"); warned != tt.warns {
			t.Errorf("with a limit of %s there is a warning: %v", tt.hard, warned)
		}
	}
}

// startLimited starts a recorder that may have so many descriptors.
func startLimited(t *testing.T, server string, limit int) *rig {
	t.Helper()
	return startShell(t, server, fmt.Sprintf("ulimit -n %d", limit))
}

// startShell starts a recorder in a shell that has done something before.
func startShell(t *testing.T, server, before string) *rig {
	t.Helper()
	r := &rig{t: t, server: server, http: FreeAddr(t), dir: filepath.Join(t.TempDir(), "recordings")}
	r.config = filepath.Join(t.TempDir(), "config.yaml")
	text := fmt.Sprintf("signaling: {url: \"ws://%s\", %s}\nbot: {name: recorder}\nhttp: {listen: %s}\nrecordings: {dir: %s}\nchannels: [{name: room-42}]\n",
		server, credentials["token"].config, r.http, r.dir)
	must(t, os.WriteFile(r.config, []byte(text), 0o600))
	r.recorder = start(t, exec.Command("sh", "-c", before+`; exec "$@"`, "sh", Binary(t), "run", "--config", r.config))
	WaitHTTP(t, "http://"+r.http+"/readyz", 30*time.Second)
	return r
}

// joinSending has a member join that sends sound and pictures under a stream id of its own.
func joinSending(t *testing.T, url, stream string) *member.Member {
	key, err := signaling.PublishableKey("pk_live_test")
	must(t, err)
	m, err := member.Join(t.Context(), member.Options{URL: url, Credential: key, Channel: "room-42", Tracks: []member.Track{
		{StreamID: stream, TrackID: "sound", MimeType: webrtc.MimeTypeOpus, Source: member.Sound()},
		{StreamID: stream, TrackID: "picture", MimeType: webrtc.MimeTypeVP8, Source: member.Picture()},
	}, Meet: func(peer string) bool { return strings.HasPrefix(peer, "recorder") }})
	if err != nil {
		t.Error(err)
		return nil
	}
	t.Cleanup(m.Leave)
	return m
}

// checkWitness has all that a member sent be in one file for each track.
func checkWitness(t *testing.T, dir string, m *member.Member, stream string) {
	t.Helper()
	if report, err := sink.Verify(t.Context(), dir, nil); err != nil || !report.OK {
		t.Errorf("verify: %+v %v", report, err)
	}
	sent := framesSent(m)
	_, manifest := onlyRecording(t, dir)
	for _, s := range manifest.Streams {
		if s.ID != stream {
			continue
		}
		for _, track := range s.Tracks {
			lost := track.Missing[sink.ReasonLoss] // sound is not sent again, and the machine may be busy
			if len(track.Parts) != 1 || track.Recorded+lost < track.Expected {
				t.Errorf("%s of %s: %d parts, completeness %v, gaps %v", track.Kind, stream, len(track.Parts), track.Completeness, track.Missing)
			}
			if n, want := int(track.Ledger.FramesWritten), sent[track.ID]-int(track.Ledger.Lost); n < want-2 || want < 60 {
				t.Errorf("%s of %s: %d of %d frames", track.Kind, stream, n, want)
			}
		}
		return
	}
	t.Errorf("%s is not in the manifest", stream)
}

// framesSent is how many frames of each track a member has sent.
func framesSent(m *member.Member) map[string]int {
	sent := make(map[string]int)
	for _, s := range m.Sent() {
		sent[s.TrackID] += s.Frames
	}
	return sent
}

// descriptorsOf is how many a process has open.
func descriptorsOf(t *testing.T, p *Process) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.PID()))
	must(t, err)
	return len(entries)
}
