package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"recorder/internal/lab/devserver"
	"recorder/internal/lab/member"
	"recorder/internal/signaling"
	"recorder/internal/sink"
)

// patience is the shutdown_timeout of these tests, and lateness how much later
// a process on a busy machine may be gone.
const (
	patience = 5 * time.Second
	lateness = 3 * time.Second
)

var stopSoon = fmt.Sprintf("shutdown_timeout: %v\n", patience)

// terminate asks the recorder to stop and expects it to be gone in time with
// every file final.
func (r *rig) terminate() {
	r.t.Helper()
	r.recorder.Signal(syscall.SIGTERM)
	if code := r.recorder.Wait(patience + lateness); code != 0 {
		r.t.Errorf("exit code %d", code)
	}
	r.final()
}

// final expects every recording to be complete and returns how many files of
// sound there are.
func (r *rig) final() (sounds int) {
	r.t.Helper()
	report, err := sink.Verify(r.t.Context(), r.dir, nil)
	if err != nil || !report.OK {
		r.t.Errorf("verify: %+v %v", report, err)
	}
	for _, recording := range report.Recordings {
		if recording.State != sink.StateComplete {
			r.t.Errorf("a recording of channel %q is %s", recording.Channel, recording.State)
		}
		for _, part := range recording.Parts {
			if part.Codec == "opus" {
				sounds++
			}
		}
	}
	return sounds
}

// enter has a member join that sends sound to the recorder, and pictures too
// if wanted.
func (r *rig) enter(id string, pictures bool) *member.Member {
	r.t.Helper()
	tracks := []member.Track{{StreamID: id, TrackID: id + "-sound", MimeType: webrtc.MimeTypeOpus, Source: member.Sound()}}
	if pictures {
		tracks = append(tracks, member.Track{StreamID: id, TrackID: id + "-picture", MimeType: webrtc.MimeTypeVP8, Source: member.Picture()})
	}
	m, err := member.Join(context.Background(), member.Options{
		URL: "ws://" + r.server, Credential: signaling.StaticToken(Token(r.t, secretID, secret, id)), Channel: "room-42", Tracks: tracks,
		Meet: func(peer string) bool { return strings.HasPrefix(peer, "recorder") },
	})
	must(r.t, err)
	r.t.Cleanup(m.Leave)
	return m
}

// says waits until the recorder has printed something so many times.
func (r *rig) says(what string, times int) {
	r.t.Helper()
	await(r.t, fmt.Sprintf("the recorder to say %q %d times", what, times), 30*time.Second, func() bool {
		return strings.Count(r.recorder.Output(), what) >= times
	})
}

func TestASignalEndsAJoinThatGetsNowhere(t *testing.T) {
	t.Run("the server accepts and never answers", func(t *testing.T) {
		t.Parallel()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		defer l.Close()
		asked := make(chan struct{})
		go func() {
			conn, err := l.Accept()
			if err == nil {
				defer conn.Close()
				_, _ = conn.Read(make([]byte, 1))
				close(asked)
				<-t.Context().Done()
			}
		}()
		r := startRecorder(t, l.Addr().String(), credentials["token"].config, stopSoon)
		<-asked
		r.terminate()
	})
	for name, lost := range map[string]func(frame any) bool{
		"the server never sends a welcome":    func(frame any) bool { _, is := frame.(*devserver.Welcome); return is },
		"the server never acknowledges":       func(frame any) bool { _, is := frame.(*devserver.Ack); return is },
		"the server never says who is there":  func(frame any) bool { _, is := frame.(*devserver.Presence); return is },
		"the server refuses every connection": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, address := startFaultyServer(t)
			reached := make(chan struct{}, 100)
			if lost == nil {
				server.Refuse(503)
				reached <- struct{}{}
			}
			server.Intercept(func(_ string, frame any) devserver.Verdict {
				if lost == nil || !lost(frame) {
					return devserver.Pass
				}
				reached <- struct{}{}
				return devserver.Lose
			})
			r := startRecorder(t, address, credentials["token"].config, stopSoon)
			<-reached
			r.terminate()
		})
	}
}

