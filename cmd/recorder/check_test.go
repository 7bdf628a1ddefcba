package main

import (
	"encoding/json"
	"slices"
	"testing"
)

func TestWhatIsHardlyMeantIsWarnedOf(t *testing.T) {
	t.Setenv("RECORDER_SIGNALLING_URL", "wss://example.com")
	t.Setenv("RECORDER_WEBRTC_ICE_SERVERS", "stun:example.com")
	path := write(t, "signaling: {api_key: pk_live_x}\nchannels: [{name: a, stop_at: 2020-01-01T00:00:00Z}]")
	code, out, _ := try(t, t.Context(), "check", "--json", "--config", path)
	var got struct{ Warnings []string }
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 {
		t.Fatal(err, code)
	}
	want := []string{
		"RECORDER_SIGNALLING_URL is ignored: no key has that variable",
		"RECORDER_WEBRTC_ICE_SERVERS is ignored: webrtc.ice_servers holds a list or a map, which only the file can say",
		`channels[0].stop_at is over: "a" is not joined any more`,
	}
	if !slices.Equal(got.Warnings, want) {
		t.Errorf("%q", got.Warnings)
	}
}
