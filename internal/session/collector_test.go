package session

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"recorder/internal/lab/devserver"
)

func TestSeriesGoWithWhatTheyAreOf(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.start(true)
		reg := prometheus.NewPedanticRegistry()
		reg.MustRegister(r.set)
		count := func(prefix string) (n int) {
			t.Helper()
			families, err := reg.Gather()
			r.must(err)
			for _, f := range families {
				if strings.HasPrefix(f.GetName(), prefix) {
					n += len(f.GetMetric())
				}
			}
			return n
		}
		alice := r.join(r.token("alice"), "alice-camera")
		time.Sleep(5 * time.Second)
		if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
			t.Errorf("%v %v", problems, err)
		}
		for _, desc := range []string{"state", "candidate_pair", "dtls_state", "rtp_packets_received_total", "rtp_received_bytes_total",
			"rtp_packets_retransmitted_total", "rtp_packets_lost", "jitter_seconds", "bitrate_bytes_per_second", "nacks_sent_total",
			"key_frame_requests_sent_total"} {
			if count("recorder_remote_peer_"+desc) == 0 {
				t.Errorf("no recorder_remote_peer_%s", desc)
			}
		}
		alice.Leave()
		time.Sleep(10 * time.Second)
		if n := count("recorder_remote_peer_"); n != 0 {
			t.Errorf("%d series of a peer that has left", n)
		}
		if n := count("recorder_session_state"); n != len(States) {
			t.Errorf("%d series of the session", n)
		}
		r.apply()
		if n := count("recorder_"); n != 0 {
			t.Errorf("%d series of nothing", n)
		}
	})
}

// A member that is away has no series but those of its state. When it is back they are there again, and the
// counters of its stream go on where they were.
func TestSeriesOfAMemberThatIsAwayGoUntilItIsBack(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(time.Minute)
		read := func(prefix string) (n int, sum float64) {
			t.Helper()
			families, err := r.reg.Gather()
			r.must(err)
			for _, f := range families {
				if !strings.HasPrefix(f.GetName(), prefix) {
					continue
				}
				n += len(f.GetMetric())
				for _, m := range f.GetMetric() {
					sum += m.GetCounter().GetValue()
				}
			}
			return n, sum
		}
		const written = "recorder_sink_stream_frames_written_total"
		r.join(r.token("alice"), "alice-camera")
		time.Sleep(5 * time.Second)
		there, _ := read("recorder_")
		_, before := read(written)
		r.cut.Store(true)
		time.Sleep(20 * time.Second)
		if n, _ := read("recorder_sink_stream_"); n != 0 {
			t.Errorf("%d series of a stream that is away", n)
		}
		if n, _ := read("recorder_remote_peer_"); n == 0 || n > 2 {
			t.Errorf("%d series of a member that is away, want those of its state", n)
		}
		r.cut.Store(false)
		time.Sleep(25 * time.Second)
		if n, _ := read("recorder_"); n < there-1 {
			t.Errorf("%d series, %d before", n, there)
		}
		if _, after := read(written); after <= before {
			t.Errorf("%v frames after %v", after, before)
		}
	})
}
