package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener whose connections are in memory, so that time is the test's.
type pipes struct {
	conns chan net.Conn
	close sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	if conn, ok := <-p.conns; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (p *pipes) Close() error {
	p.close.Do(func() { close(p.conns) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// connect connects to a server of h that lives until the end of the bubble.
func connect(t *testing.T, h http.Handler) (net.Conn, *http.Server) {
	l := &pipes{conns: make(chan net.Conn)}
	server := newHTTPServer(h)
	go server.Serve(l)
	here, there := net.Pipe()
	l.conns <- there
	t.Cleanup(func() {
		here.Close()
		server.Close()
	})
	return here, server
}

func TestAClientCanHoldAConnectionOnlyForSoLong(t *testing.T) {
	large := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.Copy(w, io.LimitReader(neverEnding{}, 1<<30))
	})
	patient := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	for name, tt := range map[string]struct {
		handler http.Handler
		sends   string
		reads   bool
		limit   time.Duration
	}{
		"a header that does not end":     {patient, "GET / HTTP/1.1\r\nHost: x\r\nX-", true, 5 * time.Second},
		"no request at all":              {patient, "", true, 5 * time.Second},
		"a body that does not come":      {patient, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n1", true, 10 * time.Second},
		"an answer that nobody reads":    {large, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", false, 30 * time.Second},
		"a connection that is done with": {patient, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", true, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn, _ := connect(t, tt.handler)
				began := time.Now()
				if tt.sends != "" {
					_, err := io.WriteString(conn, tt.sends)
					must(t, err)
				}
				if tt.reads {
					_, _ = io.Copy(io.Discard, conn) // until the server hangs up
				} else {
					time.Sleep(tt.limit + time.Second)
					began = began.Add(time.Second)
					if _, err := io.Copy(io.Discard, conn); err != nil {
						t.Error(err)
					}
				}
				if took := time.Since(began); took > tt.limit {
					t.Errorf("held for %v, want at most %v", took, tt.limit)
				}
			})
		})
	}
}

type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) { return len(p), nil }

func TestALargeHeaderIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, _ := connect(t, http.NotFoundHandler())
		go func() { // the server may hang up in the middle of it
			_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 64<<10)+"\r\n\r\n")
		}()
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		must(t, err)
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("got %s", answer.Status)
		}
		_, _ = io.Copy(io.Discard, conn) // until the server hangs up
	})
}

func TestAStopDoesNotWaitForAClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, server := connect(t, http.NotFoundHandler())
		_, err := io.WriteString(conn, "GET / HT")
		must(t, err)
		began := time.Now()
		stopHTTP(context.Background(), server)
		if took := time.Since(began); took > httpPatience {
			t.Errorf("took %v", took)
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("still connected")
		}
	})
}
