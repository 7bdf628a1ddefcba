package session

import (
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media/ivfreader"

	"recorder/internal/lab/devserver"
	"recorder/internal/lab/member"
	"recorder/internal/sink"
)

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
		if len(m.Streams) != 2 {
			t.Fatalf("%d streams, want the one and its return", len(m.Streams))
		}
		first, again := m.Streams[0], m.Streams[1]
		for _, s := range m.Streams {
			if s.ID != "camera" || s.Ended == nil || s.EndReason == "" || s.PeerID != "alice" {
				t.Errorf("stream %q of %q ended %v: %q", s.ID, s.PeerID, s.Ended, s.EndReason)
			}
			r.check(s, outcome{calls: 2})
		}
		if first.Previous != "" || again.Previous != first.Dir {
			t.Errorf("the streams in %q and %q follow %q and %q", first.Dir, again.Dir, first.Previous, again.Previous)
		}
		if at := first.Ended.UTC; at.After(again.Started.UTC) {
			t.Errorf("it ended %v and began again %v", at, again.Started.UTC)
		}
	})
}

// A member that is there and cannot be reached is missing, and nobody is told that all of it is recorded.
func TestAMemberThatIsNeverReachedIsMissing(t *testing.T) {
	var log printed
	inRig(t, devserver.Options{}, func(r *rig) {
		r.log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
		r.startWith(10 * time.Second)
		time.Sleep(settling)
		r.cut.Store(true)
		r.join(r.token("alice"), "camera")
		time.Sleep(connecting + 2*time.Second)
		for range 20 {
			time.Sleep(time.Second)
			if c := r.completeness(); c > 0 {
				t.Fatalf("completeness %v", c)
			}
		}
		m := r.finish()
		if len(m.Streams) != 1 || len(m.Streams[0].Tracks) != 2 {
			t.Fatalf("%d streams", len(m.Streams))
		}
		s := m.Streams[0]
		if s.EndReason != sink.NeverCame || len(s.Reconnects) > 0 {
			t.Errorf("it ended because %q, reconnects %+v", s.EndReason, s.Reconnects)
		}
		for _, track := range s.Tracks {
			g := track.Gaps
			if track.Completeness != 0 || len(track.Parts) > 0 || len(g) != 1 || g[0].Reason != sink.ReasonReconnect || g[0].Start != 0 ||
				(track.Expected.Duration()-connecting-10*time.Second).Abs() > time.Second || g[0].Duration != track.Expected {
				t.Errorf("%s: completeness %v of %v s, gaps %+v", track.Kind, track.Completeness, track.Expected.Duration(), g)
			}
		}
	})
	if n := strings.Count(log.text.String(), "member could not be reached"); n != 1 {
		t.Errorf("that was said %d times:\n%s", n, &log.text)
	}
}

// A member that is there and says nothing is silent, and nothing of it is missing.
func TestAMemberThatSaysNothingIsComplete(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(10 * time.Second)
		time.Sleep(settling)
		nothing := func(func([]byte, time.Duration) bool) {}
		alice := r.joinFrom(r.host(), r.token("alice"),
			member.Track{StreamID: "camera", TrackID: "sound", MimeType: webrtc.MimeTypeOpus, Source: nothing})
		time.Sleep(5 * time.Minute)
		alice.Leave()
		time.Sleep(30 * time.Second)
		m := r.finish()
		if track := m.Streams[0].Tracks[0]; track.Completeness != 1 || track.Expected != 0 {
			t.Errorf("completeness %v of %v", track.Completeness, track.Expected.Duration())
		}
		if s := m.Streams[0]; s.EndReason != sink.MemberLeft {
			t.Errorf("it ended because %q", s.EndReason)
		}
	})
}

// What a member sent before it could be reached is missing, too, and its files are as long as it was there.
func TestAMemberThatIsReachedLateIsMissingUntilThen(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(time.Minute)
		time.Sleep(settling)
		r.cut.Store(true)
		joined := time.Now()
		alice := r.join(r.token("alice"), "camera")
		time.Sleep(connecting + 10*time.Second)
		if c := r.completeness(); c > 0 {
			t.Errorf("meanwhile completeness is %v", c)
		}
		r.cut.Store(false)
		time.Sleep(40 * time.Second)
		there := time.Since(joined)
		alice.Leave()
		m := r.finish()
		if len(m.Streams) != 1 {
			t.Fatalf("%d streams", len(m.Streams))
		}
		for _, track := range m.Streams[0].Tracks {
			if d := track.Expected.Duration() - there; d.Abs() > time.Second || len(track.Parts) != 1 ||
				(track.Parts[0].Duration.Duration()-there).Abs() > time.Second {
				t.Errorf("%s: of %v there are %v expected, %d parts", track.Kind, there, track.Expected.Duration(), len(track.Parts))
			}
			if g := track.Gaps[0]; g.Start != 0 || g.Reason != sink.ReasonReconnect || g.Duration.Duration() < connecting+10*time.Second ||
				(track.Recorded+track.Missing[sink.ReasonReconnect]+track.Missing[sink.ReasonKeyFrameWait]-track.Expected).Duration().Abs() > 100*time.Millisecond {
				t.Errorf("%s: %+v, %v recorded of %v", track.Kind, g, track.Recorded.Duration(), track.Expected.Duration())
			}
		}
	})
}

