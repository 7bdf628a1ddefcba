package signaling

import (
	"strings"
	"testing"
)

// FuzzTokenAnswer: a token that is taken can travel in an address, and an error
// quotes nothing of what the token server said.
func FuzzTokenAnswer(f *testing.F) {
	for _, body := range []string{`{"token":"a.b.c"}`, `{"token":""}`, `{"token":7}`, `{"token":"a b"}`, `{"TOKEN":"a"}`, `[]`, `s3cr3t`, ``, `{"token":"é"}`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		token, err := parseTokenAnswer(body)
		if (err == nil) != (checkToken(token) == nil) {
			t.Errorf("token %q with %v", token, err)
		}
		if err != nil && strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("the error quotes the answer: %v", err)
		}
	})
}

// FuzzICEServers: a list is taken as a whole, within its bounds, or not at all.
func FuzzICEServers(f *testing.F) {
	for _, list := range []string{
		`[{"urls":"stun:a"}]`, `[{"urls":["turn:a?transport=tcp","TURNS:b"],"username":"u","credential":"c"}]`, `[{"urls":[]}]`, `[{}]`, `{}`, `null`,
		`[{"urls":"turn:a"}]`, `[{"urls":"http:a"}]`, `[{"urls":[null]}]`, `[` + strings.Repeat(`{"urls":"stun:a"},`, 16) + `{"urls":"stun:a"}]`,
	} {
		f.Add([]byte(`{"iceServers":` + list + `}`))
	}
	f.Fuzz(func(t *testing.T, metadata []byte) {
		servers, err := iceServers(metadata)
		if err != nil && servers != nil || err == nil && ValidateICEServers(servers) != nil {
			t.Errorf("servers %v, %v", servers, err)
		}
	})
}
