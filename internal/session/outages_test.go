package session

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media/ivfreader"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"recorder/internal/devserver"
	"recorder/internal/member"
	"recorder/internal/sink"
)

func (r *rig) startWith(window time.Duration) {
	r.set = NewSet(r.options(true))
	r.must(r.set.Apply([]Config{{Channel: channel, Bot: "recorder", ReconnectWindow: window}}))
}

func TestAPathThatWasCutIsFoundAgain(t *testing.T) {
	for _, cut := range []time.Duration{9 * time.Second, 20 * time.Second, 60 * time.Second} {
		t.Run(cut.String(), func(t *testing.T) {
			inRig(t, devserver.Options{}, func(r *rig) {
				alice := r.join(r.token("alice"), "camera")
				r.startWith(2 * time.Minute)
				time.Sleep(5 * time.Second)
				r.cutFor(cut)
				time.Sleep(50 * time.Second)
				alice.Leave()
				m := r.finish()
				// An ICE restart is due within 15 s of the path's return: the
				// ladder's early steps are that close together.
				checkOneFilePerTrack(t, m, cut+15*time.Second, sink.ReasonReconnect, sink.ReasonKeyFrameWait, sink.ReasonLoss)
			})
		})
	}
}

func TestAStreamThatReturnsAfterItsWindowIsANewPart(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(3 * time.Second)
		time.Sleep(settling)
		for range 2 {
			alice := r.join(r.token("alice"), "camera")
			time.Sleep(5 * time.Second)
			alice.Leave()
			time.Sleep(6 * time.Second)
		}
		m := r.finish()
		var parts []string
		for _, s := range m.Streams {
			if s.ID != "camera" || s.Ended == nil {
				t.Errorf("stream %q, ended %v", s.ID, s.Ended)
			}
			for _, track := range s.Tracks {
				for _, part := range track.Parts {
					parts = append(parts, part.File)
				}
			}
		}
		if len(parts) != 4 {
			t.Errorf("parts %q, want two of each track", parts)
		}
	})
}

func TestAStreamTakenAwayDuringOurOutageIsClosedWithTheWindow(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		alice := r.join(r.token("alice"), "camera")
		r.startWith(10 * time.Second)
		alice.Publish(member.Track{StreamID: "screen", TrackID: "screen-video", MimeType: webrtc.MimeTypeVP8, Source: member.Picture()})
		time.Sleep(5 * time.Second)
		r.server.Refuse(503)
		r.server.Drop(r.bot(), devserver.Drop{Presence: devserver.LeftAtOnce})
		time.Sleep(2 * time.Second)
		alice.Unpublish("screen")
		r.server.Refuse(0)
		time.Sleep(30 * time.Second)
		m := r.finish()
		ended := make(map[string]bool)
		for _, s := range m.Streams {
			ended[s.ID] = s.Ended != nil && s.Ended.UTC.Before(m.Ended.UTC.Add(-5*time.Second))
		}
		if !ended["screen"] || ended["camera"] || len(ended) != 2 {
			t.Errorf("ended before the recording: %v", ended)
		}
	})
}

func TestAnotherCodecAfterASwapIsANewPartOnTheSameClock(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(10 * time.Second)
		time.Sleep(settling)
		first := r.join(r.token("alice"), "camera")
		time.Sleep(5 * time.Second)
		first.Leave()
		second, err := member.Join(context.Background(), member.Options{
			URL: "ws://127.0.0.1", Credential: r.token("alice"), Channel: channel, HTTPClient: r.http, Settings: r.host(),
			Tracks: []member.Track{{StreamID: "camera", TrackID: "camera-video", MimeType: webrtc.MimeTypeVP9, Source: vp9Picture(t)}},
		})
		r.must(err)
		r.defers(second.Leave)
		time.Sleep(5 * time.Second)
		second.Leave()
		m := r.finish()
		if len(m.Streams) != 1 {
			t.Fatalf("%d streams", len(m.Streams))
		}
		for _, track := range m.Streams[0].Tracks {
			if track.Kind != "video" {
				continue
			}
			if len(track.Parts) != 2 || track.Parts[0].Codec != "vp8" || track.Parts[1].Codec != "vp9" {
				t.Fatalf("video parts: %d", len(track.Parts))
			}
			if a, b := track.Parts[0], track.Parts[1]; b.LastPTS <= a.LastPTS {
				t.Errorf("the clock went from %d to %d", a.LastPTS, b.LastPTS)
			}
		}
	})
}

