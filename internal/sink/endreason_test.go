package sink

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// A stream whose member left says so, however the recording ends, and ended when it left. If the
// member is back after a restart in time, the stream goes on in its file.
func TestAStreamWhoseMemberLeftSaysSoAndMayComeBack(t *testing.T) {
	for name, stop := range map[string]func(c *call, copied string) (dir string){
		"the recorder is stopped": func(c *call, _ string) string {
			c.suspend()
			return c.root.options.Dir
		},
		"the recorder dies": func(c *call, copied string) string {
			defer c.end()
			return c.crash(copied)
		},
	} {
		t.Run(name, func(t *testing.T) {
			start, copied := t.TempDir(), t.TempDir()
			var dir string
			synctest.Test(t, func(t *testing.T) {
				c := begin(t, start)
				c.rec.PeerJoined("alice", nil)
				c.rec.PeerJoined("bob", nil)
				if _, err := c.rec.NewStream(StreamInfo{PeerID: "bob", StreamID: "screen"}); err != nil {
					t.Fatal(err)
				}
				a := c.audio()
				a.speak(100)
				a.Close()
				c.rec.PeerLeft("alice")
				time.Sleep(time.Second)
				dir = stop(c, copied)

				root, rec := restart(t, dir, slog.DiscardHandler)
				m := readRecording(t, find(t, dir, 1)[0]).manifest
				if s := m.Streams[0]; s.EndReason != MemberLeft || !near(m.position(*s.Ended), 2*time.Second, 50*ms) {
					t.Errorf("the stream of the member that left ended %v after %v: %s", m.position(*s.Ended), m.position(m.Started), s.EndReason)
				}
				if s := m.Streams[1]; s.EndReason != Stopped && s.EndReason != Interrupted {
					t.Errorf("the stream of the member that stayed ended: %s", s.EndReason)
				}
				back := &call{T: t, root: root, rec: rec, pumped: true}
				rec.PeerJoined("alice", nil)
				back.open("alice")
				back.audio().speak(100)
				back.end()
			})
			m := readRecording(t, find(t, dir, 1)[0]).manifest
			s := m.Streams[0]
			if len(m.Streams) != 2 || s.EndReason != Closed || len(s.Tracks[0].Parts) != 1 || len(s.Reconnects) != 1 {
				t.Errorf("the stream is back in %d parts, %d streams in all; it ended: %s", len(s.Tracks[0].Parts), len(m.Streams), s.EndReason)
			}
		})
	}
}

// A member that left and is back with its stream, by whichever id, has not left; neither has one that
// only its stream is missed of.
func TestAMemberThatIsBackHasNotLeft(t *testing.T) {
	for name, test := range map[string]struct {
		happens func(c *call)
		want    string
	}{
		"as itself": {func(c *call) { c.rec.PeerLeft("alice"); c.wait(time.Second); c.rec.PeerJoined("alice", nil) }, Closed},
		"as another": {func(c *call) {
			c.stream.Outage(ReasonReconnect, time.Time{})
			c.rec.PeerLeft("alice")
			c.rec.PeerJoined("alice again", nil)
			c.wait(time.Second)
			c.stream.Resume("alice again")
		}, Closed},
		"it stayed": {func(c *call) {
			c.stream.Outage(ReasonReconnect, time.Time{})
			c.wait(time.Second)
			c.stream.Close(NotBack)
		}, NotBack},
		"it left while its stream was away": {func(c *call) {
			c.stream.Outage(ReasonReconnect, time.Time{})
			c.wait(time.Second)
			c.rec.PeerLeft("alice")
			c.wait(time.Second)
			c.stream.Close(NotBack)
		}, MemberLeft},
		"it is back without its stream": {func(c *call) {
			c.stream.Outage(ReasonReconnect, time.Time{})
			c.rec.PeerLeft("alice")
			c.wait(time.Second)
			c.rec.PeerJoined("alice", nil)
			c.wait(time.Second)
			c.stream.Close(NotBack)
		}, MemberLeft},
		"its stream stayed away later": {func(c *call) {
			c.rec.PeerLeft("alice")
			c.wait(time.Second)
			c.rec.PeerJoined("alice", nil)
			c.audio().speak(50)
			c.stream.Outage(ReasonReconnect, time.Time{})
			c.wait(time.Second)
			c.stream.Close(NotBack)
		}, NotBack},
	} {
		t.Run(name, func(t *testing.T) {
			r := inCall(t, Options{}, func(c *call) {
				c.rec.PeerJoined("alice", nil)
				c.audio().speak(50)
				test.happens(c)
			})
			if s := r.manifest.Streams[0]; s.EndReason != test.want {
				t.Errorf("it ended: %s", s.EndReason)
			}
		})
	}
}

// What follows a full recording is where its streams go on, but for those of members that left.
func TestAStreamGoesOnInTheNextRecordingUnlessItsMemberLeft(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		if _, err := c.rec.NewStream(StreamInfo{PeerID: "bob", StreamID: "screen"}); err != nil {
			t.Fatal(err)
		}
		c.wait(time.Second)
		c.rec.PeerLeft("bob")
		next, err := c.root.newRecording(RecordingInfo{Channel: "room", Bot: "bot", Follows: c.rec})
		if err != nil {
			t.Fatal(err)
		}
		if err := next.finish(context.Background(), context.Background(), next.now()); err != nil {
			t.Error(err)
		}
	})
	if s := r.manifest.Streams; s[0].EndReason != GoesOn || s[1].EndReason != MemberLeft {
		t.Errorf("they ended: %s, %s", s[0].EndReason, s[1].EndReason)
	}
	if p := r.manifest.Peers; p[0].Left != nil || p[1].Left == nil {
		t.Errorf("who left is not who did: %v, %v", p[0].Left, p[1].Left)
	}
}
