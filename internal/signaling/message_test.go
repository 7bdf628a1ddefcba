package signaling

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseReadsEveryServerFrame(t *testing.T) {
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	for in, want := range map[string]Frame{
		`{"type":"welcome","peerId":"p","expiresAt":1700000000,"serverTime":1600000000.5,"maxMessageSize":1000,"metadata":{"a":1}}`: Welcome{
			PeerID: "p", ExpiresAt: time.Unix(1700000000, 0).UTC(), ServerTime: time.Unix(1600000000, 5e8).UTC(), MaxMessageSize: 1000, Metadata: raw(`{"a":1}`)},
		`{"type":"welcome","peerId":"p","expiresAt":null,"serverTime":0,"maxMessageSize":0,"metadata":[1]}`: Welcome{
			PeerID: "p", ServerTime: time.Unix(0, 0).UTC(), MaxMessageSize: DefaultMaxMessageSize},
		`{"type":"ack","requestId":"1"}`:                                                Ack{RequestID: "1"},
		`{"type":"error","code":"peer_not_found","requestId":"1","message":"m"}`:        &ServerError{Code: CodePeerNotFound, RequestID: "1", Message: "m"},
		`{"type":"error","code":"from_the_future","requestId":7,"message":null}`:        &ServerError{Code: "from_the_future"},
		`{"type":"message","channel":"c","from":"p","data":null}`:                       Message{Channel: "c", From: "p", Data: raw(`null`)},
		`{"type":"message","channel":"c","from":"p","data":"d","fromMetadata":{"n":1}}`: Message{Channel: "c", From: "p", Data: raw(`"d"`), FromMetadata: raw(`{"n":1}`)},
		`{"type":"direct","from":"p","data":[1,2],"fromMetadata":"no object"}`:          Direct{From: "p", Data: raw(`[1,2]`)},
		`{"type":"direct","from":"p","data":1,"DATA":2,"From":"q"}`:                     Direct{From: "p", Data: raw(`1`)},
		`{"type":"going_away","retryAfterMs":2500}`:                                     GoingAway{RetryAfter: 2500 * time.Millisecond},
		`{"type":"going_away"}`:                                   GoingAway{RetryAfter: time.Second},
		`{"type":"going_away","retryAfterMs":0}`:                  GoingAway{RetryAfter: time.Second},
		`{"type":"going_away","retryAfterMs":-5}`:                 GoingAway{RetryAfter: time.Second},
		`{"type":"going_away","retryAfterMs":"soon"}`:             GoingAway{RetryAfter: time.Second},
		`{"type":"going_away","retryAfterMs":1e300}`:              GoingAway{RetryAfter: maxRetryAfter},
		`{"type":"pong","anything":"else"}`:                       Pong{},
		`{"type":"presence","channel":"c","joined":[],"left":[]}`: Presence{Channel: "c", Joined: []Member{}},
		`{"type":"presence","channel":"c","joined":[{"peerId":"a","metadata":{"n":1}},{"peerId":"b","metadata":3}],"left":[{"peerId":"x"}]}`: Presence{
			Channel: "c", Joined: []Member{{PeerID: "a", Metadata: raw(`{"n":1}`)}, {PeerID: "b"}}, Left: []string{"x"}},
	} {
		got, err := Parse([]byte(in))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s\n got %+v, %v\nwant %+v", in, got, err, want)
		}
	}
}

var malformedFrames = []string{
	``, `s3cr3t`, `null`, `1`, `"s3cr3t"`, `[{"type":"pong"}]`, `{"type":"pong"`, `{"type":"pong"} s3cr3t`, "{\"type\":\"pong\",\"x\":\"\xff\"}",
	`{}`, `{"type":null}`, `{"type":7}`, `{"Type":"pong"}`, `{"type":"s3cr3t"}`,
	`{"type":"welcome"}`,
	`{"type":"welcome","peerId":"","expiresAt":null,"serverTime":1,"maxMessageSize":1}`,
	`{"type":"welcome","peerId":"p","serverTime":1,"maxMessageSize":1}`,
	`{"type":"welcome","peerId":"p","expiresAt":"s3cr3t","serverTime":1,"maxMessageSize":1}`,
	`{"type":"welcome","peerId":"p","expiresAt":null,"maxMessageSize":1}`,
	`{"type":"welcome","peerId":"p","expiresAt":null,"serverTime":1,"maxMessageSize":null}`,
	`{"type":"ack"}`, `{"type":"ack","requestId":1}`,
	`{"type":"error"}`, `{"type":"error","code":""}`, `{"type":"error","code":1}`,
	`{"type":"message","from":"p","data":1}`, `{"type":"message","channel":"c","data":1}`, `{"type":"message","channel":"c","from":"p"}`,
	`{"type":"direct","data":1}`, `{"type":"direct","from":"p"}`, `{"type":"direct","from":null,"data":1}`, `{"type":"direct","from":"a\nb","data":1}`,
	`{"type":"presence","joined":[],"left":[]}`, `{"type":"presence","channel":"c","left":[]}`, `{"type":"presence","channel":"c","joined":[]}`,
	`{"type":"presence","channel":"c","joined":null,"left":[]}`, `{"type":"presence","channel":"c","joined":{},"left":[]}`,
	`{"type":"presence","channel":"c","joined":["s3cr3t"],"left":[]}`, `{"type":"presence","channel":"c","joined":[{}],"left":[]}`,
	`{"type":"presence","channel":"c","joined":[null],"left":[]}`, `{"type":"presence","channel":"c","joined":[],"left":[{"peerId":1}]}`,
}

