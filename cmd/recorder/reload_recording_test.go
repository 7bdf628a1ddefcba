package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"recorder/internal/member"
	"recorder/internal/sink"
)

// TestReloadsLoseNoPacketOfWhatTheyDoNotTouch counts what a member sends while channels beside its own come, change and go,
// by a swapped ConfigMap, a hangup and a file that is wrong.
func TestReloadsLoseNoPacketOfWhatTheyDoNotTouch(t *testing.T) {
	const length = 4 * time.Second
	url := startDevserver(t)
	dir := filepath.Join(t.TempDir(), "recordings")
	t.Setenv("RECORDER_SIGNALING_SECRET_KEY_SECRET", testSecret)
	file := func(channels string) string {
		return fmt.Sprintf("signaling: {url: '%s', secret_key: {id: sk_id_1}}\nhttp: {listen: '127.0.0.1:0'}\n"+
			"recordings: {dir: '%s', min_free: 0}\nchannels: [{name: call}, %s]\n", url, dir, channels)
	}
	mounted := newConfigMap(t, file("{name: goes}, {name: changes}"))
	cfg, read, err := loadFiles(mounted.path())
	must(t, err)
	app := startApp(t, *cfg)
	watch, err := newWatcher(mounted.path(), read, app.reg, app.Reload, app.log)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	hangups, done := make(chan os.Signal), make(chan struct{})
	go func() {
		defer close(done)
		watch.Run(ctx, hangups)
	}()
	defer func() {
		cancel()
		<-done
	}()
	await(t, app, "joined")

	alice := visit(t, url, "call", "visitor", length)
	played := func() bool {
		sent := alice.Sent()
		return len(sent) == 2 && !slices.ContainsFunc(sent, func(s member.Sent) bool { return s.Played < length })
	}
	channels := func() (names []string) {
		for _, c := range app.channels() {
			names = append(names, c.Channel+" "+c.State)
		}
		return names
	}
	eventually(t, "the call is recorded", func() bool { return recorded(t, dir, "call") == "1: audio video" })
	visit(t, url, "goes", "visitor-goes", time.Hour)
	mounted.swap(file("{name: changes, video: false}, {name: comes}"))
	eventually(t, "channels are swapped", func() bool {
		return slices.Equal(channels(), []string{"call joined", "changes joined", "comes joined"})
	})
	mounted.swap(file("{name: ''}"))
	eventually(t, "the wrong file is refused", func() bool { return testutil.ToFloat64(watch.successful) == 0 })
	mounted.swap(file("{name: comes}"))
	hangups <- syscall.SIGHUP
	eventually(t, "a channel is left", func() bool { return slices.Equal(channels(), []string{"call joined", "comes joined"}) })
	if played() {
		t.Fatal("the member had nothing more to send while all that happened")
	}

	eventually(t, "the member has sent everything", played)
	time.Sleep(demoMargin)
	sent := alice.Sent()
	alice.Leave()
	must(t, app.Stop(t.Context()))
	m := readManifest(t, dir, "call")
	if len(m.Streams) != 1 {
		t.Fatalf("%d streams", len(m.Streams))
	}
	for _, track := range m.Streams[0].Tracks {
		i := slices.IndexFunc(sent, func(s member.Sent) bool { return s.TrackID == track.ID })
		if i < 0 || int(track.Ledger.FramesWritten) != sent[i].Frames || track.Ledger.Lost != 0 || len(track.Parts) != 1 {
			t.Errorf("%s: %+v of %+v, %d parts", track.ID, track.Ledger, sent, len(track.Parts))
		}
	}
}

// readManifest reads that of a channel's only recording.
func readManifest(t *testing.T, dir, channel string) *sink.Manifest {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(dir, channel, "*", sink.ManifestName))
	if len(found) != 1 {
		t.Fatalf("%s: want one recording, have %v", channel, found)
	}
	f, err := os.Open(found[0])
	must(t, err)
	defer f.Close()
	m, err := sink.DecodeManifest(f)
	must(t, err)
	return m
}