func TestASignalEndsNegotiationsHalfWay(t *testing.T) {
	for name, lost := range map[string]func(to, signal string) bool{
		"answers are lost":    func(to, signal string) bool { return to != "recorder" && strings.Contains(signal, `"answer"`) },
		"candidates are lost": func(_, signal string) bool { return strings.Contains(signal, `"rtc-ice"`) },
		"at any moment":       func(_, _ string) bool { return false },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, server := startFaultyRig(t, credentials["token"].config, stopSoon)
			r.says("to=joined", 1)
			server.Intercept(func(to string, frame any) devserver.Verdict {
				if direct, is := frame.(*devserver.Direct); is && lost(to, string(direct.Data)) {
					return devserver.Lose
				}
				return devserver.Pass
			})
			for i := range 5 {
				r.enter(fmt.Sprint("member-", i), true)
			}
			r.says("to=connecting", 3)
			r.terminate()
		})
	}
}

func TestASignalFinishesFortyStreams(t *testing.T) {
	const streams = 40
	r, _ := startFaultyRig(t, credentials["token"].config, stopSoon)
	for i := range streams {
		r.enter(fmt.Sprint("member-", i), i%4 == 0)
	}
	await(r.t, "every file", 30*time.Second, func() bool {
		files, err := filepath.Glob(filepath.Join(r.dir, "*", "*", "*", "*", "*.ogg"))
		must(t, err)
		return len(files) == streams
	})
	r.recorder.Signal(syscall.SIGTERM)
	if code := r.recorder.Wait(patience + lateness); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if n := r.final(); n != streams {
		t.Errorf("%d streams were recorded", n)
	}
}

func TestASignalDuringAReloadFinishesWhatIsLeftAndJoinsNothing(t *testing.T) {
	for _, after := range []time.Duration{0, 5 * time.Millisecond, 50 * time.Millisecond} {
		t.Run(after.String(), func(t *testing.T) {
			t.Parallel()
			r, _ := startFaultyRig(t, credentials["token"].config, stopSoon)
			for i := range 3 {
				r.enter(fmt.Sprint("member-", i), true)
			}
			r.says("to=connected", 3)
			text, err := os.ReadFile(r.config)
			must(t, err)
			must(t, os.WriteFile(r.config, []byte(strings.Replace(string(text), "- name: room-42", "- name: other", 1)), 0o600))
			r.recorder.Signal(syscall.SIGHUP)
			time.Sleep(after)
			r.terminate()
		})
	}
}

func TestASignalEndsTheRepairOfAStart(t *testing.T) {
	r, _ := startFaultyRig(t, credentials["token"].config, stopSoon)
	r.enter("alice", true)
	r.says("to=connected", 1)
	time.Sleep(2 * time.Second)
	r.recorder.Kill()
	left, err := filepath.Glob(filepath.Join(r.dir, "room-42", "*"))
	must(t, err)
	const copies = 150
	for i := range copies {
		must(t, os.CopyFS(filepath.Join(r.dir, "room-43", fmt.Sprintf("20260101T000000Z-copy%04d", i)), os.DirFS(left[0])))
	}
	r.recorder = Start(t, "run", "--config", r.config)
	r.says("recording recovered", 2)
	r.recorder.Signal(syscall.SIGTERM)
	if code := r.recorder.Wait(patience + lateness); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if n := strings.Count(r.recorder.Output(), "recording recovered"); n > copies {
		t.Errorf("all %d were repaired first", n)
	}
	if report, err := sink.Repair(t.Context(), r.dir, nil); err != nil || !report.OK {
		t.Errorf("repair: %+v %v", report, err)
	}
	if report, err := sink.Verify(t.Context(), r.dir, nil); err != nil || !report.OK {
		t.Errorf("verify: %+v %v", report, err)
	}
}

// stalling is what has strace make every one of these system calls take an hour.
func stalling(calls string) []string {
	return []string{"-f", "-o", os.DevNull, "-e", "trace=" + calls, "-e", "inject=" + calls + ":delay_enter=3600s"}
}

