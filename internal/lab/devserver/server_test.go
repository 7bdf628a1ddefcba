package devserver

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
)

func TestRequestsAreRefusedWithTheirErrorCode(t *testing.T) {
	long := strings.Repeat("x", 257)
	inBubble(t, Options{}, func(t *testing.T, b *bubble) {
		c := b.join("alice")
		for _, r := range []struct{ request, want string }{
			{`{`, "error malformed_message"},
			{`[]`, "error malformed_message"},
			{`{}`, "error malformed_message"},
			{`{"type":"subscribe","channel":1,"requestId":"1"}`, "error malformed_message"},
			{`{"type":"subscribe","channel":"lobby","requestId":""}`, "error malformed_message"},
			{`{"type":"subscribe","channel":"lobby","requestId":"` + long + `"}`, "error malformed_message"},
			{`{"type":"dance","requestId":"1"}`, "error unknown_type 1"},
			{`{"type":"dance"}`, "error unknown_type"},
			{`{"type":"subscribe","requestId":"1"}`, "error invalid_channel 1"},
			{`{"type":"subscribe","channel":"` + long + `","requestId":"1"}`, "error invalid_channel 1"},
			{`{"type":"publish","channel":"a\u0085b","data":1,"requestId":"1"}`, "error invalid_channel 1"},
			{`{"type":"subscribe","channel":"_Metered/x","requestId":"1"}`, "error channel_reserved 1"},
			{`{"type":"publish","channel":"_internal/x","data":1,"requestId":"1"}`, "error channel_reserved 1"},
			{`{"type":"unsubscribe","channel":"_system/x","requestId":"1"}`, "error channel_reserved 1"},
			{`{"type":"publish","channel":"lobby","requestId":"1"}`, "error missing_data 1"},
			{`{"type":"send","to":"bob","requestId":"1"}`, "error missing_data 1"},
			{`{"type":"send","data":1,"requestId":"1"}`, "error invalid_peer_id 1"},
			{`{"type":"send","to":"a\nb","data":1,"requestId":"1"}`, "error malformed_message"}, // a raw newline is no JSON
			{`{"type":"send","to":"a\u000ab","data":1,"requestId":"1"}`, "error invalid_peer_id 1"},
			{`{"type":"send","to":"nobody","data":null,"requestId":"1"}`, "error peer_not_found 1"},
			{`{"type":"unsubscribe","channel":"never","requestId":"1"}`, "ack 1"},
			{`{"type":"ping"}`, "pong"},
		} {
			c.send("%s", strings.ReplaceAll(r.request, `\n`, "\n"))
			if got := c.received(); len(got) != 1 || got[0] != r.want {
				t.Errorf("%.80s: %q, want %q", r.request, got, r.want)
			}
		}
		if err := c.ws.Write(t.Context(), websocket.MessageBinary, []byte(`{"type":"ping"}`)); err != nil {
			t.Fatal(err)
		}
		c.expect("error malformed_message")
	})
}

func TestMembersSeeEachOtherComeAndGo(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bubble) {
		alice := b.join("alice", jwt.MapClaims{"peerMetadata": map[string]string{"name": "Alice"}})
		bob := b.join("bob")
		alice.send(`{"type":"subscribe","channel":"lobby","requestId":"1"}`)
		alice.expect("ack 1", "presence lobby")
		bob.subscribe("lobby")
		bob.expect(`presence lobby +alice{"name":"Alice"}`)
		alice.expect("presence lobby +bob")

		alice.send(`{"type":"subscribe","channel":"lobby","requestId":"2"}`) // again: another snapshot, no delta
		alice.expect("ack 2", "presence lobby +bob")
		bob.expect()

		alice.send(`{"type":"unsubscribe","channel":"lobby","requestId":"3"}`)
		alice.expect("ack 3")
		bob.expect("presence lobby -alice")
		bob.send(`{"type":"unsubscribe","channel":"lobby"}`)
		bob.expect()
		alice.expect()
		if got := b.Members("lobby"); got != nil {
			t.Errorf("members of an empty channel: %q", got)
		}
	})
}

func TestSnapshotListsTheReceiverWhereAsked(t *testing.T) {
	inBubble(t, Options{ListSelf: true}, func(t *testing.T, b *bubble) {
		c := b.join("alice")
		c.subscribe("lobby")
		c.expect("presence lobby +alice")
	})
}

