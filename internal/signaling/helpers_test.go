package signaling

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
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

// blackholed is a client whose connections swallow every write after the
// handshake, as a network does that lost the other side.
func blackholed(s *service) *http.Client { return deaf(s, nil) }

// unwritable is a client whose writes fail after the handshake, while what the
// service sends still arrives.
func unwritable(s *service) *http.Client { return deaf(s, errors.New("broken pipe")) }

func deaf(s *service, err error) *http.Client {
	c := s.client()
	transport := c.Transport.(*http.Transport)
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, dialErr := dial(ctx, network, addr)
		if dialErr != nil {
			return nil, dialErr
		}
		return &halfOpen{Conn: conn, err: err}, nil
	}
	return c
}

// halfOpen passes the handshake on, then nothing.
type halfOpen struct {
	net.Conn
	err        error
	handshaken atomic.Bool
}

func (h *halfOpen) Write(b []byte) (int, error) {
	if h.handshaken.Swap(true) {
		if h.err != nil {
			return 0, h.err
		}
		return len(b), nil
	}
	return h.Conn.Write(b)
}

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