// completeness is the most that the test's channel shows at present of any kind.
func (r *rig) completeness() (most float64) {
	families, err := r.reg.Gather()
	r.must(err)
	for _, f := range families {
		if f.GetName() == "recorder_sink_completeness_ratio" {
			for _, m := range f.GetMetric() {
				most = max(most, m.GetGauge().GetValue())
			}
		}
	}
	return most
}

// The path to a member is cut for longer than the window, and comes back under the same connection.
func TestAPathThatReturnsAfterTheWindowIsRecordedAgain(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(3 * time.Second)
		time.Sleep(settling)
		alice := r.join(r.token("alice"), "camera")
		time.Sleep(5 * time.Second)
		r.cut.Store(true)
		time.Sleep(12 * time.Second)
		r.cut.Store(false)
		time.Sleep(15 * time.Second)
		alice.Leave()
		m := r.finish()
		if len(m.Streams) != 2 {
			t.Fatalf("%d streams, want the one and its return", len(m.Streams))
		}
		first, again := m.Streams[0], m.Streams[1]
		if first.EndReason != sink.NotBack || again.Previous != first.Dir {
			t.Errorf("the first ended because %q, the second follows %q", first.EndReason, again.Previous)
		}
		for _, s := range m.Streams {
			for _, track := range s.Tracks {
				if track.Recorded.Duration() < 4*time.Second {
					t.Errorf("%s: %v are recorded", track.Kind, track.Recorded.Duration())
				}
			}
		}
	})
}

func TestAReloadedPageIsANewStreamAndTheOldOneEndsWithItsWindow(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(3 * time.Second)
		time.Sleep(settling)
		for _, stream := range []string{"before", "after"} {
			alice := r.join(r.key(), stream)
			time.Sleep(5 * time.Second)
			alice.Leave()
		}
		left := time.Now()
		time.Sleep(aWindow)
		m := r.finish()
		if len(m.Streams) != 2 || m.Streams[0].ID != "before" || m.Streams[1].ID != "after" {
			t.Fatalf("%d streams", len(m.Streams))
		}
		for _, s := range m.Streams {
			r.check(s, outcome{})
			if s.EndReason != sink.MemberLeft || s.Ended.UTC.After(left) {
				t.Errorf("stream %q ended %v: %q", s.ID, s.Ended, s.EndReason)
			}
		}
	})
}

func TestAStreamTakenAwayDuringOurOutageIsClosedWithTheWindow(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		alice := r.join(r.token("alice"), "camera")
		r.startWith(10 * time.Second)
		for _, track := range camera("screen") {
			alice.Publish(r.tape.Record(track))
		}
		time.Sleep(5 * time.Second)
		r.server.Refuse(503)
		r.server.Drop(r.bot(), devserver.Drop{Presence: devserver.LeftAtOnce})
		time.Sleep(2 * time.Second)
		taken := time.Now()
		alice.Unpublish("screen")
		r.server.Refuse(0)
		time.Sleep(30 * time.Second)
		alice.Leave()
		m := r.finish()
		if len(m.Streams) != 2 {
			t.Fatalf("%d streams", len(m.Streams))
		}
		for _, s := range m.Streams {
			switch s.ID {
			case "screen":
				r.check(s, outcome{})
				if s.EndReason != sink.NotBack || s.Ended.UTC.After(taken) {
					t.Errorf("the stream that was taken away ended %v: %q", s.Ended, s.EndReason)
				}
			default:
				r.check(s, outcome{maxGap: memberGap + 2*time.Second}) // the service would not have us for so long
				if s.EndReason == sink.NotBack {
					t.Errorf("the other stream ended: %q", s.EndReason)
				}
			}
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
		tracks := camera("camera")
		tracks[1].MimeType, tracks[1].Source = webrtc.MimeTypeVP9, vp9Picture(t)
		second := r.joinFrom(r.host(), r.token("alice"), tracks...)
		time.Sleep(5 * time.Second)
		second.Leave()
		m := r.finish()
		r.checkOneStream(m, outcome{maxGap: memberGap, drops: 2, newCodec: true})
		for _, track := range m.Streams[0].Tracks {
			if p := track.Parts; track.Kind == "video" && (p[0].Codec != "vp8" || p[1].Codec != "vp9" || p[1].LastPTS <= p[0].LastPTS) {
				t.Errorf("%s to %d, %s to %d", p[0].Codec, p[0].LastPTS, p[1].Codec, p[1].LastPTS)
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
			r.check(s, outcome{path: true}) // they send to each other, too
		}
		if got := fmt.Sprint(of); got != "[alice mallory]" {
			t.Errorf("streams of %s", got)
		}
		toBot := slices.DeleteFunc(alice.Sent(), func(s member.Sent) bool { return s.Peer != "recorder" })
		checkRecorded(t, m.Streams[0], toBot)
	})
}

