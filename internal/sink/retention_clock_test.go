package sink

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A wall clock that leaps is doubted for a day, whichever way it leaps and whether the recorder ran or
// not, and one that runs as clocks do, or came back to where it was, never is.
func TestAWallClockThatLeapsIsDoubted(t *testing.T) {
	const day = 24 * time.Hour
	noon := time.Date(2026, 5, 6, 12, 0, 0, 0, time.UTC)
	never := time.Duration(1 << 62)
	type look struct {
		wall, at time.Duration // since noon, and since the process began
		mark     time.Duration
		newest   time.Duration
		want     wallState
	}
	const no, yes = wallDoubted, wallBelieved
	for name, looks := range map[string][]look{
		"nothing is known":             {{0, 0, never, never, yes}},
		"it runs":                      {{0, 0, -time.Minute, 0, yes}, {time.Minute, time.Minute, 0, 0, yes}, {10 * day, 10 * day, time.Minute, 0, yes}},
		"it is slewed":                 {{0, 0, 0, 0, yes}, {time.Minute + time.Second, time.Minute, 0, 0, yes}, {2*time.Minute - time.Second, 2 * time.Minute, 0, 0, yes}},
		"a short stop":                 {{0, 0, -time.Hour, -9 * day, yes}},
		"a stop of a weekend":          {{0, 0, -2 * day, -3 * day, no}, {time.Hour, time.Hour, -2 * day, -3 * day, no}, {day, day, -2 * day, -3 * day, yes}},
		"no mark, a new recording":     {{0, 0, never, -time.Hour, yes}},
		"no mark, old recordings":      {{0, 0, never, -2 * day, no}},
		"an old mark, a new recording": {{0, 0, -99 * day, -time.Hour, yes}},
		"behind all that is known":     {{0, 0, 10 * day, 9 * day, no}, {day, day, 10 * day, 9 * day, yes}},
		"a recording of the future":    {{0, 0, -time.Minute, 999 * day, yes}},
		"ahead while it runs":          {{0, 0, 0, 0, yes}, {30 * day, time.Minute, 0, 0, no}, {31 * day, day, 0, 0, no}, {31*day + time.Minute, day + time.Minute, 0, 0, yes}},
		"back while it runs":           {{0, 0, 0, 0, yes}, {-30 * day, time.Minute, 0, 0, no}, {-29 * day, day + time.Minute, 0, 0, yes}},
		"ahead, and back":              {{0, 0, 0, 0, yes}, {30 * day, time.Minute, 0, 0, no}, {2 * time.Minute, 2 * time.Minute, 0, 0, yes}},
		"ahead twice": {{0, 0, 0, 0, yes}, {30 * day, time.Minute, 0, 0, no}, {60 * day, 2 * time.Minute, 0, 0, no},
			{60*day + 24*time.Hour, day + time.Minute, 0, 0, no}, {61*day + time.Minute, day + 2*time.Minute, 0, 0, yes}},
		"a machine that slept":    {{0, 0, 0, 0, yes}, {8 * time.Hour, time.Second, 0, 0, no}},
		"a person says it is so":  {{0, 0, -9 * day, -9 * day, no}, {time.Hour, time.Hour, time.Hour - time.Second, -9 * day, yes}, {2 * time.Hour, 2 * time.Hour, time.Hour, 0, yes}},
		"a person said it before": {{0, 0, -time.Second, -99 * day, yes}},
	} {
		t.Run(name, func(t *testing.T) {
			var c wallWatch
			at := func(d time.Duration) time.Time {
				if d == never {
					return time.Time{}
				}
				return noon.Add(d)
			}
			for i, l := range looks {
				if got := c.look(at(l.wall), l.at, at(l.mark), at(l.newest)); got != l.want {
					t.Errorf("look %d: state %d, want %d", i, got, l.want)
				}
			}
		})
	}
}

// shelf is a root that keeps recordings, on clocks of the test's.
type shelf struct {
	*testing.T
	*Root
	dir  string
	wall time.Time
	at   time.Duration
	log  bytes.Buffer
	reg  *prometheus.Registry
}

func openShelf(t *testing.T, dir string, wall time.Time) *shelf {
	t.Helper()
	s := &shelf{T: t, dir: dir, wall: wall, reg: prometheus.NewRegistry()}
	var err error
	s.Root, err = Open(Options{
		Dir: dir, Logger: slog.New(slog.NewTextHandler(&s.log, nil)), Registerer: s.reg,
		clocks: func() (time.Time, time.Duration) { return s.wall, s.at },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Root.Close() })
	return s
}

// put makes a finished recording.
func (s *shelf) put(ended, final time.Time) string {
	s.Helper()
	m := newManifest("room")
	m.Started = At(ended.Add(-time.Hour), ended.Add(-time.Hour))
	end := m.instant(time.Hour)
	m.State, m.Ended, m.Updated = StateRecovered, &end, At(m.Started.UTC, final)
	st, err := newStore(s.Root.dir(), m)
	if err != nil {
		s.Fatal(err)
	}
	if err := st.SaveManifest(m); err != nil {
		s.Fatal(err)
	}
	if err := st.Close(); err != nil {
		s.Fatal(err)
	}
	return st.Dir()
}

// pass lets time pass, minute by minute as Retain is called, and wants that removed.
func (s *shelf) pass(d time.Duration, policy Retention, want ...string) {
	s.Helper()
	var gone []string
	for end := s.at + d; s.at < end; {
		s.wall, s.at = s.wall.Add(time.Minute), s.at+time.Minute
		removed, err := s.Retain(context.Background(), policy)
		if err != nil {
			s.Error(err)
		}
		gone = append(gone, removed...)
	}
	if !slices.Equal(gone, want) {
		s.Errorf("removed %q, want %q", gone, want)
	}
}

