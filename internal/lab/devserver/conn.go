package devserver

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"
)

// queueLength is how many frames may wait for a client that does not read before it is cut off.
const queueLength = 4096

// conn is one client's socket. serve reads it, writeLoop alone writes to it, in the order of post.
type conn struct {
	grant
	ws   *websocket.Conn
	wire *wire
	out  chan outgoing
	done chan struct{} // closed when the socket has nothing more to read

	// Guarded by Server.mu.
	bucket *rate.Limiter
	subs   map[string]bool // channel → whether messages carry the sender's metadata
	gone   bool            // no longer a peer: what it still sends is ignored
}

// outgoing is a frame, or a hang-up, in the queue of one socket.
type outgoing struct {
	frame  any
	hangUp *refusal
	seen   bool // by the hooks
}

// post queues one frame and never blocks.
func (c *conn) post(frame any) { c.enqueue(outgoing{frame: frame}) }

// hangUp closes the socket with a code, after everything queued before.
func (c *conn) hangUp(why refusal) { c.enqueue(outgoing{hangUp: &why}) }

func (c *conn) enqueue(o outgoing) {
	select {
	case c.out <- o:
	default:
		c.wire.reset()
	}
}

// readLoop hands every message to receive until the socket ends.
func (c *conn) readLoop(receive func(websocket.MessageType, []byte)) {
	for {
		kind, b, err := c.ws.Read(context.Background())
		if err != nil {
			if errors.Is(err, websocket.ErrMessageTooBig) {
				// The library has sent the close frame; Close reads what is left of the message, since closing on unread
				// data would reset the connection and the client might never see the code.
				_ = c.ws.Close(websocket.StatusMessageTooBig, "")
			}
			_ = c.ws.CloseNow()
			return
		}
		receive(kind, b)
	}
}

// writeLoop sends what is queued, as far as judge lets it, until the socket ends.
func (c *conn) writeLoop(judge func(*conn, any) Verdict) error {
	for {
		select {
		case <-c.done:
			return nil
		case o := <-c.out:
			if o.hangUp != nil {
				_ = c.ws.Close(websocket.StatusCode(o.hangUp.code), o.hangUp.reason) // that the client was gone first is no news
				return nil
			}
			if !o.seen {
				if verdict := judge(c, o.frame); verdict != Pass {
					verdict.postpone(c, o)
					continue
				}
			}
			b, ok := o.frame.([]byte)
			if !ok {
				var err error
				if b, err = json.Marshal(o.frame); err != nil {
					return err
				}
			}
			if err := c.ws.Write(context.Background(), websocket.MessageText, b); err != nil {
				return nil // the read loop sees the same end, and knows why
			}
		}
	}
}
