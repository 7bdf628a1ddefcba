package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"recorder/internal/event"
	"recorder/internal/lab/devserver"
	"recorder/internal/remote"
	"recorder/internal/session"
	"recorder/internal/signaling"
	"recorder/internal/sink"
)

// bot is a session in this process, so that a test sees what it tells.
type bot struct {
	t          *testing.T
	server     string // host:port
	service    *devserver.Server
	recordings string // their directory
	session    *session.Session
	leave      func() // leaves the channel and finalises the files, once

	mu   sync.Mutex
	told []string
}

// botOptions are what tests differ in.
type botOptions struct {
	window    time.Duration // the reconnect window
	ice       []webrtc.ICEServer
	relayOnly bool
	api       func(*remote.APIOptions) // has the last word, if not nil
}

// startBot has a bot with the peer id "recorder" join room-42.
func startBot(t *testing.T) *bot {
	t.Helper()
	return newBot(t, botOptions{window: 10 * time.Second})
}

func newBot(t *testing.T, o botOptions) *bot {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	server := devserver.New(devserver.Options{Secrets: map[string]string{secretID: secret}, Logger: slog.New(slog.DiscardHandler)})
	web := httptest.NewServer(server)
	recordings := t.TempDir()
	root, err := sink.Open(sink.Options{Dir: recordings, Logger: log})
	must(t, err)
	options := remote.APIOptions{Logger: log, LoopbackMembers: true, RelayOnly: o.relayOnly, Settings: func(s *webrtc.SettingEngine) { s.SetIncludeLoopbackCandidate(true) }}
	if o.api != nil {
		o.api(&options)
	}
	api, err := remote.NewAPI(options)
	must(t, err)
	b := &bot{t: t, service: server, server: web.Listener.Addr().String(), recordings: recordings}
	b.session, err = session.New(session.Config{Channel: "room-42", Bot: "recorder", ReconnectWindow: o.window}, session.Options{
		Root: root, API: api, ICEServers: o.ice, Logger: log,
		Signaling: func(string) (*signaling.Client, error) {
			return signaling.NewClient(signaling.Options{
				URL: "ws://" + b.server, Credential: signaling.StaticToken(Token(t, secretID, secret, "recorder")), Logger: log,
			})
		},
	})
	must(t, err)
	event.Subscribe(b.session, func(e session.PeerJoined) { b.watch(e.Peer) })
	event.Subscribe(b.session, func(e session.PeerLeft) { b.tell("%s left", e.Peer.ID()) })
	event.Subscribe(b.session, func(e session.Data) { b.tell("%s: %s %s", e.SenderPeerID, e.Kind, e.Data) })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.session.Run(ctx) }()
	b.leave = sync.OnceFunc(func() {
		cancel()
		must(t, <-done)
	})
	t.Cleanup(func() {
		b.leave()
		must(t, api.Close())
		must(t, root.Close())
		server.Close()
		web.Close()
	})
	return b
}

// recording returns the only recording's directory and manifest.
func (b *bot) recording() (string, sink.Manifest) { return onlyRecording(b.t, b.recordings) }

// watch notes what a peer tells, and echoes what its data channels bring.
func (b *bot) watch(p *remote.Peer) {
	b.tell("%s joined", p.ID())
	event.Subscribe(p, func(e remote.StateChange) { b.tell("%s: %v", p.ID(), e.To) })
	event.Subscribe(p, func(e remote.StreamAdded) { b.tell("%s: + %s %s", p.ID(), e.Stream.ID(), e.Metadata) })
	event.Subscribe(p, func(e remote.StreamRemoved) { b.tell("%s: - %s", p.ID(), e.Stream.ID()) })
	event.Subscribe(p, func(e remote.TrackAdded) { b.tell("%s: track %v", p.ID(), e.Track.Kind()) })
	event.Subscribe(p, func(e remote.DataChannelOpened) {
		event.Subscribe(e.Channel, func(m remote.ChannelMessage) {
			if m.Text {
				e.Channel.SendText(context.Background(), string(m.Data))
			} else {
				e.Channel.Send(context.Background(), m.Data)
			}
		})
	})
}

func (b *bot) tell(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told = append(b.told, fmt.Sprintf(format, args...))
}

