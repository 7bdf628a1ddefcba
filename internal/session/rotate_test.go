package session

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"recorder/internal/lab/devserver"
	"recorder/internal/sink"
)

// fill has a recording hold all the streams that one may.
func fill(t *testing.T, b *bindings) {
	for i := 0; !b.recording.Full(); i++ {
		s, err := b.recording.NewStream(sink.StreamInfo{PeerID: "visitor", StreamID: fmt.Sprint("short-", i)})
		if err != nil {
			t.Error(err)
			return
		}
		s.Close("over")
	}
}

// A channel that is recorded for months fills one recording after the other. What is sent goes on in
// the next one where it stopped in the last.
func TestAFullRecordingIsFollowedByAnother(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		alice := r.join(r.token("alice"), "camera")
		r.startWith(10 * time.Second)
		time.Sleep(5 * time.Second)
		session := r.set.sessions[channel]
		session.post(func() { fill(t, &session.bindings) })
		carol := r.join(r.token("carol"), "screen")
		time.Sleep(5 * time.Second)
		session.post(func() { fill(t, &session.bindings) }) // and at once again
		time.Sleep(15 * time.Second)
		alice.Leave()
		carol.Leave()
		r.set.Close()
		r.set = nil
		all := r.recordings()[channel]
		if len(all) != 3 {
			t.Fatalf("%d recordings, want 3", len(all))
		}
		for i, m := range all {
			if m.State != sink.StateComplete || (m.Previous == "") != (i == 0) || (m.Next == "") != (i == len(all)-1) {
				t.Errorf("recording %d: %s, between %q and %q", i, m.State, m.Previous, m.Next)
			}
			if last := i == len(all)-1; (m.ContinuableUntil != nil) != last {
				t.Errorf("recording %d is continuable until %v", i, m.ContinuableUntil)
			}
			if streams := live(m); len(streams) != min(1+i, 2) {
				t.Errorf("recording %d has %d streams", i, len(streams))
			}
			if len(m.Peers) < 2 {
				t.Errorf("recording %d has %d members", i, len(m.Peers))
			}
		}
		for i, m := range all[1:] {
			last, next := ends(t, live(all[i])["camera"]), live(m)["camera"]
			for _, track := range next.Tracks {
				if track.Ledger.Lost > 0 {
					t.Errorf("%s: %d packets lost", track.Kind, track.Ledger.Lost)
				}
				if apart := track.Start.At.UTC.Sub(last[track.Kind]); track.Kind == "audio" && (apart < -5*time.Millisecond || apart > 25*time.Millisecond) {
					t.Errorf("%s goes on after %v", track.Kind, apart)
				}
				for _, g := range track.Gaps {
					if g.Reason != sink.ReasonKeyFrameWait || g.Duration.Duration() > time.Second {
						t.Errorf("%s lacks %v for %s", track.Kind, g.Duration.Duration(), g.Reason)
					}
				}
			}
		}
	})
}

// Its successor may go on for months.
func TestAFullRecordingThatCannotBeFinalisedIsSaidOnceAndAtOnce(t *testing.T) {
	var log printed
	said := func() (id string, n int) {
		log.mu.Lock()
		defer log.mu.Unlock()
		for line := range strings.Lines(log.text.String()) {
			if strings.Contains(line, "could not finalise the recording") {
				_, id, _ = strings.Cut(line, " recording=")
				id, _, _ = strings.Cut(id, " ")
				n++
			}
		}
		return id, n
	}
	inRig(t, devserver.Options{}, func(r *rig) {
		r.log = slog.New(slog.NewTextHandler(&log, nil))
		r.start(true)
		time.Sleep(settling)
		var first, dir string
		r.on(func(s *Session) {
			first = s.bindings.recording.ID()
			fill(t, &s.bindings)
			dir = filepath.Join(r.dir, s.bindings.recording.Dir())
			manifest := filepath.Join(dir, sink.ManifestName)
			r.must(os.Remove(manifest))
			r.must(os.MkdirAll(filepath.Join(manifest, "in the way"), 0o750))
		})
		time.Sleep(5 * time.Second)
		if id, n := said(); n != 1 || id != first {
			t.Errorf("said %d times, last of %q, want once of %q", n, id, first)
		}
		if err := r.set.Close(); err == nil {
			t.Error("it is not known in the end")
		}
		r.set = nil
		if _, n := said(); n != 1 {
			t.Errorf("said %d times in the end", n)
		}
		r.must(os.RemoveAll(dir)) // which nobody could finish
	})
}

// live is the streams of a recording that were sent, by id.
func live(m sink.Manifest) map[string]*sink.ManifestStream {
	streams := make(map[string]*sink.ManifestStream)
	for _, s := range m.Streams {
		if len(s.Tracks) > 0 {
			streams[s.ID] = s
		}
	}
	return streams
}

// ends is when the media of a stream ends, by kind of track.
func ends(t *testing.T, s *sink.ManifestStream) map[string]time.Time {
	ends := make(map[string]time.Time)
	for _, track := range s.Tracks {
		if len(track.Gaps) > 0 && track.Kind == "audio" || track.Ledger.Lost > 0 {
			t.Errorf("%s: %d packets lost, %d gaps", track.Kind, track.Ledger.Lost, len(track.Gaps))
		}
		ends[track.Kind] = s.Started.UTC.Add(track.End.Duration())
	}
	return ends
}
