package remote

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"
)

// Bounds on what one description may hold (S4).
const (
	maxSections = 128 // m-lines; browsers never recycle them
	maxTracks   = 64  // m-lines that send
	maxStreams  = 8   // streams of one track
	maxAll      = 64  // streams of all tracks
	maxMid      = 64  // bytes of a mid

	maxFormats    = 128  // of a section: there are no more payload types
	maxAttributes = 1024 // of a section, which pion looks through once a format
)

var errDescription = errors.New("description refused")

// limitError refuses a description for having more of something than it may.
type limitError struct {
	limit string
	n     int
}

func (e *limitError) Error() string { return fmt.Sprintf("description refused: %s: %d", e.limit, e.n) }
func (e *limitError) Unwrap() error { return errDescription }

// description is a remote description, checked and reduced to what matters
// here: who sent it, and what it sends.
type description struct {
	kind     webrtc.SDPType
	parsed   sdp.SessionDescription
	sections []section
	ufrags   map[string]bool

	// session and fingerprint identify the member's connection: they stay as
	// they are through renegotiation and ICE restart (RFC 8866 §5.2, RFC 8842).
	session     string
	fingerprint string
}

// section is one m-line.
type section struct {
	media   *sdp.MediaDescription
	mid     string
	kind    webrtc.RTPCodecType // zero for a data channel section
	data    bool
	sending bool     // it carries a track towards us
	track   string   // track id of its msid, "" if it has none
	streams []string // stream ids of its msid lines, none for "-"
}

// payloadTypes lists those that a section names.
func (d *description) payloadTypes(mid string) []string {
	for _, s := range d.sections {
		if s.mid == mid {
			return s.media.MediaName.Formats
		}
	}
	return nil
}

// announcesStereo reports whether the sender of a section says that its Opus is in stereo (RFC 7587 §6.1).
func (s *section) announcesStereo(payloadType string) bool {
	for _, a := range s.media.Attributes {
		pt, parameters, _ := strings.Cut(a.Value, " ")
		if a.Key != "fmtp" || pt != payloadType {
			continue
		}
		for parameter := range strings.SplitSeq(parameters, ";") {
			if strings.EqualFold(strings.TrimSpace(parameter), spropStereo) {
				return true
			}
		}
	}
	return false
}

// parseDescription reads SDP from the wire. Whatever is out of bounds or
// would leave a PeerConnection half way is refused as a whole.
func parseDescription(envelope sdpEnvelope) (*description, error) {
	d := &description{kind: webrtc.NewSDPType(envelope.Type), ufrags: map[string]bool{}}
	if err := d.parsed.UnmarshalString(envelope.SDP); err != nil {
		// The parser's error quotes the description, credentials and all.
		return nil, fmt.Errorf("%w: not SDP", errDescription)
	}
	switch n := len(d.parsed.MediaDescriptions); {
	case n == 0:
		return nil, fmt.Errorf("%w: no media sections", errDescription)
	case n > maxSections:
		return nil, &limitError{limitSections, n}
	}
	o := d.parsed.Origin
	d.session = o.Username + " " + strconv.FormatUint(o.SessionID, 10)

	d.identify(d.parsed.Attributes)
	mids := make(map[string]bool, len(d.parsed.MediaDescriptions))
	sending, streams := 0, map[string]bool{}
	for _, media := range d.parsed.MediaDescriptions {
		s, err := parseSection(media, d.parsed.Attributes)
		if err != nil {
			return nil, err
		}
		if mids[s.mid] {
			return nil, fmt.Errorf("%w: two sections with one mid", errDescription)
		}
		mids[s.mid] = true
		if s.sending {
			sending++
		}
		for _, id := range s.streams {
			streams[id] = true
		}
		d.sections = append(d.sections, s)
		d.identify(media.Attributes)
	}
	switch {
	case sending > maxTracks:
		return nil, &limitError{limitTracks, sending}
	case len(streams) > maxAll:
		return nil, &limitError{limitStreams, len(streams)}
	case d.fingerprint == "":
		return nil, fmt.Errorf("%w: no DTLS fingerprint", errDescription)
	case len(d.ufrags) == 0:
		return nil, fmt.Errorf("%w: no ICE username fragment", errDescription)
	}
	return d, nil
}

