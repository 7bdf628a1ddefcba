package sink

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// gate is a context that is asked for its error again and again, as between reads. Whoever asks while
// stop is true waits until the test lets it pass.
type gate struct {
	context.Context
	stop func() bool
	pass chan struct{}
}

func (g *gate) Err() error {
	if g.stop() {
		<-g.pass
	}
	return g.Context.Err()
}

// run lets who waits go on until stop is true.
func (g *gate) run(stop func() bool) {
	g.stop = stop
	g.pass <- struct{}{}
	synctest.Wait()
}

// leaveCrashed leaves in dir what a crash leaves of recordings of these channels.
func leaveCrashed(t *testing.T, dir, live string, channels ...string) {
	t.Helper()
	root, err := Open(Options{Dir: live, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, channel := range channels {
		rec, err := root.NewRecording(RecordingInfo{Channel: channel, Bot: "bot", ReconnectWindow: window})
		if err != nil {
			t.Fatal(err)
		}
		c := &call{T: t, root: root, rec: rec, pumped: true}
		c.open("alice")
		c.talk(c.audio(), c.video(), 15*time.Second)
		defer rec.Close(context.Background())
	}
	synctest.Wait()
	if err := os.CopyFS(dir, os.DirFS(live)); err != nil {
		t.Fatal(err)
	}
}

// left are the manifests in dir, by channel.
func left(t *testing.T, dir string) map[string]*Manifest {
	t.Helper()
	all := make(map[string]*Manifest)
	found, _ := filepath.Glob(filepath.Join(dir, "*", "*", ManifestName))
	for _, name := range found {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		m, err := DecodeManifest(f)
		if err != nil {
			t.Fatal(err)
		}
		if all[m.Channel] == nil {
			all[m.Channel] = m
		}
	}
	return all
}

// Only what could be continued is repaired before a recording of its channel begins, and no other
// channel waits for it; the rest is repaired while channels are recorded.
func TestARecordingWaitsOnlyForTheRepairOfWhatItMayContinue(t *testing.T) {
	dir, first, second := t.TempDir(), t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		leaveCrashed(t, dir, first, "hall")
		time.Sleep(2*window + unsaved)
		leaveCrashed(t, dir, second, "lobby", "room", "attic")
		found, _ := filepath.Glob(filepath.Join(dir, "attic", "*", ManifestName))
		long := time.Now().Add(-3 * maxReconnectWindow)
		if err := os.Chtimes(found[0], long, long); err != nil { // it is not even looked into
			t.Fatal(err)
		}
		root, err := Open(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()

		before := left(t, dir)
		// begin expects a recording to be continued, to begin, or to have to wait.
		const goesOn, begins, waits = "goes on", "begins", "waits"
		begin := func(channel string, window time.Duration, want string) {
			t.Helper()
			rec, err := root.NewRecording(RecordingInfo{Channel: channel, Bot: "bot", ReconnectWindow: window})
			got := begins
			switch {
			case errors.Is(err, ErrRecovering):
				got = waits
			case err != nil:
				t.Fatal(err)
			case before[channel] != nil && rec.ID() == before[channel].ID:
				got = goesOn
			}
			if got != want {
				t.Errorf("a recording of %s %s, want: %s", channel, got, want)
			}
			if err == nil {
				rec.Close(context.Background())
			}
		}
		looking := func() bool { root.mu.Lock(); defer root.mu.Unlock(); return root.looking }
		settled := func(channel string) bool {
			root.mu.Lock()
			defer root.mu.Unlock()
			return slices.ContainsFunc(root.interrupted, func(c interrupted) bool { return c.channel == channel && !c.unfinished })
		}

		ctx := &gate{t.Context(), func() bool { return true }, make(chan struct{})}
		done := root.Recover(ctx)
		synctest.Wait()
		begin("room", window, waits)
		if rec, err := root.NewRecording(RecordingInfo{Channel: "room", Bot: "bot", ReconnectWindow: window, NoWait: true}); err != nil {
			t.Errorf("a new one begins not: %v", err)
		} else {
			rec.Close(context.Background())
		}
		ctx.run(func() bool { return !looking() })
		begin("room", window, waits)
		begin("room", 0, begins)
		begin("hall", window, begins)
		begin("attic", window, begins)
		begin("elsewhere", window, begins)
		ctx.run(func() bool { return settled("lobby") })
		begin("room", window, waits)
		begin("lobby", window, goesOn)
		ctx.run(func() bool { return settled("room") })
		begin("room", window, goesOn)
		if m := left(t, dir); m["hall"].State != StateRecording || m["attic"].State != StateRecording {
			t.Error("what nobody waits for was repaired first")
		}
		ctx.run(func() bool { return false })
		<-done
		for channel, m := range left(t, dir) {
			if m.State == StateRecording {
				t.Errorf("%s was not repaired", channel)
			}
		}
	})
}

// A repair that takes longer than the reconnect window is not waited for.
func TestARecordingWaitsNoLongerThanItsWindow(t *testing.T) {
	dir, live := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		leaveCrashed(t, dir, live, "room")
		root, err := Open(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx := &gate{t.Context(), func() bool { root.mu.Lock(); defer root.mu.Unlock(); return !root.looking }, make(chan struct{})}
		done := root.Recover(ctx)
		synctest.Wait()
		info := RecordingInfo{Channel: "room", Bot: "bot", ReconnectWindow: maxReconnectWindow} // which was window before
		if _, err := root.NewRecording(info); !errors.Is(err, ErrRecovering) {
			t.Errorf("want %v, have %v", ErrRecovering, err)
		}
		time.Sleep(window + unsaved)
		rec, err := root.NewRecording(info)
		if err != nil {
			t.Fatal(err)
		}
		ctx.run(func() bool { return false })
		<-done
		(&call{T: t, root: root, rec: rec}).end()
	})
	for _, found := range find(t, dir, 2) {
		if report, err := Verify(t.Context(), found, nil); err != nil || !report.OK {
			t.Errorf("verify: %+v %v", report, err)
		}
	}
}

