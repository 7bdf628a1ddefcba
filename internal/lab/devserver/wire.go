package devserver

import (
	"bufio"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// wire is the TCP connection under a WebSocket, with the two faults only TCP can have: a reset, and the half-open socket
// whose other end hears nothing and is not heard, while nobody has closed it.
type wire struct {
	net.Conn
	dark   atomic.Bool
	once   sync.Once
	closed chan struct{}
}

func (w *wire) Read(b []byte) (int, error) {
	for {
		n, err := w.Conn.Read(b)
		if !w.dark.Load() {
			return n, err
		}
		if err != nil { // nor does a half-open end learn that the other has gone
			<-w.closed
			return 0, net.ErrClosed
		}
	}
}

func (w *wire) Write(b []byte) (int, error) {
	if w.dark.Load() {
		return len(b), nil
	}
	return w.Conn.Write(b)
}

func (w *wire) Close() error {
	w.once.Do(func() { close(w.closed) })
	return w.Conn.Close()
}

// reset ends the connection with an RST where there is TCP to send one.
func (w *wire) reset() {
	if tcp, ok := w.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a socket that is closed already has nothing left to reset
	}
	_ = w.Close()
}

// wireTap hands the WebSocket library a wire in place of the connection it hijacks.
type wireTap struct {
	http.ResponseWriter
	wire *wire
}

func (t *wireTap) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(t.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	t.wire = &wire{Conn: conn, closed: make(chan struct{})}
	return t.wire, bufio.NewReadWriter(buffered.Reader, bufio.NewWriter(t.wire)), nil
}
