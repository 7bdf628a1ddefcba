package signaling

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
)

func TestICEServersFailClosed(t *testing.T) {
	entry := func(n int) string {
		return strings.TrimSuffix(strings.Repeat(`{"urls":"stun:a"},`, n), ",")
	}
	x := func(n int) string { return strings.Repeat("x", n) }
	for in, ok := range map[string]bool{
		`[]`:                  true,
		`[{"urls":"stun:a"}]`: true,
		`[{"urls":["STUN:a","stuns:b","turn:c?transport=udp","turns:d"],"username":"u","credential":"c"}]`: true,
		`[` + entry(16) + `]`:              true,
		`[` + entry(17) + `]`:              false,
		`[{"urls":"stun:` + x(507) + `"}]`: true,
		`[{"urls":"stun:` + x(508) + `"}]`: false,
		`[{"urls":"turn:a","username":"` + x(1024) + `","credential":"` + x(1024) + `"}]`: true,
		`[{"urls":"turn:a","username":"` + x(1025) + `","credential":"c"}]`:               false,
		`[{"urls":"turn:a","username":"u","credential":"` + x(1025) + `"}]`:               false,
		`[{"urls":"turn:a"}]`:                                false,
		`[{"urls":"turn:a","username":"u","credential":{}}]`: false,
		`[{"urls":"stun:a"},{"urls":"http:b"}]`:              false,
		`[{"urls":["stun:a","javascript:b"]}]`:               false,
		`[{"urls":""}]`:                                      false,
		`[{"urls":"stun:"}]`:                                 false,
		`[{"urls":"stun"}]`:                                  false,
		`[{"urls":[]}]`:                                      false,
		`[{"urls":[1]}]`:                                     false,
		`[{"urls":7}]`:                                       false,
		`[{}]`:                                               false,
		`[1]`:                                                false,
		`{}`:                                                 false,
		`"stun:a"`:                                           false,
		`null`:                                               false,
	} {
		got, err := iceServers(json.RawMessage(`{"iceServers":` + in + `}`))
		if (err == nil) != ok || ok == (got == nil) {
			t.Errorf("%.80s: %v, %v", in, got, err)
		}
	}
	if got, err := iceServers(nil); got != nil || err != nil {
		t.Errorf("no metadata: %v, %v", got, err)
	}
	if got, err := iceServers(json.RawMessage(`{"turn":1}`)); got != nil || err != nil {
		t.Errorf("no list: %v, %v", got, err)
	}
}

func TestICEServersAreReadAsTheyAre(t *testing.T) {
	got, err := iceServers(json.RawMessage(`{"iceServers":[{"urls":"stun:a"},{"urls":["turn:b","turns:c"],"username":"u","credential":"s","more":1}]}`))
	want := []ICEServer{{URLs: []string{"stun:a"}}, {URLs: []string{"turn:b", "turns:c"}, Username: "u", Credential: "s"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %#v, %v", got, err)
	}
}

func TestICEServersPrintWithoutTheirCredential(t *testing.T) {
	s := ICEServer{URLs: []string{"turn:a"}, Username: "us3r", Credential: "s3cr3t"}
	c := Connected{ICEServers: []ICEServer{s}, Welcome: Welcome{Metadata: json.RawMessage(`{"iceServers":"s3cr3t"}`)}}
	var out bytes.Buffer
	for _, format := range []string{"%v ", "%+v ", "%#v ", "%s "} {
		fmt.Fprintf(&out, format, s)
		fmt.Fprintf(&out, format, []ICEServer{s})
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("x", "server", s, "servers", []ICEServer{s}, "connected", c, "welcome", c.Welcome)
	}
	if strings.Contains(out.String(), "s3cr3t") || strings.Contains(out.String(), "us3r") {
		t.Errorf("printed %s", out.String())
	}
}
