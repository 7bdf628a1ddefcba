package devserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testKeyID  = "sk_id_test"
	testSecret = "sk_secret_test"
)

// inBubble runs a test against a server on in-memory connections, with time that passes only when everyone waits.
func inBubble(t *testing.T, opts Options, test func(t *testing.T, b *bubble)) {
	synctest.Test(t, func(t *testing.T) {
		if opts.Secrets == nil {
			opts.Secrets = map[string]string{testKeyID: testSecret}
		}
		b := &bubble{t: t, Server: New(opts), conns: make(chan net.Conn)}
		web := &http.Server{Handler: b.Server}
		go web.Serve(b)
		b.http = &http.Client{Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				here, there := net.Pipe()
				b.conns <- there
				return here, nil
			},
		}}
		test(t, b)
		b.Server.Close()
		for _, c := range b.clients {
			c.ws.CloseNow()
		}
		web.Close()
	})
}

// bubble is the server, its own listener, and the clients that dialled it.
type bubble struct {
	*Server
	t       *testing.T
	http    *http.Client
	conns   chan net.Conn
	once    sync.Once
	clients []*client
}

func (b *bubble) Accept() (net.Conn, error) {
	if conn, ok := <-b.conns; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (b *bubble) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// Close shadows Server.Close for http.Server, which closes its listener.
func (b *bubble) Close() error {
	b.once.Do(func() { close(b.conns) })
	return nil
}

// client records every frame it is sent, one line each, and how its connection ended.
type client struct {
	t     *testing.T
	ws    *websocket.Conn
	mu    sync.Mutex
	lines []string
	seen  func(frame) // what it does with each frame, if anything
}

// frame is the union of all frames of the server.
type frame struct {
	Type, PeerID, RequestID, Code, Channel, From string
	Data, Metadata, FromMetadata                 json.RawMessage
	Joined, Left                                 []Member
	ExpiresAt                                    *int64
	ServerTime                                   int64
	MaxMessageSize                               int
	RetryAfterMs                                 int64
}

func (f frame) String() string {
	switch f.Type {
	case "welcome":
		return "welcome " + f.PeerID
	case "ack":
		return "ack " + f.RequestID
	case "error":
		return strings.TrimSpace("error " + f.Code + " " + f.RequestID)
	case "message":
		return strings.TrimSpace(fmt.Sprintf("message %s %s %s %s", f.Channel, f.From, f.Data, f.FromMetadata))
	case "direct":
		return strings.TrimSpace(fmt.Sprintf("direct %s %s %s", f.From, f.Data, f.FromMetadata))
	case "presence":
		var b strings.Builder
		b.WriteString("presence " + f.Channel)
		for _, m := range f.Joined {
			b.WriteString(" +" + m.PeerID + string(m.Metadata))
		}
		for _, m := range f.Left {
			b.WriteString(" -" + m.PeerID + string(m.Metadata))
		}
		return b.String()
	case "going_away":
		return fmt.Sprint("going_away ", f.RetryAfterMs)
	}
	return f.Type
}

// dial connects with a query and returns the client, or the HTTP status of a refusal.
func (b *bubble) dial(query url.Values) (*client, int) {
	b.t.Helper()
	ws, resp, err := websocket.Dial(b.t.Context(), "ws://devserver/v1?"+query.Encode(), &websocket.DialOptions{HTTPClient: b.http})
	if err != nil {
		if resp == nil {
			b.t.Fatalf("dial: %v", err)
		}
		return nil, resp.StatusCode
	}
	ws.SetReadLimit(1 << 20)
	c := &client{t: b.t, ws: ws}
	b.clients = append(b.clients, c)
	go c.listen()
	synctest.Wait()
	return c, resp.StatusCode
}

// join connects a peer by token and forgets its welcome.
func (b *bubble) join(peer string, claims ...jwt.MapClaims) *client {
	b.t.Helper()
	c, status := b.dial(url.Values{"token": {token(peer, claims...)}})
	if c == nil {
		b.t.Fatalf("connect %s: HTTP %d", peer, status)
	}
	c.expect("welcome " + peer)
	return c
}

func (c *client) listen() {
	for {
		_, b, err := c.ws.Read(context.Background())
		var line string
		var f frame
		switch {
		case err == nil:
			if err := json.Unmarshal(b, &f); err != nil {
				line = "garbage " + string(b)
			} else {
				line = f.String()
			}
		case websocket.CloseStatus(err) != -1:
			line = fmt.Sprint("close ", int(websocket.CloseStatus(err)))
		default:
			line = "cut"
		}
		c.mu.Lock()
		c.lines = append(c.lines, line)
		c.mu.Unlock()
		if c.seen != nil && err == nil {
			c.seen(f)
		}
		if err != nil {
			return
		}
	}
}

// send writes one message as it is.
func (c *client) send(format string, args ...any) {
	c.t.Helper()
	err := c.ws.Write(c.t.Context(), websocket.MessageText, fmt.Appendf(nil, format, args...))
	if err != nil && !errors.Is(err, net.ErrClosed) {
		c.t.Fatalf("send: %v", err)
	}
}

func (c *client) subscribe(channel string) {
	c.t.Helper()
	c.send(`{"type":"subscribe","channel":%q}`, channel)
}

// received takes what has come in since the last call.
func (c *client) received() []string {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	lines := c.lines
	c.lines = nil
	return lines
}

// expect compares what has come in since the last call; no lines means silence.
func (c *client) expect(lines ...string) {
	c.t.Helper()
	if got := c.received(); !slices.Equal(got, lines) {
		c.t.Errorf("received\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(lines, "\n\t"))
	}
}

// token signs a token for an hour; claims add to it, a nil value removes.
func token(peer string, claims ...jwt.MapClaims) string {
	return sign(jwt.SigningMethodHS256, testKeyID, []byte(testSecret), peer, claims...)
}

func sign(method jwt.SigningMethod, kid string, secret any, peer string, claims ...jwt.MapClaims) string {
	all := jwt.MapClaims{"sub": peer, "exp": time.Now().Add(time.Hour).Unix()}
	for _, c := range claims {
		maps.Copy(all, c)
	}
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	unsigned := jwt.NewWithClaims(method, all)
	unsigned.Header["kid"] = kid
	signed, err := unsigned.SignedString(secret)
	if err != nil {
		panic(err)
	}
	return signed
}
