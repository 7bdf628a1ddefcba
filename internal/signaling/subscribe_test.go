package signaling

import (
	"errors"
	"testing"
	"time"
)

func TestSenderMetadataIsAskedForOnlyWhenWanted(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, func(o *Options) { o.IncludeSenderMetadata = true })
		p := connected(r, s)
		done := async(func() error { return r.Subscribe(t.Context(), "a") })
		f := p.recv("subscribe")
		if !f.IncludeSenderMetadata {
			t.Errorf("sent %s", f.raw)
		}
		p.ack(f)
		<-done
	})
}

// connectedAgain reads the drop, then brings the next connection up.
func connectedAgain(r *running, s *service) *peer {
	r.t.Helper()
	next[Disconnected](r)
	return connected(r, s)
}

func TestSubscriptionsAreReplayedOnReconnect(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := subscribed(r, s)
		for range 3 {
			p.cut()
			p = connectedAgain(r, s)
			f := p.recv("subscribe")
			if f.Channel != "lobby" {
				t.Errorf("replayed %s", f.raw)
			}
			p.ack(f)
			next[Subscribed](r)
		}
		done := async(func() error { return r.Unsubscribe(t.Context(), "lobby") })
		p.ack(p.recv("unsubscribe"))
		<-done
		p.cut()
		p = connectedAgain(r, s)
		time.Sleep(10 * time.Second)
		if len(p.in) != 0 {
			t.Error("replayed after unsubscribe")
		}
	})
}

func TestFailedReplayIsRetriedThreeTimes(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		subscribed(r, s).cut()
		p := connectedAgain(r, s)
		var last time.Time
		for i := range 4 {
			f := p.recv("subscribe")
			if i > 0 {
				between(t, "retry", f.at.Sub(last), 2*time.Second, 2*time.Second)
			}
			last = f.at
			p.fail(f, CodeBackendError)
		}
		ev := next[ReplayFailed](r)
		if re, ok := errors.AsType[*RequestError](ev.Err); !ok || ev.Channel != "lobby" || re.Code != CodeBackendError {
			t.Errorf("%+v", ev)
		}
		time.Sleep(15 * time.Second)
		if len(p.in) != 0 {
			t.Error("retried a fourth time")
		}
		p.cut() // a new connection has a new budget
		p = connectedAgain(r, s)
		p.ack(p.recv("subscribe"))
	})
}

func TestReplayWhoseAckIsLostIsRetried(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		subscribed(r, s).cut()
		p := connectedAgain(r, s)
		first := p.recv("subscribe")
		second := p.recv("subscribe")
		between(t, "retry", second.at.Sub(first.at), 17*time.Second, 17*time.Second)
		p.ack(second)
	})
}

func TestReplayRetriesEndWithTheirConnection(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		subscribed(r, s).cut()
		p := connectedAgain(r, s)
		p.fail(p.recv("subscribe"), CodeBackendError)
		time.Sleep(time.Second)
		p.cut()
		p = connectedAgain(r, s)
		p.ack(p.recv("subscribe"))
		time.Sleep(10 * time.Second)
		if len(p.in) != 0 {
			t.Errorf("%d more frames", len(p.in))
		}
	})
}

func TestSubscribeOfUnknownOutcomeIsTracked(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := connected(r, s)
		done := async(func() error { return r.Subscribe(t.Context(), "lobby") })
		p.recv("subscribe")
		p.cut()
		if err := <-done; !errors.Is(err, ErrDisconnected) {
			t.Errorf("error %v", err)
		}
		p = connectedAgain(r, s)
		p.ack(p.recv("subscribe"))
	})
}

func TestSubscribeThatWasRefusedOrNeverLeftIsNotTracked(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		if err := r.Subscribe(t.Context(), "early"); !errors.Is(err, ErrNotConnected) {
			t.Errorf("error %v", err)
		}
		p := connected(r, s)
		done := async(func() error { return r.Subscribe(t.Context(), "forbidden") })
		p.fail(p.recv("subscribe"), CodeChannelNotAuthorized)
		if re, ok := errors.AsType[*RequestError](<-done); !ok || re.Code != CodeChannelNotAuthorized {
			t.Errorf("error %v", re)
		}
		p.cut()
		p = connectedAgain(r, s)
		time.Sleep(10 * time.Second)
		if len(p.in) != 0 {
			t.Error("replayed")
		}
	})
}

func TestRefusedResubscribeKeepsTheLiveSubscription(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := subscribed(r, s)
		done := async(func() error { return r.Subscribe(t.Context(), "lobby") })
		p.fail(p.recv("subscribe"), CodeChannelLimitExceeded)
		<-done
		p.cut()
		p = connectedAgain(r, s)
		p.ack(p.recv("subscribe"))
	})
}

func TestFirstPresenceAfterASubscribeIsTheSnapshot(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		presence := func(p *peer, channel, joined, left string) bool {
			t.Helper()
			p.send(`{"type":"presence","channel":%q,"joined":[%s],"left":[%s]}`, channel, joined, left)
			return next[Presence](r).Snapshot
		}
		const alice, bob = `{"peerId":"alice","metadata":{"n":1}}`, `{"peerId":"bob"}`
		p := subscribed(r, s)
		for i, step := range []struct {
			channel, joined, left string
			want                  bool
		}{
			{"other", alice, "", false}, // not ours
			{"lobby", "", bob, false},   // underway before the subscribe
			{"lobby", alice, "", true},
			{"lobby", bob, "", false},
			{"lobby", "", bob, false},
		} {
			if got := presence(p, step.channel, step.joined, step.left); got != step.want {
				t.Errorf("step %d: snapshot %v", i, got)
			}
		}

		done := async(func() error { return r.Subscribe(t.Context(), "lobby") })
		f := p.recv("subscribe")
		if presence(p, "lobby", bob, "") { // the snapshot follows the ack
			t.Error("a delta that was underway was taken for the snapshot")
		}
		p.ack(f)
		next[Subscribed](r)
		if !presence(p, "lobby", alice, "") {
			t.Error("no snapshot after subscribing again")
		}
		<-done

		p.cut()
		p = connectedAgain(r, s)
		f = p.recv("subscribe")
		p.ack(f)
		next[Subscribed](r)
		if !presence(p, "lobby", "", "") { // an empty channel has a snapshot too
			t.Error("no snapshot after the reconnect")
		}
		if presence(p, "lobby", alice, "") {
			t.Error("a second snapshot after the reconnect")
		}

		p.cut()
		p = connectedAgain(r, s)
		f = p.recv("subscribe")
		if !presence(p, "lobby", alice, "") { // what else could come before the ack
			t.Error("no snapshot ahead of its ack")
		}
		p.ack(f)
		next[Subscribed](r)
		if presence(p, "lobby", bob, "") {
			t.Error("a second snapshot behind the ack")
		}
	})
}

func TestRefusedSubscribeBringsNoSnapshot(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		r := start(t, s, nil)
		p := subscribed(r, s)
		p.send(`{"type":"presence","channel":"lobby","joined":[],"left":[]}`)
		next[Presence](r)
		done := async(func() error { return r.Subscribe(t.Context(), "lobby") })
		p.fail(p.recv("subscribe"), CodeChannelLimitExceeded)
		<-done
		p.send(`{"type":"presence","channel":"lobby","joined":[{"peerId":"x"}],"left":[]}`)
		if next[Presence](r).Snapshot {
			t.Error("a delta after a refused subscribe was taken for the snapshot")
		}
	})
}
