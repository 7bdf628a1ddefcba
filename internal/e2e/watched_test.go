package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"recorder/internal/lab/devserver"
)

// readiness is the body of /readyz.
type readiness struct {
	Ready    bool
	Reasons  []string
	Channels []struct{ Channel, State, Error string }
}

// readyz returns what a recorder answers, and how.
func readyz(t testing.TB, addr string) (status int, body readiness) {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body
}

// TestARefusedChannelIsSeenByWhoWatches has a real Prometheus fire the alert of a channel that the service refuses for good, while
// readiness shows it and holds.
func TestARefusedChannelIsSeenByWhoWatches(t *testing.T) {
	r, server := startFaultyRig(t, "api_key: pk_live_test", "")
	p := startPrometheus(t, r.http)
	await := func(expr string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); p.query(expr) == 0; time.Sleep(200 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("no data: %s", expr)
			}
		}
	}
	await(`recorder_session_state{channel="room-42", state="joined"} == 1`)
	for _, member := range server.Members("room-42") {
		server.Drop(member, devserver.Drop{Code: devserver.CloseInvalidToken})
	}
	await(`ALERTS{alertname="RecorderTokenFailing", alertstate="firing", severity="critical", channel="room-42"}`)
	await(`ALERTS{alertname="RecorderNotRecording", alertstate="pending", channel="room-42"}`) // fires in two minutes

	status, body := readyz(t, r.http)
	if status != http.StatusOK || !body.Ready || len(body.Channels) != 1 {
		t.Fatalf("got %d, %+v", status, body)
	}
	if c := body.Channels[0]; c.Channel != "room-42" || c.State != "failed" || c.Error == "" {
		t.Errorf("the channel is shown as %+v", c)
	}
}

// TestBelowTheFloorOfTheDiskNothingIsReady asks for more free space than any disk has.
func TestBelowTheFloorOfTheDiskNothingIsReady(t *testing.T) {
	addr, config := FreeAddr(t), filepath.Join(t.TempDir(), "config.yaml")
	text := fmt.Sprintf("signaling: {url: 'ws://%s', api_key: pk_live_test}\nhttp: {listen: '%s'}\n"+
		"recordings: {dir: '%s', min_free: 900000TB}\nchannels: [{name: room-42}]\n", FreeAddr(t), addr, t.TempDir())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := Start(t, "run", "--config", config)
	WaitHTTP(t, "http://"+addr+"/healthz", 30*time.Second)
	var status int
	var body readiness
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if status, body = readyz(t, addr); len(body.Reasons) == 1 && body.Reasons[0] != "starting" {
			break
		}
	}
	if status != http.StatusServiceUnavailable || body.Ready || !strings.Contains(strings.Join(body.Reasons, "; "), "too little disk space") {
		t.Errorf("got %d, %+v", status, body)
	}
	if len(body.Channels) != 1 || body.Channels[0].Channel != "room-42" {
		t.Errorf("the channels are %+v", body.Channels)
	}
	r.Stop()
}
