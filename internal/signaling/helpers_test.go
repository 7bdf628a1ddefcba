package signaling

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// provider is a renewable credential.
type provider struct {
	asked atomic.Int32
	block bool                        // until its context ends
	token func(n int) (string, error) // n counts from 1; nil: "jwt"
}

func (p *provider) Authorize(ctx context.Context) (param, value string, err error) {
	n := int(p.asked.Add(1))
	if p.block {
		<-ctx.Done()
		return "", "", ctx.Err()
	}
	if p.token == nil {
		return "token", "jwt", nil
	}
	value, err = p.token(n)
	return "token", value, err
}
func (p *provider) Renewable() bool { return true }
func (p *provider) String() string  { return "test provider" }

// blackholed is a client whose connections swallow every write once the welcome
// has arrived, as a network does that lost the other side.
func blackholed(s *service) *http.Client {
	c := s.client()
	transport := c.Transport.(*http.Transport)
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &halfOpen{Conn: conn}, nil
	}
	return c
}

// halfOpen passes the handshake on, then nothing.
type halfOpen struct {
	net.Conn
	handshaken atomic.Bool
}

func (h *halfOpen) Write(b []byte) (int, error) {
	if h.handshaken.Swap(true) {
		return len(b), nil
	}
	return h.Conn.Write(b)
}

func (h *halfOpen) SetDeadline(time.Time) error { return nil }

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
