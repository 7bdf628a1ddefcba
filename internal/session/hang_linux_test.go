package session

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"recorder/internal/lab/devserver"
	"recorder/internal/lab/hangfs"
	"recorder/internal/lab/member"
	"recorder/internal/signaling"
	"recorder/internal/sink"
)

const (
	prompt      = 100 * time.Millisecond // for an answer, and for a change of the configuration
	closingTime = 150 * time.Millisecond // of a session, in these tests
	slack       = time.Second            // of a busy machine; behind a disk that hangs nothing ever ends
)

// ward is a channel whose disk hangs, beside one that is well.
type ward struct {
	*rig
	fs     *hangfs.FS
	name   string
	opts   Options
	guests int
	leaves []func()
	normal time.Duration // for an answer while nothing hangs
}

// withHangs runs a test with real time, as the kernel's calls take, on a file system that hangs.
func withHangs(t *testing.T, test func(w *ward)) {
	t.Parallel()
	dir := t.TempDir()
	files, err := hangfs.Mount(dir, t.TempDir())
	if err != nil {
		if os.Getenv("RECORDER_E2E") != "required" && (errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENODEV)) {
			t.Skipf("mounting a file system takes root and /dev/fuse: %v", err)
		}
		t.Fatal(err)
	}
	r := newRig(t, dir, devserver.Options{})
	defer func() {
		r.close()
		if err := files.Unmount(); err != nil {
			t.Error(err)
		}
	}()
	w := &ward{rig: r, fs: files}
	w.opts = r.options(true)
	w.opts.CloseTimeout = closingTime
	r.set = NewSet(w.opts)
	w.configure()
	w.joined(channel)
	w.recorded(channel) // or it waits in the kernel, behind the one that hangs in the directory of all
	w.normal = min(w.answer(channel), w.answer(channel), w.answer(channel))
	test(w)
}

// configure makes the channels that is well and another, if it is named, be recorded. It returns how long that took.
func (w *ward) configure(more ...Config) time.Duration {
	configs := append([]Config{{Channel: channel, Bot: "recorder", ReconnectWindow: time.Minute}}, more...)
	begun := time.Now()
	w.must(w.set.Apply(configs))
	return time.Since(begun)
}

func (w *ward) config() Config {
	return Config{Channel: w.name, Bot: "recorder", ReconnectWindow: time.Minute}
}

// joined waits until the bot is in a channel.
func (w *ward) joined(name string) {
	w.t.Helper()
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); time.Sleep(time.Millisecond) {
		for _, s := range w.set.Status() {
			if s.Channel == name && s.State == StateJoined {
				return
			}
		}
	}
	w.t.Fatalf("channel %q is not joined", name)
}

// recorded waits until a channel has a recording.
func (w *ward) recorded(name string) {
	w.t.Helper()
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); time.Sleep(time.Millisecond) {
		begun := make(chan bool)
		s := w.set.sessions[name].Session
		s.post(func() { begun <- s.bindings.recording != nil })
		if <-begun {
			return
		}
	}
	w.t.Fatal("no recording began")
}

// answers wants an offer of a newcomer to a channel to be answered in time, that is no later than that after what it
// takes otherwise. The machine may be busy: of five the fastest counts, and behind a disk that hangs none is.
func (w *ward) answers(name string) {
	w.t.Helper()
	best := time.Hour
	for range 5 {
		if best = min(best, w.answer(name)); best < w.normal+prompt {
			return
		}
	}
	w.t.Errorf("an offer in %q was answered after %v, otherwise after %v", name, best, w.normal)
}

