package signaling

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A subscription the service does not take back after a reconnect is tried again.
const (
	replayRetries    = 3
	replayRetryDelay = 2 * time.Second
)

// Subscribe joins a channel and waits for the ack. Its first [Presence] is the
// snapshot. From then on the channel is tracked: it is subscribed to again on
// every reconnect, until Unsubscribe. It is tracked, too, if the outcome is unknown
// (ErrDisconnected, an ack time-out, ctx ended after the request had left), and not
// if the service refused or the request never left. Subscribing again is harmless
// and brings another snapshot.
func (c *Client) Subscribe(ctx context.Context, channel string) error {
	if err := ValidateChannel(channel); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	// Before the request leaves, so that a drop in between does not lose it.
	before := c.track(channel)
	r := newRequest(c.subscribeFrame(channel))
	left, err := c.do(ctx, r)
	_, refused := errors.AsType[*RequestError](err)
	if err != nil && !before && (refused || !left) {
		c.untrack(channel)
	}
	return err
}

// Unsubscribe leaves a channel and waits for the ack. Whatever comes of it, the
// channel is no longer tracked.
func (c *Client) Unsubscribe(ctx context.Context, channel string) error {
	if err := ValidateChannel(channel); err != nil {
		return fmt.Errorf("unsubscribe: %w", err)
	}
	c.untrack(channel)
	_, err := c.do(ctx, newRequest(ClientFrame{Type: "unsubscribe", Channel: channel}))
	return err
}

// Publish sends data, as JSON, to everyone subscribed to channel and waits for
// the ack.
func (c *Client) Publish(ctx context.Context, channel string, data any) error {
	if err := ValidateChannel(channel); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	r := newRequest(ClientFrame{Type: "publish", Channel: channel})
	if err := c.load(r, data); err != nil {
		return err
	}
	_, err := c.do(ctx, r)
	return err
}

// Send sends data, as JSON, to one peer and waits for the ack.
func (c *Client) Send(ctx context.Context, to string, data any) error {
	if err := ValidatePeerID(to); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	r := newRequest(ClientFrame{Type: "send", To: to})
	if err := c.load(r, data); err != nil {
		return err
	}
	_, err := c.do(ctx, r)
	return err
}

// SendAsync is Send without the wait: it never blocks, and the frames to one
// peer leave in call order. While more waits than the service takes, those for
// whoever was sent the least lately go first. data is not used after it returns.
// The outcome comes on the returned channel, which need not be read. (A request
// the service failed with a retriable code is repeated, and then follows later
// ones.)
func (c *Client) SendAsync(to string, data any) <-chan error {
	r := newRequest(ClientFrame{Type: "send", To: to})
	if err := ValidatePeerID(to); err != nil {
		r.done <- fmt.Errorf("send: %w", err)
		return r.done
	}
	if err := c.load(r, data); err != nil {
		r.done <- err
		return r.done
	}
	if l := c.link(); l != nil {
		l.out.add(r)
	} else {
		r.done <- r.wrap(ErrNotConnected)
	}
	return r.done
}

// load puts the payload into r, unless the service would close the connection
// for its size.
func (c *Client) load(r *request, data any) error {
	b, err := encode(data)
	if err != nil {
		return r.wrap(err)
	}
	if limit := c.MaxMessageSize(); len(b) > limit {
		return r.wrap(&OversizedError{Size: len(b), Cap: limit})
	}
	r.frame.Data = b
	return nil
}

// do sends r and waits for its outcome. It reports whether r has left.
func (c *Client) do(ctx context.Context, r *request) (left bool, err error) {
	l := c.link()
	if l == nil {
		return false, r.wrap(ErrNotConnected)
	}
	return l.do(ctx, r)
}

func (c *Client) link() *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current
}

func (c *Client) subscribeFrame(channel string) ClientFrame {
	return ClientFrame{Type: "subscribe", Channel: channel, IncludeSenderMetadata: c.opts.IncludeSenderMetadata}
}

// track reports whether channel was tracked before.
func (c *Client) track(channel string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, before := c.subscriptions[channel]
	c.subscriptions[channel] = struct{}{}
	return before
}

func (c *Client) untrack(channel string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.subscriptions, channel)
}

// Tracked reports whether a channel is subscribed to again on every reconnect.
func (c *Client) Tracked(channel string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.subscriptions[channel]
	return ok
}

// replay subscribes to a tracked channel again on a fresh connection.
func (c *Client) replay(l *link, channel string) {
	for attempt := 0; c.Tracked(channel); attempt++ {
		r := newRequest(c.subscribeFrame(channel))
		r.retries = 0 // the loop retries
		_, err := l.do(l.ctx, r)
		if err == nil || l.ctx.Err() != nil || errors.Is(err, ErrDisconnected) || errors.Is(err, ErrNotConnected) {
			return // the next connection starts afresh
		}
		if attempt == replayRetries {
			c.log.Error("could not subscribe again", "channel", channel, "attempts", attempt+1, "err", err)
			c.tell(ReplayFailed{Channel: channel, Err: err})
			return
		}
		c.log.Warn("could not subscribe again, retrying", "channel", channel, "retry_in", replayRetryDelay, "err", err)
		select {
		case <-time.After(replayRetryDelay):
		case <-l.ctx.Done():
			return
		}
	}
}
