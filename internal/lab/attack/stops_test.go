package attack

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"recorder/internal/lab/tape"
	"recorder/internal/sink"
)

var (
	stops = flag.Int("stops", 3, "how often the recorder is stopped while it is attacked")
	kills = flag.Int("kills", 3, "how often the recorder is killed while it is attacked")
)

const (
	// maxPerRun is how much a manifest may grow with each run: attackers come
	// again, too.
	maxPerRun = 16 << 10
	// costOfKill is what a kill may cost: the sync interval, and a moment to
	// write what was due.
	costOfKill = 1200 * time.Millisecond
	// costOfStop is what may be on its way when a stop begins.
	costOfStop = 250 * time.Millisecond
)

// meanwhile are attacks that go on while the recorder is stopped or killed.
var meanwhile = []string{
	"connections",
	"names",
	"udp-junk",
	"srtp-replay",
	"packets-headers-full-of-everything",
}

// A recorder that is stopped while it is attacked ends in time with files that
// are final, and lacks nothing that came before.
func TestARecorderUnderAttackStops(t *testing.T) {
	endsAgainAndAgain(t, *stops, costOfStop, func(r *target) {
		r.recorder.Signal(syscall.SIGTERM)
		if code := r.recorder.Wait(20 * time.Second); code != 0 {
			t.Errorf("exit code %d", code)
		}
		if report, err := sink.Verify(t.Context(), r.dir, nil); err != nil || !report.OK {
			t.Errorf("verify: %v %+v", err, report)
		}
	})
}

// A recorder that is killed while it is attacked loses a sync interval.
func TestARecorderUnderAttackIsKilled(t *testing.T) {
	endsAgainAndAgain(t, *kills, costOfKill, func(r *target) {
		r.recorder.Kill()
		left := filepath.Join(t.TempDir(), fmt.Sprint("left-", rand.Uint32()))
		if err := os.CopyFS(left, os.DirFS(r.dir)); err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(left)
		if report, err := sink.Repair(t.Context(), left, nil); err != nil || !report.OK {
			t.Errorf("repair: %v %+v", err, report)
		}
		if report, err := sink.Verify(t.Context(), left, nil); err != nil || !report.OK {
			t.Errorf("verify: %v %+v", err, report)
		}
	})
}

// flows waits until the witness sends to a recorder that was started at a time.
func (w *witness) flows(t testing.TB, since time.Time) {
	t.Helper()
	end := time.Now().Add(20 * time.Second)
	for ; time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if sent := w.tape.Sent(w.name + "-video"); len(sent) > 0 &&
			sent[len(sent)-1].At.After(since.Add(costOfKill)) {
			return
		}
	}
	t.Fatalf("%s is not connected", w.name)
}

// endsAgainAndAgain starts a recorder n times while attacks and a witness go
// on, has each end at some moment, and starts it once more. Of what the witness
// sent from the first frame of a run to so long before its end nothing is
// missing.
func endsAgainAndAgain(t *testing.T, n int, cost time.Duration, end func(*target)) {
	t.Parallel()
	r := newTarget(t, "")
	ctx, stop := context.WithCancel(t.Context())
	var attacks sync.WaitGroup
	defer attacks.Wait()
	defer stop()
	w := r.testify(lobby, "alice", always)
	for _, name := range meanwhile {
		a, _ := Find(name)
		attacks.Go(func() {
			for ctx.Err() == nil {
				_, _ = a.Run(
					ctx,
					r.Target,
					time.Minute,
				) // which fails whenever the recorder is gone
				time.Sleep(100 * time.Millisecond)
			}
		})
	}
	var runs []attacked
	for i := range n + 1 {
		began := time.Now()
		r.start()
		if i%2 == 0 || i == n { // the others end at any moment of their beginning
			w.flows(t, began)
		}
		if i == n {
			time.Sleep(2 * time.Second)
			stop()
			attacks.Wait()
			runs = append(runs, attacked{"the last run", began, time.Now()})
			w.leave()
			break
		}
		time.Sleep(time.Duration(rand.Int64N(int64(3 * time.Second))))
		ended := time.Now()
		end(r)
		runs = append(runs, attacked{fmt.Sprint("run ", i+1), began, ended})
	}
	r.recorder.Signal(syscall.SIGTERM)
	if code := r.recorder.Wait(20 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	r.checkFiles(t, int64(maxManifest+n*maxPerRun))
	for _, kind := range []string{"audio", "video"} {
		w.checkRuns(t, r.recordings(), kind, runs, cost)
	}
}

// checkRuns looks for what is missing in the middle of each run.
func (w *witness) checkRuns(
	t *testing.T,
	recordings []sink.Manifest,
	kind string,
	runs []attacked,
	cost time.Duration,
) {
	recorded := w.recorded(t, recordings, kind)
	for _, run := range runs {
		var began time.Time
		var lost []tape.Frame
		found := 0
		for _, f := range w.tape.Sent(w.name + "-" + kind) {
			switch {
			case f.At.Before(run.start) || f.At.After(run.end.Add(-cost)):
			case recorded[f]:
				if found++; began.IsZero() {
					began = f.At
				}
			case !began.IsZero():
				lost = append(lost, f)
			}
		}
		took := run.end.Sub(run.start).Round(time.Millisecond)
		t.Logf("%s, %v: %d frames of %s recorded, %d lost", run.name, took, found, kind, len(lost))
		if len(lost) > 0 {
			t.Errorf("%s: %d frames of %s are lost after the first", run.name, len(lost), kind)
		}
	}
	if len(recorded) == 0 {
		t.Errorf("no %s was recorded", kind)
	}
}

// recorded are the frames of a witness that are in its files.
func (w *witness) recorded(
	t testing.TB,
	recordings []sink.Manifest,
	kind string,
) map[tape.Frame]bool {
	t.Helper()
	var files []string
	for _, m := range recordings {
		for _, s := range m.Streams {
			for _, track := range s.Tracks {
				for _, p := range track.Parts {
					if s.PeerID == w.name && track.Kind == kind {
						files = append(files, p.File)
					}
				}
			}
		}
	}
	takes, err := w.tape.Takes(files...)
	if err != nil {
		t.Fatal(err)
	}
	frames := make(map[tape.Frame]bool)
	for _, take := range takes {
		frames[take.Frame] = true
	}
	return frames
}
