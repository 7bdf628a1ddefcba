package signaling

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
)

func TestEventsComeInTheOrderOfTheWire(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := s.accept()
		p.welcome("me")
		for i := range 100 {
			p.send(`{"type":"direct","from":"bob","data":%d}`, i)
			p.send(`{"type":"message","channel":"c","from":"bob","data":%d}`, i)
		}
		p.cut()
		synctest.Wait()
		next[Connected](r)
		for i := range 100 {
			if d := next[Direct](r); string(d.Data) != fmt.Sprint(i) {
				t.Fatalf("direct %s at %d", d.Data, i)
			}
			if m := next[Message](r); string(m.Data) != fmt.Sprint(i) {
				t.Fatalf("message %s at %d", m.Data, i)
			}
		}
		next[Disconnected](r)
	})
}

func TestAcksArriveWhileEventsAreUnread(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := connected(r, s)
		result := r.SendAsync("bob", 1)
		f := p.recv("send")
		for range maxQueuedEvents / 2 {
			p.send(`{"type":"direct","from":"bob","data":1}`)
		}
		p.ack(f)
		if err := <-result; err != nil {
			t.Errorf("error %v", err)
		}
	})
}

func TestReaderThatFallsBehindSlowsTheServiceDown(t *testing.T) {
	for name, frame := range map[string]string{
		"by count": `{"type":"direct","from":"bob","data":1}`,
		"by size":  `{"type":"direct","from":"bob","data":"` + strings.Repeat("x", 1<<19) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *service) {
				r := start(t, s, func(o *Options) { o.InactivityTimeout = -1 })
				p := connected(r, s)
				const n = maxQueuedEvents + 100
				sent := 0
				done := make(chan struct{})
				go func() {
					defer close(done)
					for ; sent < n && p.conn.Write(t.Context(), websocket.MessageText, []byte(frame)) == nil; sent++ {
					}
				}()
				synctest.Wait()
				if sent == n || sent*len(frame) > maxQueuedBytes+2*len(frame) {
					t.Errorf("%d frames were taken in", sent)
				}
				for range 5 {
					next[Direct](r)
				}
				r.stop() // while the socket is not read
				<-r.done
				p.cut()
				<-done
			})
		})
	}
}

func TestReaderThatCatchesUpMissesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := connected(r, s)
		const n = maxQueuedEvents + 500
		go func() {
			for i := range n {
				p.send(`{"type":"direct","from":"bob","data":%d}`, i)
			}
		}()
		synctest.Wait() // the queue is full
		for i := range n {
			if d := next[Direct](r); string(d.Data) != fmt.Sprint(i) {
				t.Fatalf("direct %s at %d", d.Data, i)
			}
		}
	})
}

func TestFramesBeforeTheWelcomeAreDropped(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := s.accept()
		p.send(`{"type":"direct","from":"bob","data":1}`)
		p.send(`{"type":"presence","channel":"lobby","joined":[],"left":[]}`)
		p.send(`{"type":"error","code":"invalid_token"}`) // why there will be none
		next[*ServerError](r)
		p.welcome("me")
		next[Connected](r)
		silent(r)
	})
}

// The rest of the tests run in fake time over pipes; this one on real sockets.
func TestClientWorksOverTCP(t *testing.T) {
	s := &service{t: t, peers: make(chan *peer, 1), header: http.Header{}}
	server := httptest.NewServer(s)
	defer server.Close()
	r := start(t, s, func(o *Options) {
		o.URL = strings.Replace(server.URL, "http", "ws", 1)
		o.HTTPClient = nil
		o.MinBackoff = time.Millisecond
	})
	p := subscribed(r, s)
	p.send(`{"type":"presence","channel":"lobby","joined":[{"peerId":"bob"}],"left":[]}`)
	if ev := next[Presence](r); !ev.Snapshot || len(ev.Joined) != 1 {
		t.Errorf("%+v", ev)
	}
	p.cut()
	next[Disconnected](r)
	p = connected(r, s)
	p.ack(p.recv("subscribe"))
	result := r.SendAsync("bob", strings.Repeat("x", 60000))
	p.ack(p.recv("send"))
	if err := <-result; err != nil {
		t.Error(err)
	}
	r.stop()
	<-r.done
	if got := p.closedBy(); r.err != nil || got != CloseNormal {
		t.Errorf("Run returned %v, closed with %v", r.err, got)
	}
}
