package attack

import (
	"context"
	"fmt"
	"strings"
	"time"
)

var descriptionAttacks = []Attack{
	offers(
		"offers",
		"the same offer 90 times a second",
		"two a second are answered",
		func(sdp string, _ int) string { return sdp },
	),
	offers(
		"connections",
		"offers of a new connection 90 times a second",
		"a connection in two seconds is made",
		func(sdp string, _ int) string { return another(sdp) },
	),
	offers(
		"ice-restarts",
		"offers that restart ICE 90 times a second",
		"two a second are answered",
		func(sdp string, _ int) string { return restarted(sdp) },
	),
	offers(
		"sdp-bombs",
		"descriptions of 64 KB: sections, formats, attributes, sources and groups by the thousand",
		"what exceeds the bounds is not applied",
		bomb,
	),
	offers(
		"sdp-mutations",
		"a browser's offer with lines and bytes changed at random",
		"it fails, or it works",
		func(sdp string, _ int) string { return another(mutated(sdp)) },
	),
	offers(
		"names",
		"stream and track ids with control and bidi characters, .., paths, and 300 bytes of them",
		"no name becomes a path, or part of a line",
		func(sdp string, n int) string { return another(namedOffer(sdp, n)) },
	),
	{
		Name:    "new-stream-ids",
		About:   "an offer with 30 new stream ids twice a second",
		Promise: "the log stays small, and says how much it left out",
		Lasts:   4 * time.Second,
		run: func(ctx context.Context, t Target) error {
			sdp, err := offerOf(30)
			if err != nil {
				return err
			}
			s, err := t.speak(ctx, t.id())
			if err != nil {
				return err
			}
			defer s.close()
			return t.every(ctx, saying*45, func(n int) error {
				return s.say(
					ctx,
					description("offer", strings.ReplaceAll(sdp, "STREAM", fmt.Sprintf("s%d-", n))),
				)
			})
		},
	},
	says(
		"answers",
		"answers to offers that the recorder did not make",
		"they are dropped",
		func(n int) any {
			return description(
				"answer",
				fmt.Sprintf("v=0\r\no=- %d 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n", n),
			)
		},
	),
	says(
		"metadata-many",
		"metadata of 90 tracks a second that do not exist",
		"512 are kept, 1 MB in all",
		func(n int) any {
			return trackMetadata(fmt.Sprint(n), map[string]any{"x": strings.Repeat("x", 14_000)})
		},
	),
	says(
		"metadata-bombs",
		"metadata 9,000 deep, 60 KB large, with hostile keys",
		"it is dropped",
		func(n int) any {
			switch n % 4 {
			case 0:
				return []byte(
					`{"__meteredTrackMeta":{"trackId":"t","metadata":{"x":` + strings.Repeat(
						"[",
						9000,
					) + strings.Repeat(
						"]",
						9000,
					) + `}}}`,
				)
			case 1:
				return trackMetadata("t", map[string]any{"x": strings.Repeat("x", 60_000)})
			case 2:
				return trackMetadata(strings.Repeat("t", 60_000), map[string]any{})
			}
			return trackMetadata(
				"\u202e\x00",
				map[string]any{
					"__proto__": hostileNames,
					"\x1b]0;":   strings.Repeat("\u202e", 1000),
				},
			)
		},
	),
	says(
		"garbage",
		"signals of the wrong type, shape and order",
		"they are dropped",
		func(n int) any { return garbage[n%len(garbage)] },
	),
	says(
		"messages",
		"application data of 60 KB, 90 times a second",
		"it is dropped",
		func(int) any { return strings.Repeat("x", 60_000) },
	),
}

var garbage = []any{
	description(
		"offer",
		"hello\x00\xff",
	), description("offer", ""), description("rollback", ""), description("pranswer", "v=0\r\n"),
	map[string]any{
		"type": "rtc-description",
	}, map[string]any{"type": "rtc-description", "description": 7},
	map[string]any{
		"type":        "rtc-description",
		"description": map[string]any{"type": 1, "sdp": []int{}},
	},
	map[string]any{
		"type":      "rtc-ice",
		"candidate": []int{1, 2},
	}, map[string]any{"type": "rtc-ice", "candidate": nil}, map[string]any{"type": "rtc-ice"},
	map[string]any{
		"type": "rtc-ice",
		"candidate": map[string]any{
			"candidate":     "",
			"sdpMid":        strings.Repeat("0", 50_000),
			"sdpMLineIndex": 65536,
		},
	},
	candidate(
		"candidate:" + strings.Repeat("x", 50_000),
	), trackMetadata("t", "x"), trackMetadata("", nil), "hello", nil, 1e308, []any{},
	[]byte(strings.Repeat("[", 9000) + strings.Repeat("]", 9000)),
}

func trackMetadata(track string, metadata any) any {
	return map[string]any{
		"__meteredTrackMeta": map[string]any{"trackId": track, "metadata": metadata},
	}
}

// offers is an attack by offers, each made of a good one.
func offers(name, about, promise string, make func(sdp string, n int) string) Attack {
	return Attack{
		Name:    name,
		About:   about,
		Promise: promise,
		run: func(ctx context.Context, t Target) error {
			sdp, err := offerOf(2)
			if err != nil {
				return err
			}
			return t.chatter(ctx, func(n int) any { return description("offer", make(sdp, n)) })
		},
	}
}

// says is an attack by whatever is said to the recorder.
func says(name, about, promise string, what func(n int) any) Attack {
	return Attack{
		Name:    name,
		About:   about,
		Promise: promise,
		run: func(ctx context.Context, t Target) error {
			return t.chatter(ctx, what)
		},
	}
}
