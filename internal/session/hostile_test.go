package session

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"recorder/internal/lab/devserver"
	"recorder/internal/signaling"
)

// speak connects as a member that says what it likes.
func (r *rig) speak(id string) *signaling.Client { return r.converse(id, func(signaling.Direct) {}) }

// converse is speak, and hears what is said to the member alone.
func (r *rig) converse(id string, hear func(signaling.Direct)) *signaling.Client {
	client, err := signaling.NewClient(signaling.Options{URL: "ws://127.0.0.1", Credential: r.token(id), HTTPClient: r.http})
	r.must(err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		client.Run(ctx)
		close(done)
	}()
	connected := make(chan struct{})
	go func() {
		for e := range client.Events() {
			switch e := e.(type) {
			case signaling.Connected:
				close(connected)
			case signaling.Direct:
				hear(e)
			}
		}
	}()
	<-connected
	r.must(client.Subscribe(ctx, channel))
	r.defers(func() { stop(); <-done })
	return client
}

func description(kind, sdp string) any {
	return map[string]any{"type": "rtc-description", "description": map[string]any{"type": kind, "sdp": sdp}}
}

var garbage = map[string]any{
	"an offer that is no SDP":           description("offer", "hello\x00\xff"),
	"an offer without media":            description("offer", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"),
	"an answer to nothing":              description("answer", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"),
	"a rollback":                        description("rollback", ""),
	"a description of no type":          map[string]any{"type": "rtc-description"},
	"a description that is a number":    map[string]any{"type": "rtc-description", "description": 7},
	"a candidate that is none":          map[string]any{"type": "rtc-ice", "candidate": map[string]any{"candidate": "candidate:" + strings.Repeat("x", 5000)}},
	"a candidate that is a list":        map[string]any{"type": "rtc-ice", "candidate": []int{1, 2}},
	"a candidate with a name":           map[string]any{"type": "rtc-ice", "candidate": map[string]any{"candidate": "candidate:1 1 udp 2130706431 evil.example.invalid 53 typ host"}},
	"metadata of no track":              map[string]any{"__meteredTrackMeta": map[string]any{"metadata": map[string]any{"role": "x"}}},
	"metadata that is a string":         map[string]any{"__meteredTrackMeta": map[string]any{"trackId": "t", "metadata": "x"}},
	"application data":                  "hello",
	"nothing":                           nil,
	"a list as deep as the parser goes": strings.Repeat("[", 9000),
}

func TestGarbageFromOneMemberLosesNothingOfAnother(t *testing.T) {
	for name, payload := range garbage {
		t.Run(name, func(t *testing.T) {
			inRig(t, devserver.Options{}, func(r *rig) {
				r.start(true)
				time.Sleep(settling)
				alice := r.join(r.token("alice"), "alice-camera")
				mallory := r.speak("mallory")
				for range 5 {
					<-mallory.SendAsync(r.bot(), payload)
					time.Sleep(time.Second)
				}
				alice.Leave()
				m := r.finish()
				r.checkOneStream(m, outcome{})
			})
		})
	}
}

func TestSignalsOfAnUnknownPeerAreDropped(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.start(true)
		time.Sleep(settling)
		alice := r.join(r.token("alice"), "alice-camera")
		for range 300 {
			r.server.Inject(r.bot(), &devserver.Direct{From: "nobody", Data: []byte(`{"type":"rtc-ice","candidate":null}`)})
		}
		time.Sleep(10 * time.Second)
		alice.Leave()
		r.checkOneStream(r.finish(), outcome{})
	})
}

func TestMalformedFramesOfTheServiceAreDropped(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.start(true)
		time.Sleep(settling)
		alice := r.join(r.token("alice"), "alice-camera")
		for _, frame := range []string{"", "null", "[]", "{", `{"type":7}`, `{"type":"presence"}`, `{"type":"nonsense"}`,
			`{"type":"presence","channel":"room-42","joined":"alice","left":{}}`} {
			r.server.Inject(r.bot(), []byte(frame))
		}
		time.Sleep(5 * time.Second)
		alice.Leave()
		r.checkOneStream(r.finish(), outcome{})
	})
}

func TestNamesFromTheWireStayInsideTheRecordingsDirectory(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.start(true)
		time.Sleep(settling)
		evil := r.join(r.token("../../etc/x"), "../../../tmp/y")
		time.Sleep(5 * time.Second)
		evil.Leave()
		m := r.finish()
		r.checkOneStream(m, outcome{})
		if s := m.Streams[0]; s.ID != "../../../tmp/y" || s.PeerID != "../../etc/x" {
			t.Errorf("the manifest names stream %q of peer %q", s.ID, s.PeerID)
		}
		files := 0
		filepath.WalkDir(r.dir, func(path string, d os.DirEntry, err error) error {
			if !d.IsDir() {
				files++
			}
			return err
		})
		if files != 3 {
			t.Errorf("%d files under the recordings directory, want the manifest and two tracks", files)
		}
	})
}

func TestASessionThatIsRefusedForGoodSaysWhyAndLeavesTheOthersAlone(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.start(true)
		r.must(r.set.Apply([]Config{
			{Channel: channel, Bot: "recorder", ReconnectWindow: aWindow},
			{Channel: "another", Bot: "recorder", ReconnectWindow: aWindow},
		}))
		time.Sleep(settling)
		r.server.Drop("recorder-another", devserver.Drop{Code: devserver.CloseAdminDisconnect})
		time.Sleep(settling)
		want := map[string]State{channel: StateJoined, "another": StateFailed}
		for _, s := range r.set.Status() {
			if s.State != want[s.Channel] || (s.Err != nil) != (s.State == StateFailed) {
				t.Errorf("channel %q is %v, %v", s.Channel, s.State, s.Err)
			}
		}
	})
}
