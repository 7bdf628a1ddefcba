package sink

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	_ "time/tzdata" // for daylight saving wherever this runs

	"recorder/internal/timeline"

	"recorder/internal/e2e"
)

// checkSteady wants sound and pictures of that length: all there is, in order, and pictures beside the
// sound within 40 ms. They were taken every 40 ms.
func checkSteady(t *testing.T, r recorded, length time.Duration) {
	t.Helper()
	for _, kind := range []string{audio, video} {
		r := r.of(kind)
		if len(r.track.Parts) != 1 || len(r.track.Gaps) > 0 || r.track.Completeness < 1 {
			t.Errorf("%s: %d files, completeness %v, gaps %s", kind, len(r.track.Parts), r.track.Completeness, r.gaps())
		}
		if end := r.track.End.Duration(); !near(end, length, 40*ms) {
			t.Errorf("%s ends at %v, want %v", kind, end, length)
		}
	}
	if got, packets := r.audioFile(t); !near(got, length, 40*ms) || len(packets) != int(length/(20*ms)) {
		t.Errorf("%d packets of sound last %v, want %v", len(packets), got, length)
	}
	_, pts := pictures(t, r.of(video).file)
	if len(pts) != int(length/(40*ms)) {
		t.Errorf("%d pictures in %v", len(pts), length)
	}
	for i, p := range pts {
		if at := timeline.ToDuration(p, 90_000); !near(at, time.Duration(i)*40*ms, 40*ms) || i > 0 && p <= pts[i-1] {
			t.Fatalf("picture %d is shown at %v", i, at)
		}
	}
}

// checkInstants wants the manifest's times to be those of a clock that was read once, when the
// recording began, and that no one set since.
func checkInstants(t *testing.T, m *Manifest, start time.Time, length time.Duration) {
	t.Helper()
	if !m.Started.UTC.Equal(start.Round(0)) || m.Started.MonotonicMS != 0 {
		t.Errorf("started %+v, want %v", m.Started, start)
	}
	s := m.Streams[0]
	for name, i := range map[string]*Instant{"stream": &s.Started, "its end": s.Ended, "the end": m.Ended, "update": &m.Updated} {
		since := i.UTC.Sub(m.Started.UTC)
		if since < 0 || since > length+time.Second || since.Milliseconds() != i.MonotonicMS {
			t.Errorf("%s %v after the start by the one clock, %d ms by the other", name, since, i.MonotonicMS)
		}
	}
	if got := m.Ended.UTC.Sub(s.Started.UTC); !near(got, length, 100*ms) {
		t.Errorf("the stream lasted %v, want %v", got, length)
	}
}

// play sends sound and pictures, and reports on both, for a while that lasts no time: the pump is
// told that it passes, and arrival tells what the clocks show as a packet comes.
func (c *call) play(length time.Duration, arrival func(at time.Duration) time.Time) {
	a, v := c.audio(), c.video()
	for at := time.Duration(0); at < length; at += 20 * ms {
		now := arrival(at)
		if at%(40*ms) == 0 {
			v.WriteRTP(rtpPacket(ptVP8, true, v.seq, v.rtp, 8, vp8Payload([]byte{0x10}, testPicture(at == 0)...)), now)
			v.seq, v.rtp = v.seq+1, v.rtp+3600
		}
		a.WriteRTP(rtpPacket(ptOpus, false, a.seq, a.rtp, 7, tone(a.seq)), now)
		a.seq, a.rtp = a.seq+1, a.rtp+960
		if at%time.Second == 0 {
			a.WriteSenderReport(ntp(at), a.rtp-960, now)
			v.WriteSenderReport(ntp(at), v.rtp-3600, now)
		}
		c.rec.tick(at + pumpInterval)
	}
}

// Someone sets the clock of the machine during a call. Nothing moves in the files, and the manifest
// goes by the clock as it was at the start.
func TestAStepOfTheWallClockMovesNothing(t *testing.T) {
	const length = 8 * time.Second
	for name, step := range map[string]time.Duration{"an hour ahead": time.Hour, "an hour back": -time.Hour, "a second back": -time.Second} {
		t.Run(name, func(t *testing.T) {
			options := Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)}
			root, err := Open(options)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			start := time.Now() // outside of a bubble, where there are two clocks to read
			rec, err := root.newRecording(RecordingInfo{Channel: "room", Start: start})
			if err != nil {
				t.Fatal(err)
			}
			stream, err := rec.NewStream(StreamInfo{PeerID: "alice", StreamID: "camera"})
			if err != nil {
				t.Fatal(err)
			}
			c := &call{T: t, root: root, rec: rec, stream: stream}
			c.play(length, func(at time.Duration) time.Time {
				if at < length/4 || at >= length*3/4 { // by then it is set right again
					return start.Add(at)
				}
				return e2e.SetClock(start.Add(at), step)
			})
			if err := rec.finish(context.Background(), context.Background(), length); err != nil {
				t.Fatal(err)
			}
			r := readRecording(t, filepath.Join(options.Dir, rec.Dir()))
			checkSteady(t, r, length)
			checkInstants(t, r.manifest, start, length)
		})
	}
}