// countdown is a context that ends when it was asked for its error so many times.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// A repair that is told to end does so before it reads on, wherever it is, and nothing is worse for
// it: the next one makes of it what one that was left alone would have.
func TestARepairThatIsStoppedIsTakenUpByTheNext(t *testing.T) {
	live, crashed := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		leaveCrashed(t, crashed, live, "lobby", "room")
		whole := filepath.Join(t.TempDir(), "whole")
		repair := func(ctx context.Context, dir string) error {
			root, err := Open(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			<-root.Recover(ctx)
			synctest.Wait()
			root.Close()
			return ctx.Err()
		}
		copyDir := func(to string) string {
			if err := os.CopyFS(to, os.DirFS(crashed)); err != nil {
				t.Fatal(err)
			}
			return to
		}
		if err := repair(t.Context(), copyDir(whole)); err != nil {
			t.Fatal(err)
		}
		if _, err := Repair(t.Context(), whole, nil); err != nil { // for the hashes
			t.Fatal(err)
		}
		want := tree(t, whole)
		stops, most := 0, 0 // most is how often one was told that ctx has ended
		for n := 0; ; n++ {
			dir := copyDir(filepath.Join(t.TempDir(), "stopped"))
			ctx := &countdown{t.Context(), n}
			err := repair(ctx, dir)
			if _, err := Repair(t.Context(), dir, nil); err != nil {
				t.Fatal(err)
			}
			if got := tree(t, dir); !reflect.DeepEqual(got, want) {
				t.Errorf("stopped after %d steps it was repaired otherwise", n)
			}
			if err == nil {
				break
			}
			stops++
			most = max(most, -ctx.left)
		}
		if stops < 20 {
			t.Errorf("it could be stopped only %d times", stops)
		}
		if most > 9 { // the questions on the way out
			t.Errorf("it was told %d times before it ended", most)
		}
	})
}