func TestMalformedFramesAreErrorsWithoutTheirContent(t *testing.T) {
	for _, in := range malformedFrames {
		f, err := Parse([]byte(in))
		if _, ok := errors.AsType[*MalformedError](err); !ok || f != nil {
			t.Errorf("%s: %v, %v", in, f, err)
		} else if strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: the error quotes it: %v", in, err)
		}
	}
}

func TestMembersWithNamesOutsideTheLimitsAreLeftOut(t *testing.T) {
	long := strings.Repeat("x", 129)
	f, err := Parse([]byte(`{"type":"presence","channel":"c","joined":[{"peerId":"a"},{"peerId":""},{"peerId":"b\u0000"},{"peerId":"` + long +
		`"},{"peerId":"c"}],"left":[{"peerId":"` + long + `"},{"peerId":"d"}]}`))
	want := Presence{Channel: "c", Joined: []Member{{PeerID: "a"}, {PeerID: "c"}}, Left: []string{"d"}}
	if err != nil || !reflect.DeepEqual(f, want) {
		t.Errorf("got %+v, %v", f, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, in := range malformedFrames {
		f.Add([]byte(in))
	}
	for _, in := range []string{
		`{"type":"welcome","peerId":"p","expiresAt":1e400,"serverTime":-1e300,"maxMessageSize":1e300,"metadata":{"iceServers":[{"urls":["turn:x"]}]}}`,
		`{"type":"presence","channel":"c","joined":[{"peerId":"a","metadata":{}}],"left":[{"peerId":"b"}]}`,
		`{"type":"direct","from":"p","data":{"type":"rtc-ice","candidate":null}}`,
		`{"type":"going_away","retryAfterMs":1e-300}`,
	} {
		f.Add([]byte(in))
	}
	name := func(t *testing.T, s string, limit int) {
		if reason := checkName(s, limit); reason != "" {
			t.Errorf("name %q %s", s, reason)
		}
	}
	object := func(t *testing.T, m json.RawMessage) {
		if m != nil && (!json.Valid(m) || m[0] != '{') {
			t.Errorf("metadata %s", m)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := Parse(b)
		if (frame == nil) == (err == nil) {
			t.Fatalf("%v, %v", frame, err)
		}
		switch v := frame.(type) {
		case Welcome:
			name(t, v.PeerID, maxPeerIDLen)
			object(t, v.Metadata)
			if v.MaxMessageSize < 1 {
				t.Errorf("limit %d", v.MaxMessageSize)
			}
			if servers, err := iceServers(v.Metadata); err == nil && ValidateICEServers(servers) != nil {
				t.Errorf("servers %v", servers)
			}
			if _, err := json.Marshal(v.ExpiresAt); err != nil {
				t.Error(err)
			}
		case Message:
			name(t, v.Channel, maxChannelLen)
			name(t, v.From, maxPeerIDLen)
			object(t, v.FromMetadata)
			if !json.Valid(v.Data) {
				t.Errorf("data %s", v.Data)
			}
		case Direct:
			name(t, v.From, maxPeerIDLen)
			object(t, v.FromMetadata)
			if !json.Valid(v.Data) {
				t.Errorf("data %s", v.Data)
			}
		case Presence:
			name(t, v.Channel, maxChannelLen)
			for _, m := range v.Joined {
				name(t, m.PeerID, maxPeerIDLen)
				object(t, m.Metadata)
			}
			for _, id := range v.Left {
				name(t, id, maxPeerIDLen)
			}
		case GoingAway:
			if v.RetryAfter < 0 || v.RetryAfter > maxRetryAfter {
				t.Errorf("retry after %v", v.RetryAfter)
			}
		}
	})
}