// identify notes the ICE user names and the first fingerprint among attrs.
func (d *description) identify(attrs []sdp.Attribute) {
	for _, a := range attrs {
		switch a.Key {
		case "ice-ufrag":
			d.ufrags[a.Value] = true
		case "fingerprint":
			if d.fingerprint == "" {
				d.fingerprint = strings.ToUpper(a.Value)
			}
		}
	}
}

func parseSection(media *sdp.MediaDescription, session []sdp.Attribute) (section, error) {
	s := section{media: media}
	mid, _ := media.Attribute("mid")
	s.mid = strings.Clone(mid) // or it would keep a part of the description, as would the other names
	switch {
	case s.mid == "":
		return s, fmt.Errorf("%w: no mid", errDescription)
	case len(s.mid) > maxMid:
		return s, &limitError{limitNames, len(s.mid)}
	case len(media.MediaName.Formats) > maxFormats || len(media.Attributes) > maxAttributes:
		return s, &limitError{limitSections, len(media.Attributes)}
	}
	switch media.MediaName.Media {
	case "audio":
		s.kind = webrtc.RTPCodecTypeAudio
	case "video":
		s.kind = webrtc.RTPCodecTypeVideo
	case "application":
		s.data = true
		return s, nil
	default:
		return s, fmt.Errorf("%w: media kind", errDescription)
	}

	_, bundleOnly := media.Attribute("bundle-only")
	rejected := media.MediaName.Port.Value == 0 && !bundleOnly
	dir := direction(media.Attributes, session)
	s.sending = !rejected && (dir == "sendrecv" || dir == "sendonly")
	if !s.sending {
		// Its msid is left over from when it was sending.
		return s, nil
	}
	for _, a := range media.Attributes {
		value, ok := a.Value, a.Key == sdp.AttrKeyMsid
		if a.Key == sdp.AttrKeySSRC && s.track == "" {
			// The form from before a=msid: "a=ssrc:1 msid:stream track".
			_, value, ok = strings.Cut(a.Value, " msid:")
		}
		if !ok {
			continue
		}
		stream, track, _ := strings.Cut(value, " ")
		if len(stream) > maxName || len(track) > maxName {
			return s, &limitError{limitNames, len(value)}
		}
		if s.track == "" {
			s.track = strings.Clone(track)
		}
		if stream != "-" && stream != "" && !slices.Contains(s.streams, stream) {
			s.streams = append(s.streams, strings.Clone(stream))
		}
		if len(s.streams) > maxStreams {
			return s, &limitError{limitStreams, len(s.streams)}
		}
	}
	return s, nil
}

// direction is a section's own or inherited direction (RFC 8866 §6.7).
func direction(levels ...[]sdp.Attribute) string {
	for _, attrs := range levels {
		for _, a := range attrs {
			switch a.Key {
			case "sendrecv", "sendonly", "recvonly", "inactive":
				return a.Key
			}
		}
	}
	return "sendrecv"
}

// sameConnection reports whether both descriptions come from one
// PeerConnection of the member.
func (d *description) sameConnection(other *description) bool {
	return d.session == other.session && d.fingerprint == other.fingerprint
}

// hasData reports whether data channels are negotiated.
func (d *description) hasData() bool {
	return slices.ContainsFunc(d.sections, func(s section) bool {
		return s.data && s.media.MediaName.Port.Value != 0
	})
}

// candidates returns the candidates in the description. They take the one way
// that all candidates take: see forPion.
func (d *description) candidates() (inits []webrtc.ICECandidateInit) {
	for _, s := range d.sections {
		for _, a := range s.media.Attributes {
			if a.IsICECandidate() {
				inits = append(inits, webrtc.ICECandidateInit{Candidate: "candidate:" + a.Value})
			}
		}
	}
	return inits
}

