package session

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/webrtc/v4"
	"github.com/prometheus/client_golang/prometheus"

	"recorder/internal/lab/devserver"
	"recorder/internal/lab/member"
	"recorder/internal/sink"
)

var soak = flag.Duration("soak", time.Minute, "how long TestSoak lasts, on the bubble's clock")

const (
	soakMembers = 20
	heapSlack   = 2 << 20
	heapGrowth  = 512 << 10       // of a round: what the manifest says of its streams
	soakRound   = 5 * time.Second // of activity; then all leave, and their streams end
)

// usage is what a process holds, and what it shows to Prometheus.
type usage struct {
	goroutines, files, series int
	heap                      uint64
}

func measure(t *testing.T, reg *prometheus.Registry) (u usage) {
	synctest.Wait()
	runtime.GC()
	runtime.GC() // the first one only ages pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u.goroutines, u.heap = runtime.NumGoroutine(), m.HeapAlloc
	if open, err := os.ReadDir("/proc/self/fd"); err == nil {
		u.files = len(open)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Error(err)
	}
	for _, f := range families {
		u.series += len(f.GetMetric())
	}
	return u
}

// Members come and go, mute, drop and return, for as long as one likes: what
// the bot holds when they have gone does not grow, and every file is good.
func TestSoak(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, dir, devserver.Options{})
		defer r.close()
		var hosts []func(*webrtc.SettingEngine)
		for range soakMembers {
			hosts = append(hosts, r.host())
		}
		r.start(true)

		var first usage
		for round := range max(int(*soak/(soakRound+aWindow+5*time.Second)), 3) {
			var all sync.WaitGroup
			for i := range soakMembers {
				all.Go(func() { r.behave(round, i, hosts[i]) })
			}
			all.Wait()
			time.Sleep(aWindow + 5*time.Second)
			u := measure(t, r.reg)
			t.Logf("round %d: %+v", round, u)
			if round == 0 {
				first = u // pools are filled, and every metric has been shown
				continue
			}
			if u.goroutines > first.goroutines+3 || u.files > first.files+3 || u.series > first.series || u.heap > first.heap+heapSlack+uint64(round)*heapGrowth {
				t.Fatalf("grew from %+v to %+v", first, u)
			}
		}
	})
	if report, err := sink.Verify(t.Context(), dir, nil); err != nil || !report.OK {
		t.Errorf("verify: %v %+v", err, report)
	}
}

// behave is what one member does in one round.
func (r *rig) behave(round, i int, host func(*webrtc.SettingEngine)) {
	random := rand.New(rand.NewPCG(uint64(round), uint64(i)))
	pause := func(most time.Duration) { time.Sleep(time.Duration(random.Int64N(int64(most)))) }
	until := time.Now().Add(soakRound)
	for visit := 0; time.Now().Before(until); visit++ {
		pause(2 * time.Second)
		stream := fmt.Sprintf("%d-%d-%d", round, i, visit)
		tracks := camera(stream)
		tracks[0].Source = muting(tracks[0].Source)
		credential := r.key()
		if i%2 == 0 {
			credential = r.token(fmt.Sprint("member-", i))
		}
		m, err := member.Join(context.Background(), member.Options{
			URL: "ws://127.0.0.1", Credential: credential, Channel: channel, HTTPClient: r.http, Settings: host, Tracks: tracks,
			Meet: func(peer string) bool { return peer == "recorder" }, // what the others do with each other costs time alone
		})
		if err != nil {
			r.t.Error(err)
			return
		}
		for range 3 {
			pause(3 * time.Second)
			switch random.IntN(3) {
			case 0:
				r.server.Drop(m.ID(), devserver.Drop{})
			case 1:
				m.Unpublish(stream)
				pause(time.Second)
				for _, t := range tracks {
					m.Publish(t)
				}
			}
		}
		m.Leave()
	}
}

// muting makes a source fall silent for two seconds, now and then.
func muting(s member.Source) member.Source {
	return func(yield func([]byte, time.Duration) bool) {
		n := 0
		for frame, length := range s {
			if n++; n%150 == 0 {
				length += 2 * time.Second
			}
			if !yield(frame, length) {
				return
			}
		}
	}
}