func (w *ward) answer(name string) time.Duration {
	w.guests++
	client, err := signaling.NewClient(signaling.Options{URL: "ws://127.0.0.1", Credential: w.token(fmt.Sprint("guest-", w.guests)), HTTPClient: w.http})
	w.must(err)
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Second)
	ended := make(chan struct{})
	defer func() { stop(); <-ended }()
	go func() { _ = client.Run(ctx); close(ended) }() // it ends with ctx
	answered := make(chan time.Time, 1)
	connected := make(chan struct{})
	go func() {
		for e := range client.Events() {
			switch e := e.(type) {
			case signaling.Connected:
				close(connected)
			case signaling.Direct:
				var s struct{ Description struct{ Type string } }
				if json.Unmarshal(e.Data, &s) == nil && s.Description.Type == "answer" {
					select {
					case answered <- time.Now():
					default:
					}
				}
			}
		}
	}()
	<-connected
	w.must(client.Subscribe(ctx, name))
	bot := "recorder"
	if name != channel {
		bot += "-" + name
	}
	sdp := offerOf(w.rig, 1)
	begun := time.Now()
	w.must(<-client.SendAsync(bot, description("offer", sdp)))
	select {
	case at := <-answered:
		return at.Sub(begun)
	case <-ctx.Done():
		return time.Hour
	}
}

// everyCall is for a test that takes minutes. Without it every call of a beginning hangs, and one of some of the others.
var everyCall = flag.Bool("every-call", false, "let every call hang that the disk gets in a recording's life")

// hangEach has each call, or one of so many, in turn hang that the disk gets while act is done for a channel that prepare has begun, and
// wants check to hold meanwhile. In the end the channel is left, in time.
func (w *ward) hangEach(least, step int, prepare, act, check func()) {
	covered := make(map[string]bool)
	if *everyCall {
		step = 1
	}
	for n := 1; ; n += step {
		w.name = fmt.Sprint("hung-", n)
		prepare()
		hangs := w.fs.Hang(w.name, n)
		done := make(chan struct{})
		go func() { act(); close(done) }()
		ended := false
		select {
		case <-hangs:
		case <-time.After(1500 * time.Millisecond):
			ended = true
		}
		if !ended {
			check()
		}
		if took := w.configure(); took > closingTime+slack {
			w.t.Errorf("call %d: leaving took %v", n, took)
		}
		calls := w.fs.Release()
		<-done
		for _, leave := range w.leaves {
			leave()
		}
		w.leaves = nil
		if ended {
			w.t.Logf("one of %d of less than %d calls hung each: %v", step, n, covered)
			if n <= least {
				w.t.Errorf("less than %d calls, want more than %d", n, least)
			}
			return
		}
		call, _, _ := strings.Cut(calls[n-1], " ")
		covered[call] = true
		if w.t.Failed() {
			w.t.Fatalf("while %q hung", calls[n-1])
		}
	}
}

// Whichever call of the disk hangs, the session's loop does not: members of that channel and of others are answered,
// the configuration can be changed, and the channel be left.
func TestADiskThatHangsHoldsUpNobody(t *testing.T) {
	t.Run("a recording begins", func(t *testing.T) {
		withHangs(t, func(w *ward) {
			w.hangEach(12, 1, func() {}, func() { w.configure(w.config()) }, func() {
				w.joined(w.name)
				w.answers(channel)
				w.answers(w.name)
				w.changes()
			})
		})
	})
	t.Run("another takes its place", func(t *testing.T) {
		withHangs(t, func(w *ward) {
			w.hangEach(12, 4, w.begin, func() {
				s := w.set.sessions[w.name].Session
				s.post(func() { fill(w.t, &s.bindings) })
			}, func() {
				w.answers(channel)
				w.answers(w.name)
				w.changes()
			})
		})
	})
	t.Run("it ends", func(t *testing.T) {
		withHangs(t, func(w *ward) {
			w.hangEach(6, 4, func() { w.begin(); w.talks() }, func() { w.configure() }, func() { w.answers(channel) })
		})
	})
	t.Run("it goes on after a restart", func(t *testing.T) {
		withHangs(t, func(w *ward) {
			w.defers(func() { w.root.Close() })
			w.hangEach(20, 8, func() {
				w.begin()
				w.talks()
				w.set.Close()
				w.must(w.root.Close())
				root, err := sink.Open(sink.Options{Dir: w.dir, Logger: w.log})
				w.must(err)
				w.root, w.opts.Root = root, root
				w.set = NewSet(w.opts)
				w.configure()
				w.joined(channel)
				w.recorded(channel)
			}, func() {
				recovered := w.root.Recover(context.Background())
				w.configure(w.config())
				<-recovered
			}, func() {
				w.joined(w.name)
				w.answers(channel)
				w.answers(w.name)
				w.changes()
			})
		})
	})
}

