package remote

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/pion/webrtc/v4"

	"recorder/internal/nesting"
)

// Bounds on what one signal may hold (S4).
const (
	maxDescription = 256 << 10 // bytes of SDP
	maxCandidate   = 1000      // characters of one candidate line
	maxUfrag       = 256       // RFC 8445 §5.3
	maxName        = 256       // bytes of a stream or track id
	maxMetadata    = 16 << 10  // bytes of one track's metadata
	maxNesting     = 16        // objects and lists in each other, in that metadata
)

var errSignal = errors.New("malformed signal")

// The payloads of the signalling between peers, as they go over the wire.
type (
	descriptionSignal struct {
		Type        string      `json:"type"` // rtc-description
		Description sdpEnvelope `json:"description"`
	}
	sdpEnvelope struct {
		Type string `json:"type"` // offer, answer
		SDP  string `json:"sdp"`
	}
	candidateSignal struct {
		Type      string         `json:"type"` // rtc-ice
		Candidate *wireCandidate `json:"candidate"`
	}
	wireCandidate struct {
		Candidate        string  `json:"candidate"`
		SDPMid           *string `json:"sdpMid,omitempty"`
		SDPMLineIndex    *uint16 `json:"sdpMLineIndex,omitempty"`
		UsernameFragment *string `json:"usernameFragment,omitempty"`
	}
)

// signal is an inbound signal that passed every check; exactly one field is
// set, and a candidate without text is the end of candidates.
type signal struct {
	description *sdpEnvelope
	candidate   *webrtc.ICECandidateInit
	trackMeta   *trackMeta
}

// trackMeta says what a track is; nil metadata clears it.
type trackMeta struct {
	trackID  string
	metadata json.RawMessage
}

// parseSignal tells signals from application data. ok is false for the
// latter. A signal with an error is one all the same, and to be dropped.
func parseSignal(data json.RawMessage) (s signal, ok bool, err error) {
	var head struct {
		Type        json.RawMessage `json:"type"`
		TrackMeta   json.RawMessage `json:"__meteredTrackMeta"`
		Description json.RawMessage `json:"description"`
		Candidate   json.RawMessage `json:"candidate"`
	}
	if !isObject(data) || json.Unmarshal(data, &head) != nil {
		return signal{}, false, nil
	}
	var kind string
	if head.Type != nil && json.Unmarshal(head.Type, &kind) != nil {
		kind = ""
	}
	switch {
	case head.TrackMeta != nil:
		s.trackMeta, err = parseTrackMeta(head.TrackMeta)
	case kind == "rtc-description":
		s.description, err = parseDescriptionSignal(head.Description)
	case kind == "rtc-ice":
		s.candidate, err = parseCandidate(head.Candidate)
	default:
		return signal{}, false, nil
	}
	return s, true, err
}

func parseDescriptionSignal(data json.RawMessage) (*sdpEnvelope, error) {
	var d sdpEnvelope
	switch {
	case !isObject(data) || json.Unmarshal(data, &d) != nil:
		return nil, fmt.Errorf("%w: description", errSignal)
	case d.Type != "offer" && d.Type != "answer":
		return nil, fmt.Errorf("%w: description type", errSignal)
	case len(d.SDP) == 0 || len(d.SDP) > maxDescription:
		return nil, fmt.Errorf("%w: description of %d bytes", errSignal, len(d.SDP))
	}
	return &d, nil
}

func parseCandidate(data json.RawMessage) (*webrtc.ICECandidateInit, error) {
	if bytes.Equal(data, []byte("null")) {
		return &webrtc.ICECandidateInit{}, nil
	}
	var c wireCandidate
	switch {
	case !isObject(data) || json.Unmarshal(data, &c) != nil:
		return nil, fmt.Errorf("%w: candidate", errSignal)
	case utf8.RuneCountInString(c.Candidate) > maxCandidate:
		return nil, fmt.Errorf("%w: candidate of %d bytes", errSignal, len(c.Candidate))
	case c.UsernameFragment != nil && len(*c.UsernameFragment) > maxUfrag:
		return nil, fmt.Errorf("%w: username fragment of %d bytes", errSignal, len(*c.UsernameFragment))
	case c.SDPMid != nil && len(*c.SDPMid) > maxName:
		return nil, fmt.Errorf("%w: sdpMid of %d bytes", errSignal, len(*c.SDPMid))
	}
	init := webrtc.ICECandidateInit(c)
	return &init, nil
}

func parseTrackMeta(data json.RawMessage) (*trackMeta, error) {
	var m struct {
		TrackID  string          `json:"trackId"`
		Metadata json.RawMessage `json:"metadata"`
	}
	switch {
	case !isObject(data) || json.Unmarshal(data, &m) != nil:
		return nil, fmt.Errorf("%w: track metadata", errSignal)
	case m.TrackID == "" || len(m.TrackID) > maxName:
		return nil, fmt.Errorf("%w: track id of %d bytes", errSignal, len(m.TrackID))
	case m.Metadata == nil:
		return &trackMeta{trackID: m.TrackID}, nil
	case !isObject(m.Metadata) || len(m.Metadata) > maxMetadata:
		return nil, fmt.Errorf("%w: track metadata of %d bytes", errSignal, len(m.Metadata))
	case nesting.Depth(m.Metadata) > maxNesting:
		return nil, fmt.Errorf("%w: track metadata nests deeper than %d", errSignal, maxNesting)
	}
	return &trackMeta{trackID: m.TrackID, metadata: m.Metadata}, nil
}

func isObject(data json.RawMessage) bool {
	data = bytes.TrimLeft(data, " \t\r\n")
	return len(data) > 0 && data[0] == '{'
}
