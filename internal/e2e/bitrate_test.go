package e2e

import (
	"slices"
	"testing"
	"time"
)

// outboundStats is what page/wire.js says of a picture that is sent.
type outboundStats struct {
	At         float64 // ms
	Bytes      float64 // retransmissions included
	Repeated   float64 // bytes
	Frames     int
	Width      int
	Height     int
	FPS        float64
	Limitation string  // what keeps it from being larger or better
	Target     float64 // bit/s
	Available  float64 // bit/s that there is room for, as the sender believes
}

// rate is what was sent since an earlier moment, in bit/s.
func (s outboundStats) rate(before outboundStats) float64 {
	return 8000 * (s.Bytes - s.Repeated - before.Bytes + before.Repeated) / (s.At - before.At)
}

// A camera of 2 Mbit/s, of 640x360 so that two cores encode it twice beside all else. A browser begins each connection
// with 0.3 Mbit/s and a smaller picture, and learns from the receiver's feedback how much more there is room for.
func TestABrowserSendsTheBotWhatItSendsAnotherBrowser(t *testing.T) {
	const (
		width, height = 640, 360
		settle        = 15 * time.Second
		windows       = 7 // of 2 s, of which the median counts: whoever lacked a core for a moment makes up for it in the next
	)
	r := startRig(t, credentials["publishable key"].config, "")
	browser := StartBrowser(t)
	alice, bob := browser.Open(t), browser.Open(t)
	bobID := r.join(bob, credentials["publishable key"].browser(t))
	r.join(alice, credentials["publishable key"].browser(t))
	alice.WaitFor(30*time.Second, "peer.remotePeers.length === 2")
	botID := Eval[string](alice, "peer.remotePeers.map(r => r.id).find(id => id !== %q)", bobID)
	both := func() [2]outboundStats {
		return Eval[[2]outboundStats](alice, "Promise.all([outbound(%q), outbound(%q)])", botID, bobID)
	}
	alice.Do(`addGrain("camera", {width: %d, height: %d})`, width, height)
	alice.Do("until(() => limit(2e6), 10000)")
	alice.Do("until(async () => (await outbound(%q)).frames > 0 && (await outbound(%q)).frames > 0, 45000)", botID, bobID)
	alice.Do("sleep(%d)", settle.Milliseconds())

	var ratios []float64
	before := both()
	for end := time.Now().Add(time.Minute); len(ratios) < windows && time.Now().Before(end); {
		alice.Do("sleep(2000)")
		now := both()
		toBot, toBob := now[0].rate(before[0]), now[1].rate(before[1])
		t.Logf("to the bot %.2f Mbit/s, to the browser %.2f Mbit/s; %+v", toBot/1e6, toBob/1e6, now)
		if toBob >= 1e6 { // else this machine had time for neither
			ratios = append(ratios, toBot/toBob)
		}
		before = now
	}
	if len(ratios) < windows {
		t.Fatalf("not even the browser gets 1 Mbit/s in %d windows", windows)
	}
	slices.Sort(ratios)
	if median := ratios[len(ratios)/2]; median < 0.95 {
		t.Errorf("the bot gets %.0f %% of the bitrate that the browser gets (%.2f)", 100*median, ratios)
	}
	// Sizes grow in steps of some seconds, as the encoder finds the time.
	alice.Do("until(async () => (await outbound(%q)).height === %d, 45000)", bobID, height)
	alice.Do("until(async () => (await outbound(%q)).height === %d, 45000)", botID, height)
}
