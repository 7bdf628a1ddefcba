package member

import (
	"context"
	"encoding/json"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
	"go.uber.org/goleak"

	"recorder/internal/lab/devserver"
	"recorder/internal/signaling"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// loopback keeps a test's connections on this machine.
func loopback(s *webrtc.SettingEngine) {
	s.SetIncludeLoopbackCandidate(true)
	s.SetIPFilter(func(ip net.IP) bool { return ip.IsLoopback() })
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
}

// heard counts the packets of other members' tracks, by track id.
type heard struct {
	mu      sync.Mutex
	packets map[string]int
	enough  chan struct{} // gets a value whenever a packet came
}

func newHeard() *heard {
	return &heard{packets: map[string]int{}, enough: make(chan struct{}, 1)}
}

func (h *heard) listen(_ string, t *webrtc.TrackRemote) {
	for {
		if _, _, err := t.ReadRTP(); err != nil {
			return
		}
		h.mu.Lock()
		h.packets[t.ID()]++
		h.mu.Unlock()
		select {
		case h.enough <- struct{}{}:
		default:
		}
	}
}

func (h *heard) wait(t *testing.T, trackID string, n int) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for {
		h.mu.Lock()
		got := h.packets[trackID]
		h.mu.Unlock()
		if got >= n {
			return
		}
		select {
		case <-h.enough:
		case <-limit:
			t.Fatalf("%d packets of %s, want %d", got, trackID, n)
		}
	}
}

func service(t *testing.T) (url string) {
	t.Helper()
	server := devserver.New(devserver.Options{})
	web := httptest.NewServer(server)
	t.Cleanup(func() { server.Close(); web.Close() })
	return "ws" + strings.TrimPrefix(web.URL, "http")
}

func join(t *testing.T, o Options) *Member {
	t.Helper()
	key, err := signaling.PublishableKey("pk_live_test")
	if err != nil {
		t.Fatal(err)
	}
	o.Credential, o.Channel, o.Settings = key, "lobby", loopback
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	m, err := Join(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Leave)
	return m
}

var camera = []Track{
	{StreamID: "cam", TrackID: "mic", MimeType: webrtc.MimeTypeOpus, Source: Sound(), Metadata: map[string]any{"role": "camera"}},
	{StreamID: "cam", TrackID: "lens", MimeType: webrtc.MimeTypeVP8, Source: Picture(), Metadata: map[string]any{"role": "camera"}},
}

func TestPublishesToWhoeverIsThereAndWhoeverComes(t *testing.T) {
	url := service(t)
	early, late := newHeard(), newHeard()
	join(t, Options{URL: url, OnTrack: early.listen})
	alice := join(t, Options{URL: url, Tracks: camera})
	join(t, Options{URL: url, OnTrack: late.listen})

	for _, h := range []*heard{early, late} {
		h.wait(t, "mic", 20)
		h.wait(t, "lens", 5)
	}
	sent := alice.Sent()
	if len(sent) != 4 {
		t.Fatalf("sent: %+v", sent)
	}
	for _, s := range sent {
		if s.Frames == 0 || s.Played == 0 {
			t.Errorf("sent: %+v", s)
		}
	}
}

func TestBothSidesMayPublishAtOnce(t *testing.T) {
	url := service(t)
	a, b := newHeard(), newHeard()
	first := join(t, Options{URL: url, OnTrack: a.listen, Tracks: camera[:1]})
	second := join(t, Options{URL: url, OnTrack: b.listen, Tracks: camera[1:]})
	a.wait(t, "lens", 5)
	b.wait(t, "mic", 20)

	screen := Track{StreamID: "screen", TrackID: "screen", MimeType: webrtc.MimeTypeVP8, Source: Picture()}
	first.Publish(screen)
	screen.TrackID = "other"
	second.Publish(screen)
	a.wait(t, "other", 5)
	b.wait(t, "screen", 5)
	first.Unpublish("screen")
	second.Unpublish("cam")
}