func TestPublishReachesEveryOtherSubscriber(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bubble) {
		alice := b.join("alice", jwt.MapClaims{"peerMetadata": map[string]string{"name": "Alice"}})
		bob, carol, dave := b.join("bob"), b.join("carol"), b.join("dave")
		bob.send(`{"type":"subscribe","channel":"lobby","includeSenderMetadata":true}`)
		synctest.Wait()
		carol.subscribe("lobby")
		synctest.Wait()
		alice.subscribe("lobby")
		for _, c := range []*client{alice, bob, carol} {
			c.received()
		}
		alice.send(`{"type":"publish","channel":"lobby","data":{"n":1},"requestId":"1"}`)
		alice.expect("ack 1")
		bob.expect(`message lobby alice {"n":1} {"name":"Alice"}`)
		carol.expect(`message lobby alice {"n":1}`)
		dave.expect()
		dave.send(`{"type":"publish","channel":"lobby","data":null}`)
		alice.expect("message lobby dave null")
	})
}

func TestDirectReachesEverySocketOfAPeer(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bubble) {
		alice := b.join("alice", jwt.MapClaims{"peerMetadata": map[string]string{"name": "Alice"}})
		phone, laptop := b.join("bob"), b.join("bob")
		alice.send(`{"type":"send","to":"bob","data":"hi","requestId":"1"}`)
		alice.expect("ack 1")
		phone.expect(`direct alice "hi" {"name":"Alice"}`)
		laptop.expect(`direct alice "hi" {"name":"Alice"}`)
	})
}

func TestSocketsOfOnePeerAreOneMember(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bubble) {
		alice := b.join("alice")
		alice.subscribe("lobby")
		alice.expect("presence lobby")
		phone, laptop := b.join("bob"), b.join("bob")
		phone.subscribe("lobby")
		alice.expect("presence lobby +bob")
		laptop.subscribe("lobby")
		laptop.expect("presence lobby +alice")
		phone.ws.CloseNow()
		alice.expect()
		laptop.ws.Close(websocket.StatusNormalClosure, "")
		alice.expect("presence lobby -bob")
	})
}

// Every client keeps its own list from what it is told, while all of them come and go at once; a delta before the snapshot, a
// join of a member or a leave of a stranger shows at once, a missed one at the end.
func TestNoJoinOrLeaveIsMissedOrSeenTwice(t *testing.T) {
	inBubble(t, Options{Limits: Limits{Connects: -1, Rate: -1}}, func(t *testing.T, b *bubble) {
		type view struct {
			client  *client
			members map[string]bool // nil: no snapshot yet
		}
		const peers, rounds = 12, 30
		views := make([]*view, peers)
		for i := range views {
			id := fmt.Sprint("peer-", i)
			v := &view{client: b.join(id)}
			v.client.seen = func(f frame) {
				switch {
				case f.Type == "ack":
					v.members = nil
				case f.Type != "presence":
				case v.members == nil:
					if len(f.Left) > 0 {
						t.Errorf("%s got %v, want a snapshot", id, f)
					}
					v.members = map[string]bool{}
					for _, m := range f.Joined {
						v.members[m.PeerID] = true
					}
				default:
					for _, m := range f.Joined {
						if v.members[m.PeerID] {
							t.Errorf("%s was told twice that %s joined", id, m.PeerID)
						}
						v.members[m.PeerID] = true
					}
					for _, m := range f.Left {
						if !v.members[m.PeerID] {
							t.Errorf("%s was told that %s left, who was not there", id, m.PeerID)
						}
						delete(v.members, m.PeerID)
					}
				}
			}
			views[i] = v
		}
		var wg sync.WaitGroup
		for i, v := range views {
			wg.Go(func() {
				random := rand.New(rand.NewPCG(1, uint64(i)))
				for range rounds {
					v.client.send(`{"type":"subscribe","channel":"lobby","requestId":"s"}`)
					time.Sleep(time.Duration(random.IntN(3)) * time.Millisecond)
					v.client.send(`{"type":"unsubscribe","channel":"lobby"}`)
					time.Sleep(time.Duration(random.IntN(3)) * time.Millisecond)
				}
				v.client.send(`{"type":"subscribe","channel":"lobby","requestId":"s"}`)
			})
		}
		wg.Wait()
		synctest.Wait()
		for i, v := range views {
			if len(v.members) != peers-1 || v.members[fmt.Sprint("peer-", i)] {
				t.Errorf("peer-%d believes in %v", i, v.members)
			}
		}
	})
}

func TestFramesOver64KiBAreClosedWith1009(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bubble) {
		c := b.join("alice")
		const envelope = len(`{"type":"send","to":"alice","data":""}`)
		payload := strings.Repeat("x", 65536-envelope)
		c.send(`{"type":"send","to":"alice","data":"%s"}`, payload)
		c.expect(`direct alice "` + payload + `"`)
		c.send(`{"type":"send","to":"alice","data":"%sx"}`, payload)
		c.expect("close 1009")
	})
}