// await waits until the bot has told something, and reports everything it told
// when it does not.
func (b *bot) await(line string) {
	b.t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		b.mu.Lock()
		found := slices.Contains(b.told, line)
		b.mu.Unlock()
		if found {
			return
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.t.Fatalf("the bot did not tell %q but:\n%s", line, strings.Join(b.told, "\n"))
}

func (b *bot) count(line string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, told := range b.told {
		if told == line {
			n++
		}
	}
	return n
}

// join has a page join as the given peer.
func (b *bot) join(p *Page, id string) {
	b.t.Helper()
	Eval[string](p, `join({url: "ws://%s", channel: "room-42", token: %q})`, b.server, Token(b.t, secretID, secret, id))
	b.await(id + " joined")
	p.WaitFor(30*time.Second, "remote() !== undefined") // the page is told by a frame of its own
}

func (b *bot) peer(id string) *remote.Peer {
	for _, p := range b.session.Status().Peers {
		if p.ID() == id {
			return p
		}
	}
	b.t.Fatalf("no peer %q", id)
	return nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheBotSeesWhatTheSDKPublishes(t *testing.T) {
	browser := StartBrowser(t)
	b := startBot(t)
	page := browser.Open(t)
	b.join(page, "alice")

	camera := Eval[string](page, `addCamera()`)
	b.await("alice: + " + camera + ` {"role":"camera"}`)
	b.await("alice: connected")
	if n := b.count("alice: track video"); n != 1 {
		t.Errorf("%d video tracks", n)
	}

	screen := Eval[string](page, `addScreen()`)
	b.await("alice: + " + screen + ` {"role":"screen"}`)
	page.Do(`remove("screen")`)
	b.await("alice: - " + screen)

	// A stream that comes back is the same stream, with the metadata it had.
	page.Do(`peer.addStream(streams.screen, {role: "screen"})`)
	page.Do(`until(async () => (await sent()).frames > 0, 10000)`)
	for end := time.Now().Add(30 * time.Second); b.count("alice: + "+screen+` {"role":"screen"}`) < 2; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the stream was not added again")
		}
	}

	// replaceTrack and mute are no new tracks, and end none.
	before := len(b.peer("alice").Stats().Tracks)
	page.Do(`replaceVideo("camera")`)
	page.Do(`mute("camera")`)
	page.Do(`sleep(1000)`)
	page.Do(`mute("camera", false)`)
	page.Do(`sleep(500)`)
	if after := len(b.peer("alice").Stats().Tracks); after != before {
		t.Errorf("%d tracks, then %d", before, after)
	}
	if n := b.count("alice: - " + camera); n != 0 {
		t.Error("the camera was taken for removed")
	}
	page.Do("leave()")
	b.await("alice left")
}

func TestDataGoesBothWaysBetweenTheBotAndTheSDK(t *testing.T) {
	browser := StartBrowser(t)
	b := startBot(t)
	page := browser.Open(t)
	b.join(page, "alice")

	// The browser opens the first connection by asking for a data channel:
	// there is no media at all.
	if back := Eval[[]string](page, `echo(["one", "two", "three"])`); !slices.Equal(back, []string{"one", "two", "three"}) {
		t.Errorf("the echo was %q", back)
	}
	b.await("alice: connected")

	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	channel, err := b.peer("alice").CreateDataChannel("from-the-bot", nil)
	must(t, err)
	back := make(chan string, 1)
	event.Subscribe(channel, func(m remote.ChannelMessage) { back <- string(m.Data) })
	must(t, channel.SendText(ctx, "hello"))
	select {
	case got := <-back:
		if got != "hello" {
			t.Errorf("the browser's echo was %q", got)
		}
	case <-ctx.Done():
		t.Error("the browser did not echo")
	}

	must(t, b.peer("alice").Send(ctx, map[string]any{"direct": 1}))
	must(t, b.session.Send(ctx, map[string]any{"broadcast": 2}))
	page.WaitFor(30*time.Second, `events.filter(e => e.event === "data").length === 2`)
	got := Eval[json.RawMessage](page, `events.filter(e => e.event === "data").map(e => [e.kind, e.data])`)
	if want := `[["direct",{"direct":1}],["broadcast",{"broadcast":2}]]`; string(got) != want {
		t.Errorf("the page got %s, want %s", got, want)
	}
	page.Do(`peer.sendTo("recorder", {to: "bot"})`)
	page.Do(`peer.send({to: "all"})`)
	b.await(`alice: direct {"to":"bot"}`)
	b.await(`alice: broadcast {"to":"all"}`)
}

func TestBrowsersComeAndGo(t *testing.T) {
	browser := StartBrowser(t)
	b := startBot(t)
	alice, bob := browser.Open(t), browser.Open(t)
	b.join(alice, "alice")
	b.join(bob, "bob")
	streams := []string{Eval[string](alice, `addCamera()`), Eval[string](bob, `addCamera()`)}
	b.await("alice: + " + streams[0] + ` {"role":"camera"}`)
	b.await("bob: + " + streams[1] + ` {"role":"camera"}`)
	b.await("alice: connected")
	b.await("bob: connected")
	bob.Do("leave()")
	b.await("bob left")
	if b.count("alice: closed")+b.count("alice: reconnecting") > 0 {
		t.Error("alice's connection suffered from bob's leaving")
	}
	alice.Reload()
	b.await("alice left")
	b.join(alice, "alice")
	again := Eval[string](alice, `addCamera()`)
	b.await("alice: + " + again + ` {"role":"camera"}`)
}