func TestJoinFailsWithAReason(t *testing.T) {
	key, _ := signaling.PublishableKey("pk_live_test")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := Join(ctx, Options{URL: "ws://127.0.0.1:1", Credential: key, Channel: "lobby"})
	if err == nil || !strings.Contains(err.Error(), `join channel "lobby"`) {
		t.Errorf("error: %v", err)
	}
}

// pion looks for candidates as soon as an offer restarts ICE, before there is an
// answer that names their user name fragment.
func TestCandidatesFollowTheDescriptionTheyBelongTo(t *testing.T) {
	var s webrtc.SettingEngine
	loopback(&s)
	api := webrtc.NewAPI(webrtc.WithSettingEngine(s))
	pcs := make([]*webrtc.PeerConnection, 2)
	for i := range pcs {
		pc, err := api.NewPeerConnection(webrtc.Configuration{})
		if err != nil {
			t.Fatal(err)
		}
		defer pc.GracefulClose()
		pcs[i] = pc
	}
	offerer, answerer := pcs[0], pcs[1]
	if _, err := offerer.CreateDataChannel("x", nil); err != nil {
		t.Fatal(err)
	}
	sent := make(chan message, 100)
	tr := &trickle{send: func(m message) { sent <- m }}
	answerer.OnICECandidate(tr.candidate)

	for _, restart := range []bool{false, true} {
		offer, err := offerer.CreateOffer(&webrtc.OfferOptions{ICERestart: restart})
		if err != nil {
			t.Fatal(err)
		}
		if err := offerer.SetLocalDescription(offer); err != nil {
			t.Fatal(err)
		}
		if err := answerer.SetRemoteDescription(offer); err != nil {
			t.Fatal(err)
		}
		if restart {
			for end := time.Now().Add(30 * time.Second); answerer.ICEGatheringState() != webrtc.ICEGatheringStateComplete; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("no candidates were gathered")
				}
			}
			if len(sent) != 0 {
				t.Errorf("%s was sent before the answer", (<-sent).Candidate)
			}
		}
		gathered := webrtc.GatheringCompletePromise(answerer)
		answer, err := answerer.CreateAnswer(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := answerer.SetLocalDescription(answer); err != nil {
			t.Fatal(err)
		}
		<-gathered
		tr.start(answer.SDP)
		candidates := 0
		for end := time.After(30 * time.Second); ; {
			var m message
			select {
			case m = <-sent:
			case <-end:
				t.Fatal("the end of candidates was not sent")
			}
			if string(m.Candidate) == "null" {
				break
			}
			candidates++
			var c webrtc.ICECandidateInit
			if err := json.Unmarshal(m.Candidate, &c); err != nil {
				t.Fatal(err)
			}
			if want := "a=ice-ufrag:" + *c.UsernameFragment + "\r\n"; !strings.Contains(answer.SDP, want) || !strings.Contains(c.Candidate, " ufrag "+*c.UsernameFragment) {
				t.Errorf("restart %v: %s is not of the answer", restart, m.Candidate)
			}
		}
		if candidates == 0 {
			t.Error("no candidate")
		}
		if err := offerer.SetRemoteDescription(answer); err != nil {
			t.Fatal(err)
		}
	}
}

// One that was found before ICE was restarted, and is told of after, holds up none of the others.
func TestALateCandidateOfAFormerDescriptionHoldsUpNone(t *testing.T) {
	var sent []string
	tr := &trickle{send: func(m message) { sent = append(sent, string(m.Candidate)) }}
	tr.start("a=ice-ufrag:old\r\n")
	tr.start("a=ice-ufrag:new\r\n")
	for _, ufrag := range []string{"old", "new"} {
		tr.take(found{candidate: json.RawMessage(ufrag), ufrag: ufrag})
	}
	tr.candidate(nil)
	if !slices.Equal(sent, []string{"new", "null"}) {
		t.Errorf("sent %q", sent)
	}
}