func TestALostAnswerIsRecoveredFrom(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(10 * time.Second)
		time.Sleep(settling)
		lost := r.server.Next(func(to string, frame any) bool {
			d, ok := frame.(*devserver.Direct)
			return ok && to == "alice" && d.From == "recorder"
		}, devserver.Lose)
		alice := r.join(r.token("alice"), "camera")
		time.Sleep(20 * time.Second)
		<-lost
		alice.Leave()
		m := r.finish()
		if len(m.Streams) != 1 || len(m.Streams[0].Tracks) != 2 {
			t.Fatalf("%d streams", len(m.Streams))
		}
		for _, track := range m.Streams[0].Tracks {
			if len(track.Parts) != 1 || time.Duration(track.Recorded) < 16*time.Second {
				t.Errorf("%s: %d parts, %v recorded", track.Kind, len(track.Parts), time.Duration(track.Recorded))
			}
		}
	})
}

func TestTwoLiveMembersWithOneStreamIDAreKeptApart(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(10 * time.Second)
		time.Sleep(settling)
		alice := r.join(r.token("alice"), "camera")
		time.Sleep(2 * time.Second)
		mallory := r.join(r.token("mallory"), "camera")
		time.Sleep(5 * time.Second)
		mallory.Leave()
		alice.Leave()
		m := r.finish()
		var of []string
		for _, s := range m.Streams {
			of = append(of, s.PeerID)
			for _, track := range s.Tracks {
				if len(track.Parts) != 1 {
					t.Errorf("%s of %s: %d parts", track.Kind, s.PeerID, len(track.Parts))
				}
			}
		}
		if got := fmt.Sprint(of); got != "[alice mallory]" {
			t.Errorf("streams of %s", got)
		}
		toBot := slices.DeleteFunc(alice.Sent(), func(s member.Sent) bool { return s.Peer != "recorder" })
		checkRecorded(t, sink.Manifest{Streams: m.Streams[:1]}, toBot, 100*time.Millisecond)
	})
}

// vp9Picture is moving VP9, looped.
func vp9Picture(t *testing.T) member.Source {
	frames := ivfFrames(t, "../sink/testdata/vp9.ivf")
	return func(yield func([]byte, time.Duration) bool) {
		for {
			for _, frame := range frames {
				if !yield(frame, time.Second/30) {
					return
				}
			}
		}
	}
}

func ivfFrames(t *testing.T, path string) (frames [][]byte) {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	reader, _, err := ivfreader.NewWith(f)
	if err != nil {
		t.Fatal(err)
	}
	for {
		frame, _, err := reader.ParseNextFrame()
		if err == io.EOF {
			return frames
		}
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, frame)
	}
}

func TestAMemberThatReturnsUnderAnotherIDIsNamedInTheManifestAndCounted(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(10 * time.Second)
		time.Sleep(settling)
		alice := r.join(r.key(), "camera")
		time.Sleep(5 * time.Second)
		before := alice.ID()
		r.server.Drop(before, devserver.Drop{})
		time.Sleep(5 * time.Second)
		if n := testutil.CollectAndCount(r.set.opts.metrics.outages); n != 1 {
			t.Errorf("%d histograms of outages", n)
		}
		alice.Leave()
		m := r.finish()
		s := m.Streams[0]
		if s.PeerID != before || len(s.Reconnects) == 0 || s.Reconnects[0].PeerID != alice.ID() || s.Reconnects[0].Resumed == nil {
			t.Errorf("stream of %q, reconnects %+v, want %q then %q", s.PeerID, s.Reconnects, before, alice.ID())
		}
		if len(m.Peers) != 2 {
			t.Errorf("the manifest names %d peers, want both of alice's ids", len(m.Peers))
		}
	})
}

func TestAWindowOfNothingStillRecords(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(0)
		time.Sleep(settling)
		r.cut.Store(true) // the connection takes a while
		alice := r.join(r.token("alice"), "camera")
		time.Sleep(500 * time.Millisecond)
		r.cut.Store(false)
		time.Sleep(5 * time.Second)
		alice.Leave()
		m := r.finish()
		checkOneFilePerTrack(t, m, 0)
		checkRecorded(t, m, alice.Sent(), 100*time.Millisecond)
	})
}
