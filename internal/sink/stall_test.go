package sink

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// lines is a log that is read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

// A disk that hangs is said within 10 s, once, counted, and keeps the recorder from being ready; and so is its end.
func TestADiskThatHangsIsSaid(t *testing.T) {
	for name, tt := range map[string]struct {
		work diskWork
		hang func(t *testing.T, root *Root, rec *Recording) (release func())
	}{
		"a recording that begins": {workBegin, func(t *testing.T, root *Root, _ *Recording) func() {
			leave := root.channels.enter("room") // as one does whom the disk keeps there
			begun := make(chan *Recording)
			go func() {
				rec, err := root.NewRecording(RecordingInfo{Channel: "room"})
				if err != nil {
					t.Error(err)
				}
				begun <- rec
			}()
			return func() { leave(); (<-begun).Close(context.Background()) }
		}},
		"media": {workMedia, func(t *testing.T, root *Root, rec *Recording) func() {
			d := &disk{stall: make(chan struct{})}
			rec.create = d.wrap(rec.create)
			(&call{T: t, root: root, rec: rec, pumped: true}).open("alice")
			c := &call{T: t, root: root, rec: rec, pumped: true}
			c.open("bob")
			c.audio().speak(100)
			return func() { close(d.stall) }
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				log, registry := new(lines), prometheus.NewRegistry()
				root, err := Open(Options{Dir: dir, Logger: slog.New(slog.NewTextHandler(log, nil)), Registerer: registry})
				if err != nil {
					t.Fatal(err)
				}
				rec, err := root.NewRecording(RecordingInfo{Channel: "room"})
				if err != nil {
					t.Fatal(err)
				}
				want := func(hangs int, said, over int) {
					t.Helper()
					synctest.Wait()
					if err := root.Stalled("room"); errors.Is(err, ErrStalled) != (hangs > 0) {
						t.Errorf("the channel says %v", err)
					}
					if err := root.Err(); errors.Is(err, ErrStalled) != (hangs > 0) {
						t.Errorf("the root says %v", err)
					}
					if err := root.Stalled("hall"); err != nil {
						t.Errorf("another channel says %v", err)
					}
					if n := root.stalls.sum(); n != hangs {
						t.Errorf("%d calls hang, want %d", n, hangs)
					}
					if a, b := log.count("the disk does not answer"), log.count("the disk answers again"); a != said || b != over {
						t.Errorf("said %d times, and %d times that it is over, want %d and %d", a, b, said, over)
					}
					if n := testutil.ToFloat64(root.metrics.stalls.WithLabelValues(string(tt.work))); n != float64(said) {
						t.Errorf("%v are counted, want %d", n, said)
					}
				}
				want(0, 0, 0)
				release := tt.hang(t, root, rec)
				time.Sleep(2 * time.Second)
				want(0, 0, 0)
				time.Sleep(stallNotice)
				want(1, 1, 0)
				time.Sleep(time.Minute)
				want(1, 1, 0)
				release()
				want(0, 1, 1)
				if err := rec.Close(context.Background()); err != nil {
					t.Error(err)
				}
				root.Close()
			})
		})
	}
}

// Who waits for a directory that another works in holds up nobody who works in another, and is next.
func TestOneAtATimeWorksInADirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeyed()
		leave := k.enter("a")
		k.enter("b")()
		working, most, all := 0, 0, sync.WaitGroup{}
		for range 10 {
			all.Go(func() {
				defer k.enter("a")()
				working++
				most = max(most, working)
				time.Sleep(time.Second)
				working--
			})
		}
		synctest.Wait()
		if most > 0 {
			t.Error("two work there")
		}
		leave()
		all.Wait()
		if most != 1 || len(k.busy) > 0 {
			t.Errorf("%d worked there at once, %d directories are busy", most, len(k.busy))
		}
	})
}
