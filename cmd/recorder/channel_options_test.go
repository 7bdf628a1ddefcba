package main

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"recorder/internal/config"

	"recorder/internal/session"
	"recorder/internal/sink"
)

// TestEveryChannelOptionReachesItsSession writes each option into a channel, and into defaults, and looks at what the session
// of that channel is told.
func TestEveryChannelOptionReachesItsSession(t *testing.T) {
	at := time.Date(2030, 1, 31, 9, 0, 0, 0, time.UTC)
	tests := map[string]struct {
		value string
		set   func(*session.Config)
	}{
		"audio":            {"false", func(c *session.Config) { c.SkipAudio = true }},
		"video":            {"false", func(c *session.Config) { c.SkipVideo = true }},
		"roles":            {"[camera, screen]", func(c *session.Config) { c.Roles = []string{"camera", "screen"} }},
		"reconnect_window": {"7s", func(c *session.Config) { c.ReconnectWindow = 7 * time.Second }},
		"leave_when_alone": {"8s", func(c *session.Config) { c.AloneTimeout = 8 * time.Second }},
		"max_duration":     {"9s", func(c *session.Config) { c.MaxDuration = 9 * time.Second }},
		"max_size":         {"2GB", func(c *session.Config) { c.MaxSize = 2e9 }},
		"max_members":      {"3", func(c *session.Config) { c.MaxMembers = 3 }},
		"max_streams":      {"4", func(c *session.Config) { c.MaxStreams = 4 }},
		"start_at":         {"2030-01-31T09:00:00Z", func(c *session.Config) { c.Start = at }},
		"stop_at":          {"2030-01-31T10:00:00+01:00", func(c *session.Config) { c.Stop = at }},
	}
	for _, key := range config.KeysOf(reflect.TypeFor[config.ChannelOptions]()) {
		tt, ok := tests[key]
		if !ok {
			t.Errorf("%s is not tried here", key)
			continue
		}
		for _, format := range []string{
			"channels: [{name: a, %s: %s}]\n",
			"channels: [{name: a}]\ndefaults: {%s: %s}\n",
		} {
			cfg := load(t, "signaling: {api_key: pk_live_x}\n"+fmt.Sprintf(format, key, tt.value))
			want := session.Config{Channel: "a", Bot: "recorder", ReconnectWindow: time.Minute}
			tt.set(&want)
			got := sessionConfigs(cfg)[0]
			got.Start, got.Stop = got.Start.UTC(), got.Stop.UTC()
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s", fmt.Sprintf(format, key, tt.value))
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		}
	}
}

// TestChannelsOfOneFileAreRecordedEachAsItSays has the same members in channels whose options differ.
func TestChannelsOfOneFileAreRecordedEachAsItSays(t *testing.T) {
	url := startDevserver(t)
	dir := filepath.Join(t.TempDir(), "recordings")
	t.Setenv("RECORDER_SIGNALING_SECRET_KEY_SECRET", testSecret)
	cfg := load(t, fmt.Sprintf(`
signaling: {url: '%s', secret_key: {id: sk_id_1}}
http: {listen: '127.0.0.1:0'}
recordings: {dir: '%s', min_free: 0}
defaults: {video: false, max_streams: 1}
channels:
  - {name: as-all}
  - {name: pictures, audio: false, video: true}
  - {name: both, video: true, max_streams: 0}
  - {name: screens, roles: [screen]}
  - {name: cameras, roles: [camera], max_members: 1}
  - {name: short, max_duration: 1s}
  - {name: lonely, leave_when_alone: 1s}
  - {name: later, start_at: %s}
  - {name: past, stop_at: 2020-01-01T00:00:00Z}
`, url, dir, time.Now().Add(time.Hour).UTC().Format(time.RFC3339)))
	app := startApp(t, *cfg)
	for _, channel := range []string{"as-all", "pictures", "both", "screens", "cameras", "short"} {
		visit(t, url, channel, "visitor-1", time.Hour)
	}
	visit(t, url, "as-all", "visitor-2", time.Hour)
	visit(t, url, "both", "visitor-2", time.Hour)
	visit(t, url, "cameras", "visitor-2", time.Hour)

	states := map[string]string{"as-all": "joined", "pictures": "joined", "both": "joined", "screens": "joined", "cameras": "joined",
		"short": "closed", "lonely": "closed", "later": "idle", "past": "closed"}
	eventually(t, "every channel is as configured", func() bool {
		return !slices.ContainsFunc(app.channels(), func(c ChannelStatus) bool { return c.State != states[c.Channel] })
	})
	for _, c := range app.channels() {
		want := map[string]string{"short": "the longest stay", "lonely": "alone", "past": "at the configured time"}[c.Channel]
		if !strings.Contains(c.Error, want) || want == "" && c.Error != "" {
			t.Errorf("%s: %q", c.Channel, c.Error)
		}
	}

	// What is recorded: kinds of the files, and of how many members.
	files := map[string]string{
		"as-all": "1: audio", "pictures": "1: video", "both": "2: audio audio video video", "screens": "0:", "cameras": "1: audio",
		"later": "none", "past": "none",
	}
	for channel, want := range files {
		eventually(t, channel+" is recorded as "+want, func() bool { return recorded(t, dir, channel) == want })
	}
	for channel, want := range files { // nor has any more come since
		if got := recorded(t, dir, channel); got != want {
			t.Errorf("%s: %s", channel, got)
		}
	}
}

// recorded says of how many members there are files in a channel's recording, and of what kind.
func recorded(t *testing.T, dir, channel string) string {
	t.Helper()
	if found, _ := filepath.Glob(filepath.Join(dir, channel, "*", sink.ManifestName)); len(found) == 0 {
		return "none"
	}
	m := readManifest(t, dir, channel)
	peers := map[string]bool{}
	var kinds []string
	for _, s := range m.Streams {
		for _, track := range s.Tracks {
			if len(track.Parts) > 0 {
				peers[s.PeerID] = true
				kinds = append(kinds, string(track.Kind))
			}
		}
	}
	slices.Sort(kinds)
	return strings.TrimSpace(fmt.Sprintf("%d: %s", len(peers), strings.Join(kinds, " ")))
}
