package attack

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"
)

var memberAttacks = []Attack{
	{
		Name:    "joins",
		About:   "5 members a second, each of which sends some sound and pictures and is gone",
		Promise: "descriptors and series do not grow with the members that have gone",
		Lasts:   7 * time.Second,
		run: func(ctx context.Context, t Target) error {
			var all sync.WaitGroup
			defer all.Wait()
			return t.every(ctx, 200*time.Millisecond, func(int) error {
				all.Go(
					func() { _ = t.visit(ctx, t.id(), t.id(), 300*time.Millisecond) },
				) // one that does not come in harms nobody
				return nil
			})
		},
	},
	{
		Name:    "presence",
		About:   "members that come with 3 KB of metadata and go, without a word, as fast as the service takes them",
		Promise: "the manifest stays under 256 KB",
		run: func(ctx context.Context, t Target) error {
			t.begin()
			return crowd(ctx, 4, func(int) error {
				s, err := t.dial(ctx, t.id())
				if err != nil {
					return err
				}
				defer s.close()
				return s.frame(ctx, map[string]any{"type": "ping"})
			})
		},
	},
	{
		Name:    "stream-theft",
		About:   "announces the stream id of another member, who is silent now and then, sends, and leaves",
		Promise: "the other's stream is recorded to its end",
		Lasts:   7 * time.Second,
		run: func(ctx context.Context, t Target) error {
			return t.every(ctx, 100*time.Millisecond, func(int) error {
				return t.visit(ctx, t.id(), t.Stream, 400*time.Millisecond)
			})
		},
	},
	{
		Name:    "waiting",
		About:   "a member takes all places of max_streams, and another waits for one while it sends",
		Promise: "who waited is recorded from when it has a place, and nothing is booked as lost",
		Lasts:   6 * time.Second,
		run:     waiting,
	},
	{
		Name:    "strangers",
		About:   "20 connections that are not in the channel send the recorder 60 KB as often as they may",
		Promise: "64 signals and 256 KB of each wait for 5 s, and no more",
		run: func(ctx context.Context, t Target) error {
			s, err := t.speak(ctx, t.id())
			if err != nil {
				return err
			}
			defer s.close()
			elsewhere := t
			elsewhere.Channel = t.Channel + "-elsewhere"
			payload := strings.Repeat("x", 60_000)
			return crowd(ctx, 20, func(int) error {
				stranger, err := elsewhere.dial(ctx, t.id())
				if err != nil {
					return err
				}
				defer stranger.close()
				stranger.bot = s.bot
				return t.every(
					ctx,
					20*saying,
					func(int) error { return stranger.say(ctx, payload) },
				)
			})
		},
	},
	{
		Name:    "data-channels",
		About:   "opens data channels without end, and fills them with messages",
		Promise: "64 are open, and of 64 more the connection ends",
		run: func(ctx context.Context, t Target) error {
			return again(ctx, func() error {
				p, err := t.publish(ctx, t.id())
				if err != nil {
					return err
				}
				defer p.close()
				var opened []*webrtc.DataChannel
				return t.every(ctx, 2*time.Millisecond, func(n int) error {
					if n%4 == 0 {
						ch, err := p.pc.CreateDataChannel(hostileNames[n%len(hostileNames)], nil)
						if err != nil {
							return err
						}
						opened = append(opened, ch)
					}
					for _, ch := range opened[max(0, len(opened)-8):] {
						if ch.ReadyState() == webrtc.DataChannelStateOpen &&
							ch.Send(noise(16_000)) == nil {
							t.sent.Add(1)
						}
					}
					return nil
				})
			})
		},
	},
}

// visit sends sound and pictures for a while, as a member does.
func (t Target) visit(ctx context.Context, peer, stream string, for_ time.Duration) error {
	sound, picture := NewRaw(
		webrtc.MimeTypeOpus,
		stream+"-audio",
	), NewRaw(
		webrtc.MimeTypeVP8,
		stream+"-video",
	)
	sound.Stream, picture.Stream = stream, stream
	p, err := t.publish(ctx, peer, sound, picture)
	if err != nil {
		return err
	}
	defer p.close()
	ctx, cancel := context.WithTimeout(ctx, for_)
	defer cancel()
	return t.every(ctx, 20*time.Millisecond, func(n int) error {
		t.send(sound, n, silence)
		t.send(picture, n, keyFrame)
		return nil
	})
}

// placesTaken is how long those of max_streams are.
const placesTaken = 3 * time.Second

// waiter is the peer id of who waits.
const waiter = "waiting"

// waiting has members take the places, and leave after a while.
func waiting(ctx context.Context, t Target) error {
	first, cancel := context.WithTimeout(ctx, placesTaken)
	defer cancel()
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { _ = t.visit(first, t.id(), "first-0", time.Hour) })
	all.Go(func() { _ = t.visit(first, t.id(), "first-1", time.Hour) })
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(time.Second):
	}
	return t.visit(ctx, waiter, "waited", time.Hour)
}

// crowd has n of the same go on until ctx ends. What fails is tried again.
func crowd(ctx context.Context, n int, do func(i int) error) error {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { _ = again(ctx, func() error { return do(i) }) })
	}
	all.Wait()
	return nil
}

// again does something until ctx ends. It fails if that fails ten times in a
// row.
func again(ctx context.Context, do func() error) (err error) {
	for failed := 0; failed < 10 && ctx.Err() == nil; {
		start := time.Now()
		if err = do(); err == nil || time.Since(start) > time.Second {
			failed = 0
			continue
		}
		failed++
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("10 times in a row: %w", err)
}
