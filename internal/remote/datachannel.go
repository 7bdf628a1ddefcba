package remote

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/pion/webrtc/v4"

	"recorder/internal/event"
)

const (
	bufferedHigh     = 1 << 20 // bytes; above it Send waits
	bufferedLow      = bufferedHigh / 2
	maxQueuedSends   = 256
	maxHeldMessages  = 16 // received and not yet handled; then SCTP's window closes
	maxChannels      = 64 // of one connection, both directions
	maxChannelLabel  = 65535
	maxSCTPMessage   = 256 << 10
	maxSCTPReceiving = 1 << 20
)

// ErrOverflow: more sends wait on a data channel than it queues.
type ErrOverflow struct{ Queued, Cap int }

func (e ErrOverflow) Error() string {
	return fmt.Sprintf("data channel overflow: %d of %d sends queued", e.Queued, e.Cap)
}

// Events of a data channel.
type (
	// ChannelOpened: sending is possible. Sends made earlier were queued.
	ChannelOpened struct{}
	// ChannelClosed: the channel, or the connection under it, is gone.
	ChannelClosed struct{}
	// ChannelError: the channel failed. ChannelClosed follows.
	ChannelError struct{ Err error }
	// ChannelMessage is one message; Data belongs to the receiver.
	ChannelMessage struct {
		Data []byte
		Text bool
	}
)

func (ChannelOpened) event()  {}
func (ChannelClosed) event()  {}
func (ChannelError) event()   {}
func (ChannelMessage) event() {}

// DataChannel is a data channel with backpressure. Receive its events with
// event.Subscribe; a consumer that falls behind slows the sender down. It dies
// with the connection it was made on and has to be opened again after a
// reconnect. All methods may be called from any goroutine.
type DataChannel struct {
	label string
	init  *webrtc.DataChannelInit
	hub   *event.Hub

	mu      sync.Mutex
	channel *webrtc.DataChannel // nil until the connection exists
	open    bool
	full    bool // since more than bufferedHigh was buffered
	closed  bool
	queue   []*queuedSend // FIFO
}

// queuedSend is a Send that waits for its turn.
type queuedSend struct {
	data []byte
	text bool
	done chan error // buffered, 1
}

func newDataChannel(label string, init *webrtc.DataChannelInit, h *event.Hub) *DataChannel {
	return &DataChannel{label: label, init: init, hub: h}
}

func (d *DataChannel) Events() *event.Hub { return d.hub }

// Label returns the name the opener gave the channel.
func (d *DataChannel) Label() string { return d.label }

// Raw returns the underlying channel, nil before there is one. Its callbacks
// belong to this wrapper.
func (d *DataChannel) Raw() *webrtc.DataChannel {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.channel
}

// BufferedAmount is the number of bytes handed to the transport and not yet
// sent, without the queued sends.
func (d *DataChannel) BufferedAmount() uint64 {
	if raw := d.Raw(); raw != nil {
		return raw.BufferedAmount()
	}
	return 0
}

// Send sends a binary message. It waits until the channel is open and, while
// more than 1 MiB is buffered, until half of that is left; waiting sends
// leave in the order they were made. It returns [ErrOverflow] when 256 are
// waiting already, [ErrClosed] once the channel is closed, and ctx's error
// when ctx ends first, in which case the message was not sent. data must not
// change before Send returns.
func (d *DataChannel) Send(ctx context.Context, data []byte) error {
	return d.send(ctx, &queuedSend{data: data, done: make(chan error, 1)})
}

// SendText is Send for a text message.
func (d *DataChannel) SendText(ctx context.Context, text string) error {
	return d.send(ctx, &queuedSend{data: []byte(text), text: true, done: make(chan error, 1)})
}

