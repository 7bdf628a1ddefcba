package main

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"recorder/internal/lab/member"
)

// TestWhatTheConfigurationDeniesIsNotTried: candidates of a denied network are dropped, and a member that reaches the bot from
// there all the same is recorded.
func TestWhatTheConfigurationDeniesIsNotTried(t *testing.T) {
	for _, deny := range [][]string{nil, {"10.0.0.0/8", "127.0.0.0/8", "::1/128"}} {
		url := startDevserver(t)
		cfg := testConfig(t, url, testSecret, "a")
		cfg.WebRTC.DenyAddresses = deny
		app := startApp(t, cfg)
		visitWith(t, url, "a", "visitor", member.Picture(), member.Sound())
		packets := func() float64 { return total(t, app.reg, "recorder_remote_peer_rtp_packets_received_total", "") }
		dropped := func() float64 { return total(t, app.reg, "recorder_remote_candidates_dropped_total", "address") }
		for deadline := time.Now().Add(20 * time.Second); packets()+dropped() == 0; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("neither media came, nor was it denied")
			}
		}
		if deny != nil {
			time.Sleep(2 * time.Second) // in which a connection would be made
		}
		if came := packets() > 0; came != (deny == nil) || (dropped() > 0) != (deny != nil) {
			t.Errorf("denied %v: media came: %v, %v candidates were dropped", deny, came, dropped())
		}
	}
}

// total sums what a registry shows of a counter, of those with a label value if that is not empty.
func total(t *testing.T, reg *prometheus.Registry, name, value string) (sum float64) {
	t.Helper()
	families, err := reg.Gather()
	must(t, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if value == "" || len(m.GetLabel()) > 0 && m.GetLabel()[0].GetValue() == value {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}
