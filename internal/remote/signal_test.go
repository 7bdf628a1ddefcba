package remote

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestSignalsAreToldFromApplicationData(t *testing.T) {
	for _, c := range []struct {
		name, data string
		ok, bad    bool
	}{
		{"offer", `{"type":"rtc-description","description":{"type":"offer","sdp":"v=0"}}`, true, false},
		{"answer", `{"type":"rtc-description","description":{"type":"answer","sdp":"v=0"}}`, true, false},
		{"candidate", `{"type":"rtc-ice","candidate":{"candidate":"candidate:1","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"x"}}`, true, false},
		{"bare candidate", `{"type":"rtc-ice","candidate":{"candidate":"candidate:1","sdpMid":null}}`, true, false},
		{"null", `{"type":"rtc-ice","candidate":null}`, true, false},
		{"empty", `{"type":"rtc-ice","candidate":{"candidate":""}}`, true, false},
		{"metadata", `{"__meteredTrackMeta":{"trackId":"t","metadata":{"role":"camera"}}}`, true, false},
		{"deep metadata", `{"__meteredTrackMeta":{"trackId":"t","metadata":` + nested(maxNesting) + `}}`, true, false},
		{"metadata with brackets in a text", `{"__meteredTrackMeta":{"trackId":"t","metadata":{"x":"\\\"` + strings.Repeat("[{", maxNesting) + `"}}}`, true, false},
		{"metadata with many lists", `{"__meteredTrackMeta":{"trackId":"t","metadata":{"x":[` + strings.Repeat("[],", 100) + `[]]}}}`, true, false},
		{"metadata cleared", `{"__meteredTrackMeta":{"trackId":"t"}}`, true, false},

		{"rollback", `{"type":"rtc-description","description":{"type":"rollback","sdp":""}}`, true, true},
		{"no description", `{"type":"rtc-description"}`, true, true},
		{"description is a string", `{"type":"rtc-description","description":"v=0"}`, true, true},
		{"sdp is a number", `{"type":"rtc-description","description":{"type":"offer","sdp":1}}`, true, true},
		{"huge sdp", `{"type":"rtc-description","description":{"type":"offer","sdp":"` + strings.Repeat("x", maxDescription+1) + `"}}`, true, true},
		{"no candidate", `{"type":"rtc-ice"}`, true, true},
		{"candidate is a list", `{"type":"rtc-ice","candidate":[]}`, true, true},
		{"long candidate", `{"type":"rtc-ice","candidate":{"candidate":"` + strings.Repeat("x", 1001) + `"}}`, true, true},
		{"negative line", `{"type":"rtc-ice","candidate":{"candidate":"","sdpMLineIndex":-1}}`, true, true},
		{"long user name", `{"type":"rtc-ice","candidate":{"candidate":"","usernameFragment":"` + strings.Repeat("x", 257) + `"}}`, true, true},
		{"metadata is a string", `{"__meteredTrackMeta":{"trackId":"t","metadata":"camera"}}`, true, true},
		{"metadata is null", `{"__meteredTrackMeta":{"trackId":"t","metadata":null}}`, true, true},
		{"no track id", `{"__meteredTrackMeta":{"metadata":{}}}`, true, true},
		{"long track id", `{"__meteredTrackMeta":{"trackId":"` + strings.Repeat("x", 257) + `"}}`, true, true},
		{"huge metadata", `{"__meteredTrackMeta":{"trackId":"t","metadata":{"x":"` + strings.Repeat("x", maxMetadata) + `"}}}`, true, true},
		{"too deep after a number beyond all", `{"__meteredTrackMeta":{"trackId":"t","metadata":{"y":1e999,` + nested(maxNesting + 1)[1:] + `}}`, true, true},
		{"too deep metadata", `{"__meteredTrackMeta":{"trackId":"t","metadata":` + nested(maxNesting+1) + `}}`, true, true},

		{"chat", `{"type":"chat","text":"hi"}`, false, false},
		{"type is a number", `{"type":7}`, false, false},
		{"other case", `{"type":"RTC-ICE","candidate":null}`, false, false},
		{"list", `["rtc-ice"]`, false, false},
		{"string", `"rtc-ice"`, false, false},
		{"null data", `null`, false, false},
		{"nothing", ``, false, false},
		{"garbage", `{"type":"rtc-ice"`, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, ok, err := parseSignal(json.RawMessage(c.data))
			if ok != c.ok || (err != nil) != c.bad {
				t.Errorf("signal: %v, error: %v", ok, err)
			}
			if set := s.candidate != nil || s.description != nil || s.trackMeta != nil; set != (ok && err == nil) {
				t.Errorf("parsed: %+v", s)
			}
			if err != nil && len(err.Error()) > 100 {
				t.Errorf("the error quotes the signal: %d bytes", len(err.Error()))
			}
		})
	}
}

// nested is an object of so many levels, lists among them.
func nested(depth int) string {
	return `{"x":` + strings.Repeat("[", depth-1) + strings.Repeat("]", depth-1) + `}`
}

// Whatever a member sends is either within bounds or refused.
func FuzzSignal(f *testing.F) {
	f.Add(`{"type":"rtc-description","description":{"type":"offer","sdp":"v=0"}}`)
	f.Add(`{"type":"rtc-ice","candidate":{"candidate":"candidate:1","sdpMid":"0"}}`)
	f.Add(`{"type":"rtc-ice","candidate":null}`)
	f.Add(`{"__meteredTrackMeta":{"trackId":"t","metadata":{}}}`)
	f.Fuzz(func(t *testing.T, data string) {
		s, ok, err := parseSignal(json.RawMessage(data))
		if !ok || err != nil {
			return
		}
		switch {
		case s.description != nil:
			if len(s.description.SDP) > maxDescription {
				t.Error("huge description")
			}
		case s.candidate != nil:
			if len([]rune(s.candidate.Candidate)) > maxCandidate {
				t.Error("huge candidate")
			}
		case s.trackMeta != nil:
			if s.trackMeta.trackID == "" || len(s.trackMeta.trackID) > maxName || len(s.trackMeta.metadata) > maxMetadata {
				t.Error("metadata out of bounds")
			}
			if m := s.trackMeta.metadata; m != nil && !json.Valid(m) {
				t.Error("metadata is not JSON")
			}
		default:
			t.Error("a signal of no kind")
		}
	})
}