func (d *DataChannel) send(ctx context.Context, s *queuedSend) error {
	if err := d.enqueue(s); err != nil {
		return fmt.Errorf("send on data channel: %w", err)
	}
	select {
	case err := <-s.done:
		return err
	case <-ctx.Done():
		d.mu.Lock()
		d.queue = slices.DeleteFunc(d.queue, func(other *queuedSend) bool { return other == s })
		d.mu.Unlock()
		select {
		case err := <-s.done: // it left while we gave up
			return err
		default:
			return ctx.Err()
		}
	}
}

func (d *DataChannel) enqueue(s *queuedSend) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return ErrClosed
	}
	if len(d.queue) >= maxQueuedSends {
		return ErrOverflow{Queued: len(d.queue), Cap: maxQueuedSends}
	}
	d.queue = append(d.queue, s)
	d.flush()
	return nil
}

// flush hands queued sends to the transport while it has room. The caller
// holds d.mu.
func (d *DataChannel) flush() {
	for d.open && len(d.queue) > 0 && d.hasRoom() {
		s := d.queue[0]
		d.queue = d.queue[1:]
		var err error
		if s.text {
			err = d.channel.SendText(string(s.data))
		} else {
			err = d.channel.Send(s.data)
		}
		if err != nil {
			err = fmt.Errorf("send on data channel: %w", err)
		}
		s.done <- err
	}
}

func (d *DataChannel) hasRoom() bool {
	mark := uint64(bufferedHigh)
	if d.full {
		mark = bufferedLow
	}
	d.full = d.channel.BufferedAmount() > mark
	return !d.full
}

// Close closes the channel. Sends that wait return [ErrClosed]. It may be
// called more than once.
func (d *DataChannel) Close() error {
	d.shut()
	if raw := d.Raw(); raw != nil {
		return raw.Close()
	}
	return nil
}

// shut is the end of the channel, whoever caused it.
func (d *DataChannel) shut() {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return
	}
	d.closed, d.open = true, false
	for _, s := range d.queue {
		s.done <- fmt.Errorf("send on data channel: %w", ErrClosed)
	}
	d.queue = nil
	d.mu.Unlock()
	d.hub.Emit(ChannelClosed{}, nil)
	d.hub.Close()
}

// unopened reports whether the channel still waits for its first connection.
func (d *DataChannel) unopened() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.closed && !d.open
}

// over reports whether the channel is closed.
func (d *DataChannel) over() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closed
}

// bind puts raw under the wrapper.
func (d *DataChannel) bind(raw *webrtc.DataChannel) {
	d.mu.Lock()
	d.channel = raw
	closed := d.closed
	d.mu.Unlock()
	if closed {
		_ = raw.Close()
		return
	}
	raw.SetBufferedAmountLowThreshold(bufferedLow)
	raw.OnBufferedAmountLow(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.flush()
	})
	raw.OnMessage(func(m webrtc.DataChannelMessage) {
		d.hub.EmitWait(ChannelMessage{Data: m.Data, Text: m.IsString}, maxHeldMessages)
	})
	raw.OnError(func(err error) {
		if d.Raw() == raw {
			d.hub.Emit(ChannelError{Err: scrub(err)}, nil)
		}
	})
	raw.OnClose(func() {
		if d.Raw() == raw {
			d.shut()
		}
	})
	raw.OnOpen(func() {
		d.mu.Lock()
		opened := !d.closed && d.channel == raw
		d.open = opened
		d.mu.Unlock()
		if !opened {
			return
		}
		d.hub.Emit(ChannelOpened{}, nil)
		d.mu.Lock()
		defer d.mu.Unlock()
		d.flush()
	})
}

// unbind takes the channel off a connection that is given up before it was
// established, so that it can be opened on the next.
func (d *DataChannel) unbind() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.channel = nil
}

// fail ends a channel that could not be created.
func (d *DataChannel) fail(err error) {
	d.hub.Emit(ChannelError{Err: scrub(err)}, nil)
	d.shut()
}

var errChannelLimit = errors.New("too many data channels")
