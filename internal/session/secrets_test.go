package session

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"recorder/internal/event"
	"recorder/internal/lab/devserver"
	"recorder/internal/remote"
	"recorder/internal/signaling"
	"recorder/internal/sink"
)

// printed is everything that a run put out in words.
type printed struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (p *printed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

// secrets are what must not be printed, by what they are.
type secrets struct {
	mu sync.Mutex
	by map[string]string
}

func (s *secrets) note(what, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if value != "" {
		s.by[value] = what
	}
}

// check looks for each secret in a text.
func (s *secrets) check(t *testing.T, where, text string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for value, what := range s.by {
		if i := strings.Index(text, value); i >= 0 {
			t.Errorf("%s: %s stands in ...%s...", where, what, text[max(0, i-150):min(len(text), i+len(value)+20)])
		}
	}
}

// noting is a credential whose tokens are secrets.
type noting struct {
	signaling.Credential
	secrets *secrets
}

func (n noting) Authorize(ctx context.Context) (param, value string, err error) {
	param, value, err = n.Credential.Authorize(ctx)
	n.secrets.note("the credential", value)
	return param, value, err
}

var iceSecrets = regexp.MustCompile(`a=ice-(?:ufrag|pwd):(\S+)`)

// watch notes the ICE credentials in everything that members send each other,
// and the descriptions themselves by a line that only they have.
func (s *secrets) watch(_ string, frame any) devserver.Verdict {
	if d, ok := frame.(*devserver.Direct); ok {
		var signal struct{ Description struct{ SDP string } }
		_ = json.Unmarshal(d.Data, &signal)
		for _, m := range iceSecrets.FindAllStringSubmatch(signal.Description.SDP, -1) {
			s.note("an ICE credential", m[1])
		}
	}
	return devserver.Pass
}

// A session in which much goes wrong, logged down to pion's traces, prints no
// credential, no ICE password, no description and nothing of what members say
// of themselves; the manifest has that, where it says so, and no more.
func TestNothingASessionPutsOutHoldsASecret(t *testing.T) {
	dir := t.TempDir()
	hidden := &secrets{by: map[string]string{
		secret: "the secret key", "m3mb3r-m3ta": "a member's metadata", "tr4ck-m3ta": "a track's metadata", "turn-us3r": "the TURN user",
		"turn-s3cret": "the TURN password", "d4ta": "application data", "rtcp-mux": "a description",
	}}
	var out printed
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, dir, devserver.Options{ICEServers: []devserver.ICEServer{
			{URLs: []string{"turn:10.0.0.200:3478"}, Username: "turn-us3r", Credential: "turn-s3cret"},
		}})
		defer r.close()
		r.log = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug - 8, AddSource: true}))
		r.root.Close()
		r.api.Close()
		r.reg = prometheus.NewRegistry()
		r.wire = signaling.NewMetrics(r.reg)
		var err error
		r.root, err = sink.Open(sink.Options{Dir: dir, Logger: r.log, Registerer: r.reg})
		r.must(err)
		r.defers(func() { r.root.Close() })
		r.api, err = remote.NewAPI(remote.APIOptions{Logger: r.log, Settings: r.host(), Registerer: r.reg})
		r.must(err)
		r.server.Intercept(hidden.watch)
		token := func(id string) signaling.Credential {
			c, err := signaling.NewSecretKey(signaling.SecretKeyOptions{
				ID: keyID, Secret: secret, PeerID: id, Channels: []string{"*"}, TTL: time.Hour,
				Permissions: []string{"publish", "subscribe", "presence", "send"}, PeerMetadata: map[string]any{"name": "m3mb3r-m3ta"},
			})
			r.must(err)
			return noting{c, hidden}
		}
		o := r.options(true)
		o.Signaling = func(name string) (*signaling.Client, error) {
			return signaling.NewClient(signaling.Options{
				URL: "ws://127.0.0.1", Credential: token("recorder"), HTTPClient: r.http, Logger: r.log, Metrics: r.wire.Channel(name),
			})
		}
		r.set = NewSet(o)
		r.reg.MustRegister(r.set)
		r.must(r.set.Apply([]Config{{Channel: channel, Bot: "recorder", ReconnectWindow: aWindow}}))
		session := r.set.sessions[channel].Session
		event.Subscribe(session, func(e PeerJoined) {
			fmt.Fprintf(&out, "%v %+v\n", e, e)
			event.Subscribe(e.Peer, func(e remote.NegotiationError) { fmt.Fprintf(&out, "%v %+v\n", e, e.Err) })
			event.Subscribe(e.Peer, func(e remote.ICECandidateError) { fmt.Fprintf(&out, "%v %+v\n", e, e.Err) })
		})
		time.Sleep(settling)

		alice := r.join(token("alice"), "alice-camera")
		mallory := r.speak("mallory")
		sdp := offerOf(r, 2)
		half := strings.ReplaceAll(sdp, "a=rtpmap:", "a=x-rtpmap:")
		<-mallory.SendAsync(r.bot(), map[string]any{"__meteredTrackMeta": map[string]any{"trackId": "TRK00", "metadata": map[string]any{"role": "tr4ck-m3ta"}}})
		<-mallory.SendAsync(r.bot(), map[string]any{"__meteredTrackMeta": map[string]any{"trackId": "TRK00", "metadata": "tr4ck-m3ta"}})
		for _, text := range []string{sdp, half, sdp[:len(sdp)/2], strings.Replace(sdp, "m=", "m=tr4ck-m3ta ", 1), strings.ReplaceAll(sdp, "a=ice-pwd", "a=x")} {
			<-mallory.SendAsync(r.bot(), description("offer", text))
			<-mallory.SendAsync(r.bot(), description("answer", text))
			time.Sleep(time.Second)
		}
		ufrag := iceSecrets.FindStringSubmatch(sdp)[1]
		for _, c := range []map[string]any{
			{"candidate": "candidate:nonsense ufrag " + ufrag}, {"candidate": "candidate:1 1 udp 1 10.9.0.1 9 typ host", "usernameFragment": ufrag},
			{"candidate": "candidate:1 1 udp 1 10.9.0.1 x typ host ufrag " + ufrag, "usernameFragment": ufrag}, {"candidate": strings.Repeat(ufrag, 500)},
		} {
			<-mallory.SendAsync(r.bot(), map[string]any{"type": "rtc-ice", "candidate": c})
		}
		<-mallory.SendAsync(r.bot(), map[string]any{"x": "d4ta"})
		r.must(mallory.Publish(context.Background(), channel, "d4ta"))
		time.Sleep(settling)
		r.server.Inject(r.bot(), []byte(`{"type":"d4ta"}`))
		r.server.Inject(r.bot(), &devserver.Error{Code: "made_up", Message: "d4ta"})
		r.cutFor(8 * time.Second)
		r.server.Refuse(503)
		r.server.Drop(r.bot(), devserver.Drop{Presence: devserver.Silent})
		time.Sleep(5 * time.Second)
		r.server.Refuse(0)
		time.Sleep(20 * time.Second)
		families, err := r.reg.Gather()
		r.must(err)
		fmt.Fprintln(&out, families)
		for _, status := range r.set.Status() {
			fmt.Fprintf(&out, "%v %+v %v\n", status, status, status.Err)
			for _, peer := range status.Peers {
				fmt.Fprintf(&out, "%v %+v %s\n", peer, peer, slog.AnyValue(peer).Resolve())
			}
		}
		alice.Leave()
		r.server.Drop(r.bot(), devserver.Drop{Code: devserver.CloseAdminDisconnect})
		time.Sleep(settling)
		fmt.Fprintln(&out, r.set.Status()[0].Err)
	})
	if text := out.text.String(); !strings.Contains(text, "negotiation failed") || !strings.Contains(text, "pion reported") ||
		!strings.Contains(text, "signal was dropped") || len(hidden.by) < 12 {
		t.Fatalf("the run did not go as it should, or was not watched: %d secrets in\n%s", len(hidden.by), text)
	}
	hidden.check(t, "output", out.text.String())
	r := os.DirFS(dir)
	_ = fs.WalkDir(r, ".", func(path string, _ fs.DirEntry, err error) error {
		hidden.check(t, "file name", path)
		return err
	})
	manifests, _ := filepath.Glob(filepath.Join(dir, "*", "*", sink.ManifestName))
	if len(manifests) == 0 {
		t.Fatal("no manifest")
	}
	for _, file := range manifests {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var m any
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		public, _ := json.Marshal(withoutMetadata(m))
		hidden.check(t, "manifest", string(public))
		if len(public) == len(b) || !bytes.Contains(b, []byte("m3mb3r-m3ta")) {
			t.Error("the manifest has no metadata")
		}
	}
}

// withoutMetadata takes the fields that say they are metadata out of JSON.
func withoutMetadata(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if strings.Contains(strings.ToLower(key), "metadata") {
				delete(v, key)
			} else {
				v[key] = withoutMetadata(value)
			}
		}
	case []any:
		for i := range v {
			v[i] = withoutMetadata(v[i])
		}
	}
	return v
}
