package session

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"recorder/internal/e2e"
	"recorder/internal/lab/devserver"
	"recorder/internal/lab/member"
	"recorder/internal/signaling"
	"recorder/internal/sink"
)

// counted sums the samples of a metric that have value as a label's value.
func (r *rig) counted(metric, value string) (sum float64) {
	families, err := r.reg.Gather()
	r.must(err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, label := range m.GetLabel() {
				if f.GetName() == metric && label.GetValue() == value {
					sum += m.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}

// of leaves the streams of one member in a manifest.
func of(m sink.Manifest, id string) sink.Manifest {
	m.Streams = slices.DeleteFunc(slices.Clone(m.Streams), func(s *sink.ManifestStream) bool { return s.PeerID != id })
	return m
}

// inHostileRig is inRig without a look at the pictures of others than alice:
// they are recorded as they come.
func inHostileRig(t *testing.T, test func(r *rig)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, dir, devserver.Options{})
		defer r.close()
		test(r)
	})
	if report, err := sink.Verify(t.Context(), dir, nil); err != nil || !report.OK {
		t.Errorf("verify: %v %+v", err, report)
	}
	for _, pattern := range []string{"*.ogg", "*.ivf"} {
		files, _ := filepath.Glob(filepath.Join(dir, "*", "*", "alice", "*", pattern))
		for _, file := range files {
			if ffmpegIsThere() {
				e2e.DecodesCleanly(t, file)
			}
		}
	}
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if rel, _ := filepath.Rel(dir, path); !filepath.IsLocal(rel) || strings.ContainsFunc(rel, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("a file is named %q", rel)
		}
		return err
	})
}

