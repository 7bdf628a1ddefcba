package attack

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"recorder/internal/sink"
)

var (
	lasts = flag.Duration("attack", 1500*time.Millisecond, "how long each attack lasts")
)

// bounds are how much more than before an attack the process may hold while it
// lasts. Log is a second's, over what each attack may say once.
var bounds = usage{rss: 96 << 20, descriptors: 48, goroutines: 500, series: 700, log: 2 << 10}

const (
	saidOnce    = 32 << 10 // of log
	maxManifest = 256 << 10
)

// group is attacks that one process endures, one after the other.
type group struct {
	name    string
	options string // of the channel
	attacks []string
	// check, if not nil, looks at what the first attack left besides.
	check func(t *testing.T, a attacked, recordings []sink.Manifest)
}

// groups are all attacks. Those that want nothing special are spread by what
// they begin with.
func groups() []group {
	all := []group{
		{name: "thief", options: ", reconnect_window: 2s", attacks: []string{"stream-theft"}},
		{
			name:    "places",
			options: ", reconnect_window: 1s, max_streams: 4",
			attacks: []string{"waiting"},
			check:   checkWaiting,
		},
		{name: "packets"}, {name: "signals"}, {name: "rest"},
	}
	for _, a := range All() {
		switch {
		case a.Name == "stream-theft" || a.Name == "waiting":
		case strings.HasPrefix(a.Name, "packets-"):
			all[2].attacks = append(all[2].attacks, a.Name)
		case a.Service || slices.ContainsFunc(slices.Concat(memberAttacks, portAttacks), a.is):
			all[4].attacks = append(all[4].attacks, a.Name)
		default:
			all[3].attacks = append(all[3].attacks, a.Name)
		}
	}
	return all
}

// Whatever one member, the network or the service does, nothing of another
// member is lost, the process lives and is ready, and what it holds is bounded.
func TestNobodyElseLosesAnythingToAnAttack(t *testing.T) {
	for _, g := range groups() {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			g.run(t)
		})
	}
}

// attacked is when an attack was, and on what test.
type attacked struct {
	name       string
	start, end time.Time
}

func (g group) run(t *testing.T) {
	r := newTarget(t, g.options)
	r.start()
	witnesses := r.witnesses()
	var history []attacked
	for _, name := range g.attacks {
		t.Run(name, func(t *testing.T) {
			a, _ := Find(name)
			start := time.Now()
			r.endures(t, a)
			history = append(history, attacked{name, start, time.Now()})
		})
	}
	time.Sleep(edge)
	r.ready(t)
	for _, w := range witnesses {
		w.leave()
	}
	r.recorder.Signal(syscall.SIGTERM)
	if code := r.recorder.Wait(20 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	r.checkFiles(t, maxManifest)
	recordings := r.recordings()
	for _, w := range witnesses {
		w.check(t, history, recordings)
	}
	if g.check != nil && len(history) > 0 {
		g.check(t, history[0], recordings)
	}
}

// endures runs an attack and looks at what it does to the process.
func (r *target) endures(t *testing.T, a Attack) {
	before := r.usage()
	stop := r.watch()
	report, err := a.Run(t.Context(), r.Target, max(*lasts, a.Lasts))
	if broken := BrokenPromise(""); errors.As(err, &broken) {
		t.Error(broken)
	} else if err != nil {
		t.Errorf("could not attack: %v", err)
	}
	if report.Sent == 0 && err == nil {
		t.Error("nothing was sent")
	}
	grown := stop().less(before)
	seconds := report.Took.Seconds()
	t.Logf(
		"| %s | %d in %.1f s | %.1f MB | %d | %d | %d | %.0f |",
		a.Name,
		report.Sent,
		seconds,
		float64(grown.rss)/1e6,
		grown.descriptors,
		grown.goroutines,
		grown.series,
		float64(grown.log)/seconds,
	)
	r.ready(t)
	for _, b := range []struct {
		what      string
		got, most int
	}{
		{"bytes of memory", grown.rss, bounds.rss},
		{"descriptors", grown.descriptors, bounds.descriptors},
		{"goroutines", grown.goroutines, bounds.goroutines},
		{"series", grown.series, bounds.series},
		{"bytes of log", grown.log, saidOnce + int(float64(bounds.log)*seconds)},
	} {
		if b.got > b.most {
			t.Errorf("%d more %s, at most %d may be", b.got, b.what, b.most)
		}
	}
}

// checkFiles looks at all that was recorded, of whoever it is. most is of a
// manifest, in bytes.
func (r *target) checkFiles(t *testing.T, most int64) {
	t.Helper()
	if report, err := sink.Verify(t.Context(), r.dir, nil); err != nil || !report.OK {
		t.Errorf("verify: %v %+v", err, report)
	}
	if strings.Contains(r.recorder.Output(), "panic") {
		t.Error("something panicked")
	}
	for _, m := range r.recordings() {
		for _, s := range m.Streams {
			for _, track := range s.Tracks {
				if d := track.Missing[sink.ReasonDisk]; d > 0 {
					t.Errorf("%v of %s's %s are blamed on the disk", d.Duration(), s.PeerID, track.Kind)
				}
			}
		}
	}
	_ = filepath.WalkDir(r.dir, func(path string, d os.DirEntry, err error) error {
		rel, _ := filepath.Rel(r.dir, path)
		if !filepath.IsLocal(rel) ||
			strings.ContainsFunc(rel, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("a file is named %q", rel)
		}
		if info, err := d.Info(); err == nil && d.Name() == sink.ManifestName &&
			info.Size() > most {
			t.Errorf("a manifest of %d bytes", info.Size())
		}
		return err
	})
}

// checkWaiting wants who waited to be recorded from when a place was free, and
// of that nothing to be lost.
func checkWaiting(t *testing.T, a attacked, recordings []sink.Manifest) {
	for _, m := range recordings {
		for _, s := range m.Streams {
			if s.PeerID != waiter {
				continue
			}
			if early := a.start.Add(placesTaken).Sub(s.Started.UTC); early > 0 {
				t.Errorf("who waited is recorded from %v before there was a place", early)
			}
			for _, track := range s.Tracks {
				if d := track.Missing[sink.ReasonLoss]; d.Duration() > edge {
					t.Errorf(
						"%v of the %s that waited are booked as lost",
						d.Duration(),
						track.Kind,
					)
				}
			}
			return
		}
	}
	t.Error("who waited was not recorded")
}