// begin has the channel recorded.
func (w *ward) begin() {
	w.configure(w.config())
	w.joined(w.name)
	w.recorded(w.name)
}

// talks has somebody talk in the channel, who is recorded.
func (w *ward) talks() {
	m, err := member.Join(context.Background(), member.Options{
		URL: "ws://127.0.0.1", Credential: w.token("talker"), Channel: w.name, HTTPClient: w.http, Settings: w.host(), Tracks: camera("camera")[:1],
	})
	w.must(err)
	w.leaves = append(w.leaves, m.Leave)
	s := w.set.sessions[w.name].Session
	for size := int64(0); size == 0; time.Sleep(10 * time.Millisecond) {
		asked := make(chan int64)
		s.post(func() { asked <- s.bindings.size() })
		size = <-asked
	}
}

// changes wants a change of the channel's configuration to take no time.
func (w *ward) changes() {
	w.t.Helper()
	best := time.Hour
	for i := range 3 {
		c := w.config()
		c.MaxStreams = 7 + i
		if best = min(best, w.configure(c)); best < prompt {
			return
		}
	}
	w.t.Errorf("a change of the configuration took %v", best)
}

// While a recording cannot be begun because the disk hangs, its channel says so. What is sent in the first seconds of
// that waits, and more than that is missing, for that reason, from what is recorded in the end.
func TestAChannelWhoseDiskHangsSaysSo(t *testing.T) {
	for _, hangs := range []time.Duration{time.Second, 7 * time.Second} {
		t.Run(hangs.String(), func(t *testing.T) {
			withHangs(t, func(w *ward) {
				w.name = "hung-1"
				hung := w.fs.Hang(w.name, 1)
				w.configure(w.config())
				w.joined(w.name)
				<-hung
				m, err := member.Join(context.Background(), member.Options{
					URL: "ws://127.0.0.1", Credential: w.token("talker"), Channel: w.name, HTTPClient: w.http, Settings: w.host(),
					Tracks: camera("camera"), Meet: func(id string) bool { return id == "recorder-"+w.name },
				})
				w.must(err)
				time.Sleep(hangs)
				long := hangs > 5*time.Second
				for _, s := range w.set.Status() {
					if errors.Is(s.Err, sink.ErrStalled) != (long && s.Channel == w.name) {
						t.Errorf("channel %q says %v", s.Channel, s.Err)
					}
				}
				w.fs.Release()
				time.Sleep(3 * time.Second)
				for _, s := range w.set.Status() {
					if s.Err != nil {
						t.Errorf("in the end channel %q says %v", s.Channel, s.Err)
					}
				}
				sent := make(map[string]time.Duration)
				m.Leave()
				for _, s := range m.Sent() {
					sent[s.TrackID] += s.Played
				}
				w.set.Close()
				recording := w.recordings()[w.name][0]
				if len(recording.Streams) != 1 || (recording.Streams[0].Waited != nil) != long {
					t.Fatalf("streams %+v", recording.Streams)
				}
				for _, track := range recording.Streams[0].Tracks {
					lost := sent[track.ID] - track.Recorded.Duration()
					if said := (track.Expected - track.Recorded).Duration(); (said - lost).Abs() > 500*time.Millisecond {
						t.Errorf("%s: %v of %v are recorded, %v are said to be missing", track.ID, track.Recorded.Duration(), sent[track.ID], track.Missing)
					}
					if (track.Missing[sink.ReasonDisk] > 0) != long || !long && lost > 500*time.Millisecond {
						t.Errorf("%s: %v is lost, missing %v", track.ID, lost, track.Missing)
					}
				}
			})
		})
	}
}