func heap() uint64 {
	synctest.Wait()
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// mostHeap is what one flood may make the process hold.
const mostHeap = 24 << 20

// flood is what a member can send without end, and the counter that tells of it.
type flood struct {
	name           string
	metric, reason string // none: it is taken in
	of             func(r *rig, mallory *signaling.Client)
}

// say sends something to the bot many times.
func say(r *rig, mallory *signaling.Client, times int, payload func(i int) any) {
	for i := range times {
		sent := mallory.SendAsync(r.bot(), payload(i))
		time.Sleep(15 * time.Millisecond)
		if err := <-sent; err != nil {
			r.t.Error(err)
		}
	}
}

func trackMetadata(i, size int) any {
	return map[string]any{"__meteredTrackMeta": map[string]any{
		"trackId": fmt.Sprint(i), "metadata": map[string]any{"x": strings.Repeat("x", size)},
	}}
}

// ghosts are members that presence alone knows.
func ghosts(round, n int) (members []devserver.Member) {
	for i := range n {
		members = append(members, devserver.Member{PeerID: fmt.Sprintf("ghost-%d-%d", round, i), Metadata: json.RawMessage(`{"x":"` + strings.Repeat("x", 100) + `"}`)})
	}
	return members
}

var floods = []flood{
	{"candidates", "recorder_remote_candidates_dropped_total", "limit", func(r *rig, mallory *signaling.Client) {
		say(r, mallory, 500, func(i int) any {
			return map[string]any{"type": "rtc-ice", "candidate": map[string]any{"candidate": fmt.Sprintf("candidate:1 1 udp 1 10.9.0.1 %d typ host", i)}}
		})
	}},
	{"offers", "recorder_remote_signals_dropped_total", "superseded", func(r *rig, mallory *signaling.Client) {
		sdp := offerOf(r, 2)
		say(r, mallory, 300, func(int) any { return description("offer", sdp) })
	}},
	{"answers", "recorder_remote_signals_dropped_total", "unexpected", func(r *rig, mallory *signaling.Client) {
		sdp := offerOf(r, 2)
		say(r, mallory, 300, func(int) any { return description("answer", sdp) })
	}},
	{"connections", "recorder_remote_limits_exceeded_total", "connections", func(r *rig, mallory *signaling.Client) {
		sdp := offerOf(r, 1)
		say(r, mallory, 60, func(i int) any { return description("offer", strings.Replace(sdp, "o=- ", fmt.Sprint("o=- ", i), 1)) })
	}},
	{"streams", "recorder_session_refused_total", "streams", func(r *rig, mallory *signaling.Client) {
		r.apply(Config{Channel: channel, Bot: "recorder", ReconnectWindow: aWindow, MaxStreams: 20})
		sdp := offerOf(r, 12)
		say(r, mallory, 60, func(i int) any {
			if i%2 == 1 {
				return description("offer", strings.ReplaceAll(sdp, "a=sendonly", "a=inactive"))
			}
			return description("offer", strings.ReplaceAll(sdp, "STREAM", fmt.Sprintf("s%d-", i)))
		})
		time.Sleep(time.Second)
		r.on(func(s *Session) {
			if n := len(s.bindings.waiting); n > 12 {
				r.t.Errorf("%d tracks wait for a place", n)
			}
		})
	}},
	{"metadata", "recorder_remote_limits_exceeded_total", "metadata", func(r *rig, mallory *signaling.Client) {
		say(r, mallory, 700, func(i int) any { return trackMetadata(i, 10) })
	}},
	{"large metadata", "recorder_remote_limits_exceeded_total", "metadata", func(r *rig, mallory *signaling.Client) {
		say(r, mallory, 100, func(i int) any { return trackMetadata(i, 15_000) })
	}},
	{"names", "recorder_remote_limits_exceeded_total", "names", func(r *rig, mallory *signaling.Client) {
		sdp := offerOf(r, 1)
		for i, name := range []string{"..", "../../x", "/etc/passwd", "C:\\x", "NUL", ".", "%2e%2e", "…", "\u202e", "𝕏\u0301", strings.Repeat("é", 128), strings.Repeat("x", 300)} {
			name = strings.ReplaceAll(name, " ", "")
			say(r, mallory, 1, func(int) any {
				return description("offer", strings.NewReplacer("STREAM00", name, "TRK00", name, "o=- ", fmt.Sprint("o=- ", i)).Replace(sdp))
			})
			time.Sleep(3 * time.Second)
		}
	}},
	{"members", "recorder_session_refused_total", "members", func(r *rig, _ *signaling.Client) {
		r.server.Inject(r.bot(), &devserver.Presence{Channel: channel, Joined: ghosts(0, 3000)})
		time.Sleep(time.Second)
		if n := len(r.set.Status()[0].Peers); n != maxMembers {
			r.t.Errorf("%d members", n)
		}
		r.server.Inject(r.bot(), &devserver.Presence{Channel: channel, Left: ghosts(0, 3000)})
	}},
	{"comings and goings", "", "", func(r *rig, _ *signaling.Client) {
		for round := range 50 {
			r.server.Inject(r.bot(), &devserver.Presence{Channel: channel, Joined: ghosts(round, 100)})
			r.server.Inject(r.bot(), &devserver.Presence{Channel: channel, Left: ghosts(round, 100)})
			time.Sleep(50 * time.Millisecond)
		}
	}},
	{"signals of strangers", "recorder_session_refused_total", "early", func(r *rig, _ *signaling.Client) {
		large := json.RawMessage(`"` + strings.Repeat("x", 60_000) + `"`)
		for i := range 1000 {
			r.server.Inject(r.bot(), &devserver.Direct{From: fmt.Sprint("stranger-", i%100), Data: large})
			time.Sleep(2 * time.Millisecond)
		}
	}},
	{"messages", "", "", func(r *rig, mallory *signaling.Client) {
		for i := range 300 {
			r.must(mallory.Publish(context.Background(), channel, strings.Repeat("x", 10_000)))
			say(r, mallory, 1, func(int) any { return i })
		}
	}},
	{"messages of a megabyte", "recorder_remote_signals_dropped_total", "malformed", func(r *rig, _ *signaling.Client) {
		huge := strings.Repeat("x", 900_000)
		for _, payload := range []any{
			description("offer", huge), trackMetadata(1, 900_000), huge, map[string]any{huge: huge[:1000]},
			map[string]any{"type": "rtc-ice", "candidate": map[string]any{"candidate": huge}},
			map[string]any{"type": "rtc-ice", "candidate": map[string]any{"candidate": "", "usernameFragment": huge}},
		} {
			data, err := json.Marshal(payload)
			r.must(err)
			r.server.Inject(r.bot(), &devserver.Direct{From: "mallory", Data: data})
			r.server.Inject(r.bot(), &devserver.Message{Channel: channel, From: "mallory", Data: data})
		}
		r.server.Inject(r.bot(), &devserver.Presence{Channel: channel, Joined: []devserver.Member{{PeerID: huge}, {PeerID: "big", Metadata: []byte(`{"x":"` + huge[:50_000] + `"}`)}}})
		time.Sleep(time.Second)
		r.server.Inject(r.bot(), &devserver.Presence{Channel: channel, Left: []devserver.Member{{PeerID: "big"}}})
	}},
}

// However much one member sends, of another nothing is lost.
func TestAFloodIsBoundedAndCountedAndCostsNobodyElse(t *testing.T) {
	for _, f := range floods {
		t.Run(f.name, func(t *testing.T) {
			inHostileRig(t, func(r *rig) {
				r.start(true)
				time.Sleep(settling)
				alice := r.join(r.token("alice"), "alice-camera")
				mallory := r.speak("mallory")
				time.Sleep(settling)
				before := heap()
				f.of(r, mallory)
				time.Sleep(settling)
				if grown := int64(heap() - before); grown > mostHeap {
					t.Errorf("%d MB are held after the flood", grown>>20)
				}
				if f.metric != "" && r.counted(f.metric, f.reason) == 0 {
					t.Errorf("%s{%s} is 0", f.metric, f.reason)
				}
				alice.Leave()
				m := r.finish()
				checkWhole(t, of(m, "alice"), alice.Sent())
				r.checkOneStream(of(m, "alice"), outcome{})
			})
		})
	}
}

// A member for whom there was no place is taken in when there is one.
func TestWhoWasRefusedIsTakenInWhenThereIsAPlace(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.start(true)
		r.apply(Config{Channel: channel, Bot: "recorder", ReconnectWindow: aWindow, MaxMembers: 1})
		time.Sleep(settling)
		alice := r.join(r.token("alice"), "alice-camera")
		time.Sleep(settling)
		bob := r.join(r.token("bob"), "bob-camera")
		time.Sleep(settling)
		alice.Leave()
		time.Sleep(crowdPause + 10*time.Second)
		bob.Leave()
		m := r.finish()
		if len(of(m, "alice").Streams) != 1 || len(of(m, "bob").Streams) != 1 {
			t.Errorf("%d streams of alice, %d of bob", len(of(m, "alice").Streams), len(of(m, "bob").Streams))
		}
		if r.counted("recorder_session_refused_total", "members") != 1 {
			t.Error("bob's refusal was not counted once")
		}
	})
}

