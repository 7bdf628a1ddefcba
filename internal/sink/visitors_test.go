package sink

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Members that come and go and send nothing are kept up to a bound, the first and the latest, and
// counted beyond. Those that had a stream, and those that are there, are all kept.
func TestPresenceAloneDoesNotGrowTheManifest(t *testing.T) {
	const visits = 5000
	registry := prometheus.NewPedanticRegistry()
	for name, metadata := range map[string]json.RawMessage{"plain": nil, "wordy": json.RawMessage(`"` + strings.Repeat("x", 8000) + `"`)} {
		t.Run(name, func(t *testing.T) {
			r := inCall(t, Options{Registerer: registry}, func(c *call) {
				c.rec.PeerJoined("alice", nil) // has a stream
				c.rec.PeerJoined("listener", nil)
				for i := range visits {
					id := fmt.Sprint(i)
					c.rec.PeerJoined(id, metadata)
					if i%500 == 250 {
						if _, err := c.rec.NewStream(StreamInfo{PeerID: id, StreamID: id}); err != nil {
							t.Fatal(err)
						}
					}
					if i == 2600 {
						c.stream.Outage(ReasonReconnect, time.Time{})
						c.stream.Resume(id)
					}
					c.rec.PeerLeft(id)
				}
				if got := gathered(t, registry, "recorder_sink_peers_left_out_total"); got[""] != float64(c.rec.manifest.PeersLeftOut) || got[""] < visits-2*maxVisitors-20 {
					t.Errorf("left out: %v and %d", got, c.rec.manifest.PeersLeftOut)
				}
				if c.rec.Full() {
					t.Error("full")
				}
				c.wait(11 * time.Second)
				if most := 2*(maxVisitorBytes+maxVisitors*400) + 64<<10 + 11*8000; c.rec.weight > most {
					t.Errorf("the manifest has %d bytes, want at most %d", c.rec.weight, most)
				}
			})
			kept := make(map[string]bool)
			for _, p := range r.manifest.Peers {
				kept[p.ID] = true
			}
			for _, id := range []string{"alice", "listener", "0", "250", "2250", "2600", "4750", "4999"} {
				if !kept[id] {
					t.Errorf("%s is left out", id)
				}
			}
			if n := len(r.manifest.Peers) + r.manifest.PeersLeftOut; n != visits+2 {
				t.Errorf("%d stays in all, want %d", n, visits+2)
			}
		})
	}
}
