//go:build linux

// Package containers builds the image and runs it, alone and with compose, in a Docker daemon of its own. No registry is asked:
// base images are replaced by stand-ins from this machine's files, so that what is shown is that the Dockerfile builds and runs
// upon what it uses of them, and nothing of the images that a registry has under their names.
package containers

import (
	"encoding/json"
	"io/fs"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/webrtc/v4"

	"recorder/internal/e2e"
	"recorder/internal/lab/devserver"
	"recorder/internal/lab/member"
	"recorder/internal/signaling"
	"recorder/internal/sink"
)

const (
	root    = "../../.."
	nonroot = 65532
	version = "1.2.3-test"
)

func TestContainers(t *testing.T) {
	for _, tool := range []string{"dockerd", "ip", "prometheus"} {
		e2e.Tool(t, tool)
	}
	if exec.Command("docker", "compose", "version").Run() != nil {
		e2e.Missing(t, "docker compose")
	}
	if os.Getenv(isolated) == "" {
		command(t, 5*time.Minute, nil, "go", "mod", "download") // what the image's build will ask serveModules for
	}
	if !isolate(t) {
		return
	}
	d := startDocker(t)
	for _, image := range baseImages(t, serveModules(t)) {
		image.load(t, d)
	}
	if !t.Run("the Dockerfile builds one small binary, the same as anywhere", d.buildsImage) {
		return
	}
	t.Run("a container without privileges records and stops well", d.recordsInContainer)
	t.Run("compose brings up what records and what watches it", d.composes)
}

// buildsImage builds as the README says.
func (d docker) buildsImage(t *testing.T) {
	const most = 40_000_000 - 2_500_000 // a stand-in is that much smaller than what it stands for
	d.t = t
	start := time.Now()
	d.run("build", "--build-arg", "VERSION="+version, "-t", "recorder", root)
	t.Logf("built in %v", time.Since(start).Round(time.Second))
	size, err := strconv.Atoi(d.run("image", "inspect", "-f", "{{.Size}}", "recorder"))
	if err != nil || size > most {
		t.Errorf("the image has %d bytes, %v", size, err)
	}
	t.Logf("%d bytes", size)

	var info struct{ Version, Go, Platform string }
	if err := json.Unmarshal([]byte(d.run("run", "--rm", "--network=none", "recorder", "version", "--json")), &info); err != nil {
		t.Fatal(err)
	}
	if info.Version != version || info.Go == "" || info.Platform != "linux/amd64" && info.Platform != "linux/arm64" {
		t.Errorf("it says that it is %+v", info)
	}

	container := d.run("create", "recorder")
	dir := t.TempDir()
	inImage, here := filepath.Join(dir, "image"), filepath.Join(dir, "here")
	d.run("cp", container+":/recorder", inImage)
	d.run("rm", container)
	buildElsewhere(t, here)
	if read(t, inImage) != read(t, here) {
		t.Error("the image has another binary than a build in another place, with other caches, has made")
	}
}

// buildElsewhere runs the Dockerfile's go build outside of it, on a copy of the source.
func buildElsewhere(t testing.TB, binary string) {
	t.Helper()
	_, line, found := strings.Cut(read(t, root+"/Dockerfile"), "RUN CGO_ENABLED=0 go build ")
	flags, _, ends := strings.Cut(line, " -o /out/recorder ./cmd/recorder")
	if !found || !ends {
		t.Fatal("the Dockerfile builds in another way than this test knows")
	}
	dir := t.TempDir()
	for _, name := range []string{"go.mod", "go.sum", "cmd", "internal"} {
		place(t, filepath.Join(root, name), filepath.Join(dir, name))
	}
	command(t, 10*time.Minute, []string{"CGO_ENABLED=0", "GOFLAGS=", "VERSION=" + version}, "sh", "-ec",
		"cd '"+dir+"' && go build "+flags+" -o '"+binary+"' ./cmd/recorder")
}

func (d docker) recordsInContainer(t *testing.T) {
	d.t = t
	server := devserver.New(devserver.Options{Logger: slog.New(slog.DiscardHandler)})
	web := httptest.NewServer(server)
	t.Cleanup(func() {
		server.Close()
		web.Close()
	})
	dir := t.TempDir()
	if err := os.Chown(dir, nonroot, nonroot); err != nil {
		t.Fatal(err)
	}
	config, err := filepath.Abs(root + "/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	container := d.run("run", "-d", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "host",
		"-e", "RECORDER_SIGNALING_API_KEY=pk_live_test", "-e", "RECORDER_SIGNALING_URL=ws://"+web.Listener.Addr().String(),
		"-v", config+":/etc/recorder/config.yaml:ro", "-v", dir+":/recordings", "recorder")
	d.logs(container)
	visit(t, web.Listener.Addr().String())
	await(t, "pictures to be written", func() bool {
		return strings.Contains(get("http://127.0.0.1:9464/metrics"), `recorder_sink_frames_written_total{channel="room-42",kind="video"}`)
	})
	d.awaitHealthy(container)

	d.run("stop", "-t", "60", container)
	if state := d.run("inspect", "-f", "{{.State.ExitCode}} {{.State.OOMKilled}}", container); state != "0 false" {
		t.Errorf("it ended with %s", state)
	}
	checkRecording(t, dir)
}

// checkRecording expects one recording of a picture and a sound that is over, and belongs to the image's user.
func checkRecording(t testing.TB, dir string) {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(dir, "room-42", "*", sink.ManifestName))
	if len(found) != 1 {
		t.Fatalf("want one recording, have %v", found)
	}
	var m sink.Manifest
	if err := json.Unmarshal([]byte(read(t, found[0])), &m); err != nil {
		t.Fatal(err)
	}
	if m.State != sink.StateComplete {
		t.Errorf("the recording is %s", m.State)
	}
	var media int
	err := filepath.WalkDir(filepath.Dir(found[0]), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if owner := info.Sys().(*syscall.Stat_t).Uid; owner != nonroot {
			t.Errorf("%s belongs to %d", path, owner)
		}
		if ext := filepath.Ext(path); (ext == ".ivf" || ext == ".ogg") && info.Size() > 1000 {
			media++
		}
		return nil
	})
	if err != nil || media != 2 {
		t.Errorf("%d files of media, %v", media, err)
	}
	command(t, time.Minute, nil, e2e.Binary(t), "verify", dir)
}

// visit has a member with camera and microphone join room-42 until the test ends.
func visit(t testing.TB, server string) {
	t.Helper()
	credential, err := signaling.PublishableKey("pk_live_test")
	if err != nil {
		t.Fatal(err)
	}
	m, err := member.Join(t.Context(), member.Options{
		URL: "ws://" + server, Credential: credential, Channel: "room-42",
		Tracks: []member.Track{
			{StreamID: "camera", TrackID: "picture", MimeType: webrtc.MimeTypeVP8, Source: member.Picture()},
			{StreamID: "camera", TrackID: "sound", MimeType: webrtc.MimeTypeOpus, Source: member.Sound()},
		},
		Settings: func(s *webrtc.SettingEngine) {
			s.SetIncludeLoopbackCandidate(true)
			s.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Leave)
}

// await waits for what takes seconds, or on a busy machine a minute.
func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !done(); time.Sleep(500 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
