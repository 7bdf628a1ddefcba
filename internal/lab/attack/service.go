package attack

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"recorder/internal/lab/devserver"
)

var serviceAttacks = []Attack{
	byService(
		"service-errors",
		"190 error frames a second",
		"the log stays small, and says how much it left out",
		16*time.Millisecond,
		func(t Target, bot string, n int) {
			for i := range 3 {
				t.inject(
					bot,
					&devserver.Error{
						Code:      fmt.Sprintf("code-%d\x1b[2J", n),
						RequestID: fmt.Sprint(i * n),
						Message:   strings.Repeat("\u202e", 500),
					},
				)
			}
		},
	),
	byService(
		"service-garbage",
		"frames that are no JSON, of no type, and of wrong fields",
		"they are dropped and counted",
		2*time.Millisecond,
		func(t Target, bot string, n int) {
			frames := []string{
				"",
				"null",
				"[]",
				"{",
				`{"type":7}`,
				`{"type":"presence"}`,
				`{"type":"nonsense"}`,
				`{"type":"welcome"}`,
				"\xff\x00",
				`{"type":"ack","requestId":7}`,
				`{"type":"direct","from":"` + bot + `","data":{}}`,
				`{"type":"pong"}`,
				`{"type":"direct","from":"","data":null}`,
				`{"type":"presence","channel":"` + t.Channel + `","joined":"x","left":{}}`,
				`{"type":"message","channel":"","from":"x","data":1}`,
				strings.Repeat(
					"[",
					50_000,
				),
				`{"type":"welcome","peerId":"` + strings.Repeat("x", 100_000) + `"}`,
			}
			t.inject(bot, []byte(frames[n%len(frames)]))
		},
	),
	byService(
		"service-strangers",
		"signals of 60 KB of peers that are not there",
		"64 and 256 KB of each of 64 peers wait for 5 s",
		2*time.Millisecond,
		func(t Target, bot string, n int) {
			t.inject(
				bot,
				&devserver.Direct{
					From: fmt.Sprint("stranger-", n%100),
					Data: json.RawMessage(`"` + strings.Repeat("x", 60_000) + `"`),
				},
			)
		},
	),
	byService(
		"service-crowds",
		"3,000 members that come in one frame and go in the next",
		"256 are taken in",
		200*time.Millisecond,
		func(t Target, bot string, n int) {
			var ghosts []devserver.Member
			for i := range 3000 {
				ghosts = append(
					ghosts,
					devserver.Member{
						PeerID:   fmt.Sprintf("ghost-%d-%d", n, i),
						Metadata: json.RawMessage(`{"x":"\u202e"}`),
					},
				)
			}
			t.inject(bot, &devserver.Presence{Channel: t.Channel, Joined: ghosts})
			t.inject(bot, &devserver.Presence{Channel: t.Channel, Left: ghosts})
		},
	),
	byService(
		"service-megabytes",
		"frames of nearly 1 MB",
		"they are dropped, or their parts are",
		100*time.Millisecond,
		func(t Target, bot string, n int) {
			huge := strings.Repeat("x", 900_000)
			data, _ := json.Marshal(
				[]any{description("offer", huge), candidate(huge), trackMetadata(huge, map[string]any{})}[n%3],
			)
			t.inject(bot, &devserver.Direct{From: "mallory", Data: data})
			t.inject(
				bot,
				&devserver.Message{
					Channel: t.Channel,
					From:    huge[:1000],
					Data:    json.RawMessage(`"` + huge + `"`),
				},
			)
			t.inject(
				bot,
				&devserver.Presence{Channel: t.Channel, Joined: []devserver.Member{{PeerID: huge}}},
			)
		},
	),
}

// byService is an attack that injects something again and again.
func byService(
	name, about, promise string,
	interval time.Duration,
	inject func(t Target, bot string, n int),
) Attack {
	return Attack{
		Name:    name,
		About:   about,
		Promise: promise,
		Service: true,
		run: func(ctx context.Context, t Target) error {
			bot := ""
			for _, member := range t.Server.Members(t.Channel) {
				if strings.HasPrefix(member, t.Bot) {
					bot = member
				}
			}
			if bot == "" {
				return fmt.Errorf("no member of %q begins with %q", t.Channel, t.Bot)
			}
			return t.every(ctx, interval, func(n int) error {
				inject(t, bot, n)
				return nil
			})
		},
	}
}

func (t Target) inject(bot string, frame any) {
	t.sent.Add(int64(t.Server.Inject(bot, frame)))
}
