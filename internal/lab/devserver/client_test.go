package devserver

import (
	"context"
	"testing"
	"time"

	"recorder/internal/signaling"
)

// The client of this module, over a reset that nobody else is told of.
func TestTheRecordersClientSurvivesASilentReset(t *testing.T) {
	inBubble(t, Options{ICEServers: []ICEServer{{URLs: []string{"stun:stun.example"}}}}, func(t *testing.T, b *bubble) {
		credential, err := signaling.NewSecretKey(signaling.SecretKeyOptions{
			ID: testKeyID, Secret: testSecret, PeerID: "bot", Channels: []string{"lobby"}, PeerMetadata: map[string]any{"role": "recorder"},
		})
		if err != nil {
			t.Fatal(err)
		}
		client, err := signaling.NewClient(signaling.Options{URL: "ws://localhost", Credential: credential, HTTPClient: b.http})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- client.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-ran; err != nil {
				t.Errorf("Run: %v", err)
			}
		}()

		alice := b.join("alice")
		alice.subscribe("lobby")
		alice.expect("presence lobby")
		if e := next[signaling.Connected](t, client); e.PeerID != "bot" || len(e.ICEServers) != 1 || e.Resumed {
			t.Errorf("connected: %+v", e)
		}
		if err := client.Subscribe(ctx, "lobby"); err != nil {
			t.Fatal(err)
		}
		wantSnapshot := func() {
			t.Helper()
			next[signaling.Subscribed](t, client)
			if e := next[signaling.Presence](t, client); !e.Snapshot || len(e.Joined) != 1 || e.Joined[0].PeerID != "alice" {
				t.Errorf("presence: %+v", e)
			}
		}
		wantSnapshot()
		if err := client.Send(ctx, "alice", 1); err != nil {
			t.Errorf("send: %v", err)
		}
		alice.expect(`presence lobby +bot{"role":"recorder"}`, `direct bot 1 {"role":"recorder"}`)

		dropped := time.Now()
		b.Drop("bot", Drop{Presence: Silent})
		next[signaling.Disconnected](t, client)
		if e := next[signaling.Connected](t, client); !e.Resumed || time.Since(dropped) > time.Second {
			t.Errorf("connected again after %v: %+v", time.Since(dropped), e)
		}
		wantSnapshot()
		alice.expect()
	})
}

// next takes the next event, which has to be an E.
func next[E signaling.Event](t *testing.T, client *signaling.Client) E {
	t.Helper()
	select {
	case event := <-client.Events():
		e, ok := event.(E)
		if !ok {
			t.Fatalf("event %T, want %T", event, e)
		}
		return e
	case <-time.After(time.Minute):
		t.Fatal("no event")
		panic("unreachable")
	}
}
