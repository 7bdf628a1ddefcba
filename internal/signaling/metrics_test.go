package signaling

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestMetricsAreSharedByManyClientsAndPassTheLint(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	vec := NewMetrics(reg)
	m := vec.Channel("room")
	bubble(t, func(t *testing.T, s *service) {
		n := 0
		a := start(t, s, func(o *Options) {
			o.Metrics = m
			o.Credential = &provider{token: func(int) (string, error) {
				if n++; n == 1 {
					return "", errRefused
				}
				return "t", nil
			}}
		})
		next[Disconnected](a)
		p := connected(a, s)
		b := start(t, s, func(o *Options) { o.Metrics = m })
		q := connected(b, s)
		p.send("garbage")
		p.conn.Write(t.Context(), websocket.MessageBinary, []byte{1})
		p.welcome("again")
		p.send(`{"type":"error","code":"over_message_quota"}`)
		q.send(`{"type":"error","code":"made_up_by_a_hostile_service"}`)
		next[*ServerError](a)
		next[*ServerError](b)
		a.SendAsync("bob", 1)
		for range messageBurst + 1 {
			b.SendAsync("bob", 1)
		}
		time.Sleep(16 * time.Second)
		q.close(CloseAdminDisconnect)
		next[Disconnected](b)
		p.cut()
		next[Disconnected](a)
		connected(a, s)
		want := `
			recorder_signaling_ack_timeouts_total{channel="room"} 152
			recorder_signaling_connections{channel="room"} 1
			recorder_signaling_delayed_frames_total{channel="room"} 1
			recorder_signaling_errors_total{channel="room"}{code="other"} 1
			recorder_signaling_errors_total{channel="room"}{code="over_message_quota"} 1
			recorder_signaling_malformed_frames_total{channel="room"} 3
			recorder_signaling_reconnects_total{channel="room"}{reason="credential"} 1
			recorder_signaling_reconnects_total{channel="room"}{reason="network"} 1
			recorder_signaling_terminal_closes_total{channel="room"}{code="4020"} 1
			recorder_signaling_token_failures_total{channel="room"} 1`
		if got := expose(t, reg); got != strings.ReplaceAll(strings.TrimSpace(want), "\t", "") {
			t.Errorf("got\n%s", got)
		}
	})
	if got := testutil.ToFloat64(m.connections); got != 0 {
		t.Errorf("%v connections after the end", got)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	vec.Channel("other")
	vec.Forget("room")
	if n, err := testutil.GatherAndCount(reg); err != nil || n != 1+len(reconnectReasons)+len(terminalCodes)+len(errorCodes)+1+len(renewalResults)+5 {
		t.Errorf("%d series of the other channel: %v", n, err)
	}
	vec.Forget("other")
	if n, err := testutil.GatherAndCount(reg); err != nil || n != 0 {
		t.Errorf("%d series of no channel: %v", n, err)
	}
}

// expose returns the samples of reg that are not 0, one a line.
func expose(t *testing.T, reg *prometheus.Registry) string {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			line := f.GetName()
			for _, l := range m.GetLabel() {
				line += fmt.Sprintf("{%s=%q}", l.GetName(), l.GetValue())
			}
			if v := m.GetCounter().GetValue() + m.GetGauge().GetValue(); v != 0 {
				lines = append(lines, fmt.Sprint(line, " ", v))
			}
		}
	}
	return strings.Join(lines, "\n")
}