func TestLimitsOfOneConnection(t *testing.T) {
	inBubble(t, Options{Limits: Limits{Channels: 2, Rate: 10, Burst: 5, Quota: 1}}, func(t *testing.T, b *bubble) {
		c := b.join("alice")
		for i := range 4 {
			c.send(`{"type":"subscribe","channel":"c%d","requestId":"%d"}`, i%3, i)
		}
		c.expect("ack 0", "presence c0", "ack 1", "presence c1", "error channel_limit_exceeded 2", "ack 3", "presence c0")

		time.Sleep(time.Second)
		for i := range 2 {
			c.send(`{"type":"publish","channel":"c1","data":1,"requestId":"%d"}`, i)
		}
		c.expect("ack 0", "error over_message_quota 1") // the connection stays

		time.Sleep(time.Second)
		for range 6 {
			c.send(`{"type":"ping"}`)
		}
		c.expect("pong", "pong", "pong", "pong", "pong", "close 4011")
	})
}

func TestTheDefaultRateIsTheDocumentedOne(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bubble) {
		c := b.join("alice")
		for range 200 {
			c.send(`{"type":"ping"}`)
		}
		for range 10 * 100 {
			time.Sleep(10 * time.Millisecond)
			c.send(`{"type":"ping"}`)
		}
		if got := c.received(); len(got) != 1200 {
			t.Fatalf("%d pongs, last %q", len(got), got[len(got)-1])
		}
		c.send(`{"type":"ping"}`)
		c.send(`{"type":"ping"}`)
		if got := c.received(); got[len(got)-1] != "close 4011" {
			t.Errorf("received %q", got)
		}
	})
}

func TestConnectsAreLimited(t *testing.T) {
	inBubble(t, Options{Limits: Limits{Connects: 2, Connections: 1}}, func(t *testing.T, b *bubble) {
		key := url.Values{"key": {"pk_live_a"}}
		b.join("alice")
		second, _ := b.dial(key)
		second.expect("close 4010")
		if _, status := b.dial(key); status != http.StatusTooManyRequests {
			t.Errorf("third connect: HTTP %d", status)
		}
		time.Sleep(30 * time.Second)
		if _, status := b.dial(key); status != http.StatusSwitchingProtocols {
			t.Errorf("connect half a minute later: HTTP %d", status)
		}
	})
}

func TestCloseTellsEveryoneFirst(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bubble) {
		alice, bob := b.join("alice"), b.join("bob")
		alice.subscribe("lobby")
		synctest.Wait()
		bob.subscribe("lobby")
		alice.received()
		bob.received()
		b.Server.Close()
		alice.expect("going_away 1000", "close 1001")
		bob.expect("going_away 1000", "close 1001")
		if _, status := b.dial(url.Values{"key": {"pk_live_a"}}); status != http.StatusServiceUnavailable {
			t.Errorf("connect after Close: HTTP %d", status)
		}
	})
}

func TestCloseDoesNotWaitForTheDead(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *bubble) {
		alice := b.join("alice")
		b.Blackhole("alice")
		start := time.Now()
		b.Server.Close()
		if took := time.Since(start); took != closeGrace {
			t.Errorf("Close took %v", took)
		}
		alice.expect("cut")
	})
}

func TestAClientThatDoesNotReadIsCutOff(t *testing.T) {
	inBubble(t, Options{Limits: Limits{Rate: -1}}, func(t *testing.T, b *bubble) {
		alice := b.join("alice")
		alice.subscribe("lobby")
		deaf, _, err := websocket.Dial(t.Context(), "ws://devserver/v1?token="+token("deaf"), &websocket.DialOptions{HTTPClient: b.http})
		if err != nil {
			t.Fatal(err)
		}
		defer deaf.CloseNow()
		if err := deaf.Write(t.Context(), websocket.MessageText, []byte(`{"type":"subscribe","channel":"lobby"}`)); err != nil {
			t.Fatal(err)
		}
		alice.expect("presence lobby", "presence lobby +deaf")
		for range queueLength { // behind the welcome, which is stuck in the socket, and the snapshot
			alice.send(`{"type":"send","to":"deaf","data":1}`)
		}
		alice.expect("presence lobby -deaf")
	})
}

func FuzzRequest(f *testing.F) {
	for _, seed := range []string{`{"type":"ping"}`, `{"type":"send","to":"b","data":{},"requestId":"1"}`, `{"type":1}`, `[`, `null`} {
		f.Add([]byte(seed))
	}
	s := New(Options{})
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &conn{out: make(chan outgoing, queueLength), subs: map[string]bool{}, bucket: newBucket(Limits{Rate: -1}), grant: grant{peer: "fuzz", permissions: allPermissions}}
		s.receive(c, websocket.MessageText, b)
		s.mu.Lock()
		s.detach(c, Drop{})
		s.mu.Unlock()
		if len(s.channels) > 0 {
			t.Errorf("%q left something behind", b)
		}
	})
}
