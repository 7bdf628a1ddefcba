package session

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"recorder/internal/lab/devserver"
	"recorder/internal/lab/member"
	"recorder/internal/sink"
)

// However many wait, the manifest names so many at a time, all are counted, and the log has one line.
func TestThoseThatWaitAreBoundedInTheManifest(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		var log printed
		r.log = slog.New(slog.NewTextHandler(&log, nil))
		r.set = NewSet(r.options(true))
		r.reg.MustRegister(r.set)
		r.limit(1)
		time.Sleep(settling)
		r.join(r.token(aliceID), "alice-camera")
		time.Sleep(settling)
		const each = 40
		for _, id := range []string{"bob", "carol"} {
			var tracks []member.Track
			for i := range each {
				tracks = append(tracks, member.Track{StreamID: fmt.Sprint("s", i), TrackID: fmt.Sprint("t", i), MimeType: webrtc.MimeTypeOpus, Source: member.Sound()})
			}
			m, err := member.Join(context.Background(), member.Options{
				URL: "ws://127.0.0.1", Credential: r.token(id), Channel: channel, HTTPClient: r.http, Settings: r.host(), Tracks: tracks,
				Meet: func(peer string) bool { return peer == "recorder" },
			})
			r.must(err)
			r.defers(m.Leave)
		}
		time.Sleep(5 * time.Second)
		if n := r.set.Status()[0].Waiting; n != 2*each {
			t.Errorf("%d tracks wait, want %d", n, 2*each)
		}
		if n := r.counted("recorder_session_refused_total", "streams"); n != 2*each {
			t.Errorf("%v are counted", n)
		}
		if n := log.said("tracks wait for a place"); n != 1 {
			t.Errorf("said %d times", n)
		}
		waited := 0
		for _, s := range r.finish().Streams {
			if s.Waited != nil && s.Waited.Until == nil && s.EndReason == sink.NoPlace {
				waited++
			}
		}
		if waited != maxQueued {
			t.Errorf("the manifest names %d that wait, want %d", waited, maxQueued)
		}
	})
}