// The manifest and the names of directories are in UTC, which knows no daylight saving.
func TestDaylightSavingMovesNothing(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]time.Time{
		"begins": time.Date(2000, time.March, 26, 1, 0, 0, 0, time.UTC),
		"ends":   time.Date(2000, time.October, 29, 1, 0, 0, 0, time.UTC),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var start time.Time
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(change.Add(-5 * time.Second)))
				start = time.Now().In(berlin)
				root, err := Open(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
				if err != nil {
					t.Fatal(err)
				}
				rec, err := root.NewRecording(RecordingInfo{Channel: "room", Start: start})
				if err != nil {
					t.Fatal(err)
				}
				c := &call{T: t, root: root, rec: rec, pumped: true}
				c.open("alice")
				c.talk(c.audio(), c.video(), 10*time.Second)
				if _, before := start.Zone(); before == offset(time.Now().In(berlin)) {
					t.Error("the clock did not change during the call")
				}
				c.end()
			})
			r := readRoom(t, dir)
			if !strings.HasPrefix(filepath.Base(r.dir), start.UTC().Format("20060102T150405Z-")) {
				t.Errorf("recorded to %s", r.dir)
			}
			checkSteady(t, r, 10*time.Second)
			checkInstants(t, r.manifest, start, 10*time.Second)
		})
	}
}

func offset(t time.Time) int {
	_, offset := t.Zone()
	return offset
}

// A sender whose own clock is set says so in its reports of sound first and of pictures later, or the
// other way round. Pictures take 60 ms longer on their way, which only the reports tell.
func TestALeapOfTheSendersClockPartsNothing(t *testing.T) {
	const length, slower = 30 * time.Second, 60 * ms
	for name, leap := range map[string]time.Duration{"an hour ahead": time.Hour, "an hour back": -time.Hour, "none": 0} {
		t.Run(name, func(t *testing.T) {
			r := inCall(t, Options{}, func(c *call) {
				a, v := c.audio(), c.video()
				sound, picture := a.rtp, v.rtp
				for at := time.Duration(0); at < length; at += 20 * ms {
					shown := 2*time.Hour + at
					if at >= 10*time.Second && at < 20*time.Second {
						shown += leap
					}
					if at%time.Second == 0 {
						a.WriteSenderReport(ntp(shown), sound+uint32(timeline.ToTicks(at, 48_000)), time.Now())
					}
					if at%time.Second == 500*ms {
						v.WriteSenderReport(ntp(shown), picture+uint32(timeline.ToTicks(at, 90_000)), time.Now())
					}
					a.put(tone(a.seq))
					a.rtp += 960
					if taken := at - slower; taken >= 0 && taken%(40*ms) == 0 {
						v.put(vp8Payload([]byte{0x10}, testPicture(taken == 0)...))
						v.rtp += 3600
					}
					c.wait(20 * ms)
				}
			})
			if d := r.of(audio).track; len(d.Gaps) > 0 || !near(d.End.Duration(), length, 40*ms) {
				t.Errorf("sound ends at %v, gaps %s", d.End.Duration(), r.of(audio).gaps())
			}
			_, pts := pictures(t, r.of(video).file)
			pts = pts[1:] // the first is held
			for i, p := range pts {
				at, taken := timeline.ToDuration(p, 90_000), time.Duration(i)*40*ms
				if i > 0 && p <= pts[i-1] {
					t.Fatalf("picture %d is shown at %v, behind the one before", i, at)
				}
				if taken > 8*time.Second && !near(at, taken, 40*ms) {
					t.Fatalf("picture %d, taken at %v, is shown at %v", i, taken, at)
				}
			}
			if want := int((length - slower) / (40 * ms)); len(pts) < want-1 || len(r.of(video).track.Gaps) > 1 {
				t.Errorf("%d pictures of %d, gaps %s", len(pts), want, r.of(video).gaps())
			}
		})
	}
}

// The recorder dies and starts again, and meanwhile its clock was set back: what it goes on with does
// not go back.
func TestARestartAfterTheClockWasSetBack(t *testing.T) {
	for _, back := range []time.Duration{time.Hour, 30 * time.Second} {
		t.Run(back.String(), func(t *testing.T) {
			dir, left := t.TempDir(), t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(back)
				c := begin(t, dir)
				c.talk(c.audio(), c.video(), 5*time.Second)
				c.crash(left)
				c.end()
			})
			synctest.Test(t, func(t *testing.T) { // which begins as early as the one before
				c := begin(t, left)
				c.talk(c.audio(), c.video(), 5*time.Second)
				c.end()
			})
			r := readRoom(t, left)
			if since := r.manifest.Ended.UTC.Sub(r.manifest.Started.UTC); !near(since, 10*time.Second, 1200*ms) {
				t.Errorf("it lasts %v", since)
			}
			for _, kind := range []string{audio, video} {
				r := r.of(kind)
				if end := r.track.End.Duration(); len(r.track.Parts) != 1 || !near(end, 10*time.Second, 1200*ms) {
					t.Errorf("%s: %d files, ends at %v, gaps %s", kind, len(r.track.Parts), end, r.gaps())
				}
			}
			at := Instant{UTC: r.manifest.Started.UTC}
			for _, s := range r.manifest.Streams {
				for _, o := range s.Reconnects {
					if o.Lost.UTC.Before(at.UTC) || o.Resumed.UTC.Before(o.Lost.UTC) {
						t.Errorf("lost %v, resumed %v", o.Lost, o.Resumed)
					}
				}
			}
		})
	}
}