// What we may send is shared by all, and members make us send: many that make
// offers as fast as they can do not keep one that comes from being recorded.
func TestAMemberIsRecordedWhileManyOthersFlood(t *testing.T) {
	const flooders, visit = 60, 10 * time.Second
	inHostileRig(t, func(r *rig) {
		r.start(true)
		time.Sleep(settling)
		stop := make(chan struct{})
		sdp := offerOf(r, 1)
		for i := range flooders {
			mallory := r.speak(fmt.Sprint("mallory-", i))
			go func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					case <-time.After(100 * time.Millisecond):
						restarted := strings.ReplaceAll(sdp, "a=ice-ufrag:", fmt.Sprintf("a=ice-ufrag:%d", n))
						mallory.SendAsync(r.bot(), description("offer", restarted))
					}
				}
			}()
		}
		time.Sleep(5 * time.Second)
		tracks := camera("alice-camera")
		for i := range tracks {
			tracks[i] = r.tape.Record(tracks[i])
		}
		alice, err := member.Join(context.Background(), member.Options{
			URL: "ws://127.0.0.1", Credential: r.token("alice"), Channel: channel, HTTPClient: r.http, Settings: r.host(), Tracks: tracks,
			Meet: func(peer string) bool { return peer == "recorder" },
		})
		r.must(err)
		time.Sleep(visit)
		if r.counted("recorder_signaling_delayed_frames_total", channel) == 0 {
			t.Error("the flood does not fill what we may send")
		}
		alice.Leave()
		close(stop)
		m := of(r.finish(), "alice")
		r.checkOneStream(m, outcome{})
		for _, s := range m.Streams {
			for _, track := range s.Tracks {
				if d := track.Recorded.Duration(); d < visit-3*time.Second {
					t.Errorf("%s: %v of %v are recorded", track.Kind, d, visit)
				}
			}
		}
	})
}
