package attack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	// patience is how long the recorder may take to be there, or to answer.
	patience = 10 * time.Second
	// saying is the pause between two frames: the service closes the
	// connection of a member that sends more than 100 a second.
	saying = 11 * time.Millisecond
)

// speaker is a member that says what it likes.
type speaker struct {
	t   Target
	ws  *websocket.Conn
	bot string // the recorder's peer id

	mu   sync.Mutex
	hear func(data json.RawMessage) // what the recorder says to it
	gone chan struct{}              // closed when nothing more is heard
}

type serviceFrame struct {
	Type   string          `json:"type"`
	From   string          `json:"from"`
	Data   json.RawMessage `json:"data"`
	Joined []struct {
		PeerID string `json:"peerId"`
	} `json:"joined"`
}

// speak joins the channel under an id of our choice, and returns once the
// recorder is there. Close it.
func (t Target) speak(ctx context.Context, peer string) (*speaker, error) {
	s, err := t.dial(ctx, peer)
	if err != nil {
		return nil, err
	}
	found := make(chan string, 1)
	go s.listen(found)
	select {
	case s.bot = <-found:
		return s, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-s.gone:
		err = errors.New("the service closed the connection")
	case <-time.After(patience):
		err = fmt.Errorf("no member of %q begins with %q", t.Channel, t.Bot)
	}
	s.close()
	return nil, err
}

// dial joins the channel without waiting for anyone.
func (t Target) dial(ctx context.Context, peer string) (*speaker, error) {
	credential, err := t.token(peer)
	if err != nil {
		return nil, err
	}
	ws, _, err := websocket.Dial(ctx, t.URL+"/v1?"+credential, nil)
	if err != nil {
		return nil, fmt.Errorf("connect to the service: %w", err)
	}
	ws.SetReadLimit(4 << 20)
	s := &speaker{t: t, ws: ws, gone: make(chan struct{})}
	err = s.frame(ctx, map[string]any{"type": "subscribe", "channel": t.Channel, "requestId": "1"})
	return s, err
}

// listen reads frames until the connection ends.
func (s *speaker) listen(found chan<- string) {
	defer close(s.gone)
	for {
		_, data, err := s.ws.Read(context.Background())
		if err != nil {
			return
		}
		var f serviceFrame
		if json.Unmarshal(data, &f) != nil {
			continue
		}
		for _, m := range f.Joined {
			if strings.HasPrefix(m.PeerID, s.t.Bot) {
				select {
				case found <- m.PeerID:
				default:
				}
			}
		}
		s.mu.Lock()
		hear := s.hear
		s.mu.Unlock()
		if f.Type == "direct" && strings.HasPrefix(f.From, s.t.Bot) && hear != nil {
			hear(f.Data)
		}
	}
}

// onDirect has f hear what the recorder says to the member.
func (s *speaker) onDirect(f func(json.RawMessage)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hear = f
}

// frame sends one frame to the service.
func (s *speaker) frame(ctx context.Context, frame any) error {
	data, ok := frame.([]byte)
	if !ok {
		var err error
		if data, err = json.Marshal(frame); err != nil {
			return fmt.Errorf("encode a frame: %w", err)
		}
	}
	if err := s.ws.Write(ctx, websocket.MessageText, data); err != nil {
		return fmt.Errorf("send to the service: %w", err)
	}
	s.t.sent.Add(1)
	return nil
}

// say sends something to the recorder: JSON as it is, or anything else.
func (s *speaker) say(ctx context.Context, data any) error {
	if text, ok := data.([]byte); ok {
		data = json.RawMessage(text)
	}
	return s.frame(ctx, map[string]any{"type": "send", "to": s.bot, "data": data})
}

// chatter says something to the recorder as often as the service lets it.
func (t Target) chatter(ctx context.Context, what func(n int) any) error {
	s, err := t.speak(ctx, t.id())
	if err != nil {
		return err
	}
	defer s.close()
	return t.every(ctx, saying, func(n int) error { return s.say(ctx, what(n)) })
}

// close leaves without a word.
func (s *speaker) close() { _ = s.ws.CloseNow() }

func description(kind, sdp string) any {
	return map[string]any{
		"type":        "rtc-description",
		"description": map[string]any{"type": kind, "sdp": sdp},
	}
}

func candidate(line string) any {
	return map[string]any{
		"type":      "rtc-ice",
		"candidate": map[string]any{"candidate": line, "sdpMid": "0", "sdpMLineIndex": 0},
	}
}
