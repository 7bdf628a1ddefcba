package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"recorder/internal/config"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"recorder/internal/lab/member"
	"recorder/internal/sink"
)

// TestReloadsLoseNoPacketOfWhatTheyDoNotTouch counts what a member sends while channels beside its own come, change and go,
// by a swapped ConfigMap, a hangup and a file that is wrong.
func TestReloadsLoseNoPacketOfWhatTheyDoNotTouch(t *testing.T) {
	url := startDevserver(t)
	dir := filepath.Join(t.TempDir(), "recordings")
	t.Setenv("RECORDER_SIGNALING_SECRET_KEY_SECRET", testSecret)
	file := func(channels string) string {
		return fmt.Sprintf("signaling: {url: '%s', secret_key: {id: sk_id_1}}\nhttp: {listen: '127.0.0.1:0'}\n"+
			"recordings: {dir: '%s', min_free: 0}\nchannels: [{name: call}, %s]\n", url, dir, channels)
	}
	mounted := newConfigMap(t, file("{name: goes}, {name: changes}"))
	cfg, read, err := config.LoadFiles(mounted.path())
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

	enough := make(chan struct{})
	var playing sync.WaitGroup
	alice := visitWith(t, url, "call", "visitor", until(enough, &playing, member.Picture()), until(enough, &playing, member.Sound()))
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

	close(enough)
	playing.Wait()
	sent := alice.Sent()
	if len(sent) != 2 {
		t.Fatalf("sent %+v", sent)
	}
	eventually(t, "everything is written", func() bool {
		written := framesWritten(app.reg)
		return !slices.ContainsFunc(sent, func(s member.Sent) bool {
			kind := map[string]string{"picture": "video", "sound": "audio"}[s.TrackID]
			return written[streamKind{"visitor", kind}] != s.Frames
		})
	})
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

// until plays a source to the frame during which enough is closed.
func until(enough <-chan struct{}, playing *sync.WaitGroup, source member.Source) member.Source {
	return func(yield func([]byte, time.Duration) bool) {
		playing.Add(1)
		defer playing.Done()
		for frame, d := range source {
			if !yield(frame, d) {
				return
			}
			select {
			case <-enough:
				return
			default:
			}
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