func (s *shelf) wantPaused(paused bool) {
	s.Helper()
	want := "0\n"
	if paused {
		want = "1\n"
	}
	want = "# HELP recorder_sink_retention_paused 1 while no recordings are removed because the clock leapt or could not be checked.\n" +
		"# TYPE recorder_sink_retention_paused gauge\nrecorder_sink_retention_paused " + want
	if err := testutil.GatherAndCompare(s.reg, strings.NewReader(want), "recorder_sink_retention_paused"); err != nil {
		s.Error(err)
	}
}

var may = time.Date(2026, 5, 6, 12, 0, 0, 0, time.UTC)

// A recording that was repaired a week after its recorder died is kept for as long as any other.
func TestARecordingThatWasRepairedLateIsKeptForItsTime(t *testing.T) {
	s := openShelf(t, t.TempDir(), may)
	if err := s.markClock(may); err != nil {
		t.Fatal(err)
	}
	week, hour := 7*24*time.Hour, time.Hour
	late := s.put(may.Add(-week), may)
	old := s.put(may.Add(-week), may.Add(-week))
	young := s.put(may.Add(hour), may.Add(-week)) // its manifest is of another clock
	s.pass(2*time.Minute, Retention{MaxAge: 3 * hour}, old)
	s.pass(3*hour-3*time.Minute, Retention{MaxAge: 3 * hour})
	s.pass(2*time.Minute, Retention{MaxAge: 3 * hour}, late)
	s.pass(2*hour, Retention{MaxAge: 3 * hour}, young)
}

// A clock that leaps ahead, or back, removes nothing, while the recorder runs or while it does not. It is said
// once, and shown.
func TestAClockThatLeapsRemovesNothing(t *testing.T) {
	const day = 24 * time.Hour
	policy := Retention{MaxAge: 30 * day, MaxSize: 1 << 20}
	for name, leap := range map[string]time.Duration{"a year ahead": 365 * day, "a year back": -365 * day, "to 2089": 63 * 365 * day} {
		for _, running := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				s := openShelf(t, t.TempDir(), may)
				first := s.put(may.Add(-time.Hour), may)
				s.pass(time.Hour, policy)
				s.wantPaused(false)
				s.wall = s.wall.Add(leap)
				if !running {
					s = openShelf(t, s.dir, s.wall)
				}
				if err := os.WriteFile(filepath.Join(s.dir, first, "audio"), make([]byte, 1<<20), 0o600); err != nil { // more than is kept
					t.Fatal(err)
				}
				s.pass(23*time.Hour, policy)
				s.wantPaused(true)
				if n := strings.Count(s.log.String(), "the clock leapt"); n != 1 || strings.Contains(s.log.String(), "ERROR") {
					t.Errorf("%d warnings: %s", n, s.log.String())
				}
				s.pass(2*time.Hour, policy, first)
				s.wantPaused(false)
				if n := strings.Count(s.log.String(), "believed again"); n != 1 {
					t.Errorf("%d: %s", n, s.log.String())
				}
			})
		}
	}
}

// Who touches the mark says that the clock is right.
func TestAPersonMayConfirmTheClock(t *testing.T) {
	s := openShelf(t, t.TempDir(), may)
	old := s.put(may.Add(-99*24*time.Hour), may.Add(-99*24*time.Hour))
	policy := Retention{MaxAge: 24 * time.Hour}
	s.pass(time.Hour, policy)
	mark := filepath.Join(s.dir, wallMark)
	if err := os.MkdirAll(filepath.Dir(mark), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(mark, nil, 0o600); err != nil { // at another time than now
		t.Fatal(err)
	}
	s.pass(time.Hour, policy)
	if err := os.Chtimes(mark, s.wall, s.wall); err != nil {
		t.Fatal(err)
	}
	s.pass(time.Minute, policy, old)
	s.pass(time.Hour, policy)
}

// A recording that was made while the clock was years behind is kept for its time, by the clock that
// nobody sets, when the clock is put right.
func TestARecordingOfAWrongClockIsKeptForItsTime(t *testing.T) {
	const day = 24 * time.Hour
	s := openShelf(t, t.TempDir(), may)
	s.pass(time.Hour, Retention{MaxAge: 7 * day})
	wrong := s.put(may.Add(-999*day), may.Add(-999*day))
	s.pass(6*day, Retention{MaxAge: 7 * day})
	s.pass(2*day, Retention{MaxAge: 7 * day}, wrong)
}

// Of a stay that took several recordings each is removed when its own time has come, and what is no
// manifest of ours is never counted and never removed.
func TestOthersRecordingsAreNeitherCountedNorRemoved(t *testing.T) {
	s := openShelf(t, t.TempDir(), may)
	one, two := s.put(may.Add(-3*time.Hour), may.Add(-3*time.Hour)), s.put(may.Add(-2*time.Hour), may.Add(-2*time.Hour))
	makeTree(t, s.dir, "room/theirs/"+ManifestName, "room/20260101T070807Z-abcdefgh/"+ManifestName, "room/20260101T070807Z-abcdefgi/film.mkv")
	if err := os.Truncate(filepath.Join(s.dir, "room/20260101T070807Z-abcdefgi/film.mkv"), 1<<30); err != nil {
		t.Fatal(err)
	}
	want := names(t, s.dir)
	s.pass(time.Hour, Retention{MaxSize: 1 << 20})
	if got := names(t, s.dir); !slices.Equal(got, want) {
		t.Errorf("gone: %q, left: %q", without(want, got), without(got, want))
	}
	s.pass(time.Minute, Retention{MaxAge: 3*time.Hour + 30*time.Minute}, one)
	s.pass(time.Hour, Retention{MaxAge: 3*time.Hour + 30*time.Minute}, two)
}