// withoutAddresses leaves out what names a transport address of the member.
func withoutAddresses(attrs []sdp.Attribute) []sdp.Attribute {
	return slices.DeleteFunc(attrs, func(a sdp.Attribute) bool {
		switch a.Key {
		case sdp.AttrKeyCandidate, sdp.AttrKeyEndOfCandidates, "remote-candidates", "rtcp":
			return true
		}
		return false
	})
}

// forPion returns the description in the words that make pion do what a
// browser does. known are the mids this connection had before.
//
//   - pion stops an existing transceiver for good when its section turns
//     inactive, and promises to send when a new one is recvonly. We never
//     send, so the two mean the same: a section that does not send is
//     inactive when it is new and recvonly from then on.
//   - pion asks for every simulcast layer. We record one: the last, which is
//     the full size unless the sender says otherwise.
//   - pion takes several sources in a section for Plan B and refuses the
//     description. The first is kept.
//   - No address stands in it: pion learns of none but those that were checked.
func (d *description) forPion(known map[string]bool) (webrtc.SessionDescription, error) {
	d.parsed.ConnectionInformation = nil
	d.parsed.Attributes = withoutAddresses(d.parsed.Attributes)
	for _, s := range d.sections {
		s.media.ConnectionInformation = nil
		s.media.Attributes = withoutAddresses(s.media.Attributes)
		if s.data {
			continue
		}
		if d.kind == webrtc.SDPTypeOffer && !s.sending {
			if known[s.mid] {
				setDirection(s.media, "recvonly")
			} else {
				setDirection(s.media, "inactive")
			}
		}
		keepOneLayer(s.media)
		keepOneSource(s.media)
	}
	b, err := d.parsed.Marshal()
	if err != nil {
		return webrtc.SessionDescription{}, fmt.Errorf("%w: not SDP", errDescription)
	}
	return webrtc.SessionDescription{Type: d.kind, SDP: string(b)}, nil
}

func setDirection(media *sdp.MediaDescription, dir string) {
	media.Attributes = slices.DeleteFunc(media.Attributes, func(a sdp.Attribute) bool {
		return a.Key == "sendrecv" || a.Key == "sendonly" || a.Key == "recvonly" || a.Key == "inactive"
	})
	media.Attributes = append(media.Attributes, sdp.Attribute{Key: dir})
}

// keepOneLayer leaves the last layer of a simulcast offer (RFC 8853).
func keepOneLayer(media *sdp.MediaDescription) {
	last := ""
	for _, a := range media.Attributes {
		if id, _, _ := strings.Cut(a.Value, " "); a.Key == "rid" && id != "" {
			last = id
		}
	}
	if last == "" {
		return
	}
	media.Attributes = slices.DeleteFunc(media.Attributes, func(a sdp.Attribute) bool {
		id, _, _ := strings.Cut(a.Value, " ")
		return a.Key == "simulcast" || a.Key == "rid" && id != last
	})
	media.Attributes = append(media.Attributes, sdp.Attribute{Key: "simulcast", Value: "send " + last})
}

// keepOneSource leaves the first SSRC of a section and its RTX (RFC 5576).
func keepOneSource(media *sdp.MediaDescription) {
	first, rtx := "", ""
	for _, a := range media.Attributes {
		id, _, _ := strings.Cut(a.Value, " ")
		fid := strings.Fields(a.Value)
		switch {
		case a.Key == sdp.AttrKeySSRCGroup && len(fid) == 3 && fid[0] == "FID" && rtx == "" && (first == "" || first == fid[1]):
			first, rtx = fid[1], fid[2]
		case a.Key == sdp.AttrKeySSRC && first == "":
			first = id
		}
	}
	media.Attributes = slices.DeleteFunc(media.Attributes, func(a sdp.Attribute) bool {
		id, _, _ := strings.Cut(a.Value, " ")
		switch a.Key {
		case sdp.AttrKeySSRC:
			return id != first && id != rtx
		case sdp.AttrKeySSRCGroup:
			return a.Value != "FID "+first+" "+rtx
		}
		return false
	})
}