// checkRecorded compares what the manifest says was recorded with what was sent.
func checkRecorded(t *testing.T, s *sink.ManifestStream, sent []member.Sent) {
	t.Helper()
	for _, track := range s.Tracks {
		var played time.Duration
		for _, s := range sent {
			if s.TrackID == track.ID {
				played += s.Played
			}
		}
		if d := played - track.Recorded.Duration(); d.Abs() > gapAccuracy {
			t.Errorf("%s: %v were sent, %v are recorded", track.Kind, played, track.Recorded.Duration())
		}
	}
}

// vp9Picture is moving VP9, looped.
func vp9Picture(t *testing.T) member.Source {
	frames := ivfFrames(t, "../lab/clip/testdata/vp9.ivf")
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
		const absence = 3 * time.Second
		r.startWith(10 * time.Second)
		time.Sleep(settling)
		alice := r.join(r.key(), "camera")
		time.Sleep(5 * time.Second)
		ids := []string{alice.ID()}
		r.server.Drop(alice.ID(), devserver.Drop{})
		time.Sleep(5 * time.Second)
		ids = append(ids, alice.ID())
		alice.Leave()
		time.Sleep(absence)
		alice = r.join(r.key(), "camera")
		time.Sleep(5 * time.Second)
		ids = append(ids, alice.ID())
		n, sum := r.outages()
		alice.Leave()
		m := r.finish()
		r.checkOneStream(m, outcome{minGap: absence, maxGap: absence + memberGap, drops: 2})
		s := m.Streams[0]
		if s.PeerID != ids[0] || len(s.Reconnects) != 2 {
			t.Fatalf("stream of %q, reconnects %+v, want %q", s.PeerID, s.Reconnects, ids)
		}
		var away time.Duration
		for i, again := range s.Reconnects {
			if again.PeerID != ids[i+1] || again.Resumed == nil {
				t.Fatalf("reconnects %+v, want %q", s.Reconnects, ids)
			}
			away += again.Resumed.UTC.Sub(again.Lost.UTC)
		}
		if n != 2 || math.Abs(sum-away.Seconds()) > 0.3 || sum < absence.Seconds() {
			t.Errorf("%d outages of %v s in all are counted, want two of %v", n, sum, away)
		}
		if len(m.Peers) != len(ids) {
			t.Errorf("the manifest names %d peers, want all of alice's ids", len(m.Peers))
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
		r.checkOneStream(m, outcome{})
	})
}

// A shared screen sends a picture now and then. That is no outage, even while
// our own socket is down.
func TestAScreenThatStandsStillIsNotAwayWhileTheServiceIs(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(10 * time.Second)
		time.Sleep(settling)
		alice := r.screen("alice", "screen-video")
		time.Sleep(10 * time.Second)
		r.server.Refuse(503)
		r.server.Drop(r.bot(), devserver.Drop{Presence: devserver.Silent})
		time.Sleep(30 * time.Second)
		r.server.Refuse(0)
		time.Sleep(30 * time.Second)
		alice.Leave()
		m := r.finish()
		if len(m.Streams) != 1 || len(m.Streams[0].Reconnects) > 0 {
			t.Errorf("%d streams, the first with reconnects %+v", len(m.Streams), m.Streams[0].Reconnects)
		}
	})
}

func TestTheLongestWindowWaitsForAnHour(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(time.Hour)
		time.Sleep(settling)
		for _, away := range []time.Duration{time.Hour - 10*time.Second, 0} {
			alice := r.join(r.token("alice"), "camera")
			time.Sleep(5 * time.Second)
			alice.Leave()
			time.Sleep(away)
		}
		r.checkOneStream(r.finish(), outcome{minGap: time.Hour - 11*time.Second, maxGap: time.Hour, drops: 2})
	})
}

// outages is how many of them the test's channel shows, and of how many seconds.
func (r *rig) outages() (n uint64, sum float64) {
	families, err := r.reg.Gather()
	r.must(err)
	for _, f := range families {
		if f.GetName() == "recorder_session_outage_seconds" && len(f.GetMetric()) == 1 {
			h := f.GetMetric()[0].GetHistogram()
			return h.GetSampleCount(), h.GetSampleSum()
		}
	}
	return 0, 0
}