// stall stalls a recorder that runs.
func (r *rig) stall(calls string) {
	r.t.Helper()
	trace := exec.Command(Tool(r.t, "strace"), append(stalling(calls), "-p", strconv.Itoa(r.recorder.PID()))...)
	var said Buffer
	trace.Stderr = &said
	must(r.t, trace.Start())
	r.t.Cleanup(func() {
		trace.Process.Kill()
		trace.Wait()
	})
	await(r.t, "strace to attach", 30*time.Second, func() bool { return strings.Contains(said.String(), "attached") })
}

// gaveUp waits until the recorder has said its last words and expects it to have
// failed.
func (r *rig) gaveUp(words string, limit time.Duration) {
	r.t.Helper()
	await(r.t, "the recorder to say "+words, limit, func() bool { return strings.Contains("\n"+r.recorder.Output(), "\n"+words) })
	r.untrace()
	if code := r.recorder.Wait(lateness); code != 1 {
		r.t.Errorf("exit code %d", code)
	}
}

// untrace ends the strace of the recorder, which does not end, whatever it
// wants, as long as that holds it up.
func (r *rig) untrace() {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.recorder.PID()))
	_, tracer, _ := strings.Cut(string(status), "TracerPid:\t")
	tracer, _, _ = strings.Cut(tracer, "\n")
	if pid, err := strconv.Atoi(tracer); err == nil && pid > 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// A disk that does not answer keeps files from being final, and the process
// from nothing else: it says so and is gone in time.
func TestASignalEndsARecorderWhoseDiskStalls(t *testing.T) {
	for name, calls := range map[string]string{
		"writes": "pwrite64", "syncs": "fsync,fdatasync", "everything": "pwrite64,fsync,fdatasync,renameat,unlinkat",
	} {
		for _, again := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, signalled again %v", name, again), func(t *testing.T) {
				t.Parallel()
				r, _ := startFaultyRig(t, credentials["token"].config, stopSoon)
				r.enter("alice", true)
				r.says("to=connected", 1)
				time.Sleep(2 * time.Second)
				r.stall(calls)
				time.Sleep(2 * time.Second)
				r.recorder.Signal(syscall.SIGTERM)
				if again {
					r.says("recorder stopping", 1)
					time.Sleep(1100 * time.Millisecond) // sooner it would be the same signal
					r.recorder.Signal(syscall.SIGTERM)
					r.gaveUp("recorder: a second signal: ", patience/2)
				} else {
					r.says("recorder stopping", 1)
					r.recorder.Signal(syscall.SIGHUP) // too late to load anything
					r.gaveUp("recorder: could not finalise the recording: ", patience+lateness)
				}
				if report, err := sink.Repair(t.Context(), r.dir, nil); err != nil || !report.OK {
					t.Errorf("repair: %+v %v", report, err)
				}
				if report, err := sink.Verify(t.Context(), r.dir, nil); err != nil || !report.OK {
					t.Errorf("verify: %+v %v", report, err)
				}
			})
		}
	}
}

func TestASignalEndsAStartOnADiskThatStalls(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(t.TempDir(), "config.yaml")
	must(t, os.WriteFile(config, []byte(stopSoon+"signaling: {url: 'ws://127.0.0.1:1', api_key: pk_live_x}\n"+
		"http: {listen: '127.0.0.1:0'}\nrecordings: {dir: '"+dir+"'}\nchannels: [{name: room-42}]\n"), 0o600))
	command := append(stalling("fsync,fdatasync"), "-D", Binary(t), "run", "--config", config)
	r := &rig{t: t, dir: dir, recorder: start(t, exec.Command(Tool(t, "strace"), command...))}
	t.Cleanup(r.untrace)
	await(r.t, "the disk to stall", 30*time.Second, func() bool {
		entries, err := os.ReadDir(dir)
		return err == nil && len(entries) > 0
	})
	r.recorder.Signal(syscall.SIGHUP) // too early to load anything
	time.Sleep(100 * time.Millisecond)
	r.recorder.Signal(syscall.SIGTERM)
	r.gaveUp("recorder: not done within shutdown_timeout, ", patience+lateness)
}
