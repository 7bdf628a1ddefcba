package remote

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/pion/webrtc/v4"
)

const mimeTypeRED = "audio/red" // RFC 2198

// audioFeedback and videoFeedback are what we can do, in Chromium's terms.
// goog-remb is missing on purpose: we answer with transport-cc.
var (
	audioFeedback = []webrtc.RTCPFeedback{{Type: webrtc.TypeRTCPFBTransportCC}, {Type: webrtc.TypeRTCPFBNACK}}
	videoFeedback = []webrtc.RTCPFeedback{
		{Type: webrtc.TypeRTCPFBTransportCC},
		{Type: webrtc.TypeRTCPFBCCM, Parameter: "fir"},
		{Type: webrtc.TypeRTCPFBNACK},
		{Type: webrtc.TypeRTCPFBNACK, Parameter: "pli"},
	}
)

// opusFmtp asks for stereo where there is stereo, and for in-band FEC
// (RFC 7587 §6.1).
const opusFmtp = "minptime=10;useinbandfec=1;stereo=1"

// spropStereo is how a sender announces stereo.
const spropStereo = "sprop-stereo=1"

// videoCodecs are the formats we take, each with RTX. The payload types only
// matter in an offer of ours; an answer repeats those of the offer.
var videoCodecs = []struct{ mimeType, fmtp string }{
	{webrtc.MimeTypeVP8, ""},
	{webrtc.MimeTypeVP9, "profile-id=0"},
	{webrtc.MimeTypeVP9, "profile-id=2"},
	{webrtc.MimeTypeAV1, "level-idx=5;profile=0;tier=0"},
	{webrtc.MimeTypeH264, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f"},
	{webrtc.MimeTypeH264, "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42001f"},
	{webrtc.MimeTypeH264, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"},
	{webrtc.MimeTypeH264, "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f"},
	{webrtc.MimeTypeH264, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f"},
	{webrtc.MimeTypeH264, "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=4d001f"},
	{webrtc.MimeTypeH264, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f"},
}

func registerCodecs(m *webrtc.MediaEngine) error {
	audio := []webrtc.RTPCodecParameters{
		{PayloadType: 63, RTPCodecCapability: webrtc.RTPCodecCapability{
			// No parameters of its own, so that it matches whatever payload type Opus has.
			MimeType: mimeTypeRED, ClockRate: 48000, Channels: 2, RTCPFeedback: audioFeedback}},
		{PayloadType: 111, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: opusFmtp, RTCPFeedback: audioFeedback}},
	}
	for _, codec := range audio {
		if err := m.RegisterCodec(codec, webrtc.RTPCodecTypeAudio); err != nil {
			return err
		}
	}
	for i, codec := range videoCodecs {
		// 35–63 and 96–127 are free for dynamic use (RFC 5761 §4).
		primary, rtx := webrtc.PayloadType(96+i), webrtc.PayloadType(35+i)
		for _, c := range []webrtc.RTPCodecParameters{
			{PayloadType: primary, RTPCodecCapability: webrtc.RTPCodecCapability{
				MimeType: codec.mimeType, ClockRate: 90000, SDPFmtpLine: codec.fmtp, RTCPFeedback: videoFeedback}},
			{PayloadType: rtx, RTPCodecCapability: webrtc.RTPCodecCapability{
				MimeType: webrtc.MimeTypeRTX, ClockRate: 90000, SDPFmtpLine: "apt=" + strconv.Itoa(int(primary))}},
		} {
			if err := m.RegisterCodec(c, webrtc.RTPCodecTypeVideo); err != nil {
				return err
			}
		}
	}
	return nil
}

// rank orders codecs by how well they record, best first. A browser sends
// the first codec of the answer.
func rank(mimeType string) int {
	order := []string{
		mimeTypeRED, webrtc.MimeTypeOpus,
		webrtc.MimeTypeVP8, webrtc.MimeTypeVP9, webrtc.MimeTypeAV1, webrtc.MimeTypeH264,
	}
	i := slices.IndexFunc(order, func(m string) bool { return strings.EqualFold(m, mimeType) })
	if i < 0 {
		return len(order)
	}
	return i
}

// prefer puts the codecs of a transceiver that are offered into our order, with
// our parameters for Opus, before it is answered. It returns what may arrive,
// by payload type.
func prefer(t *webrtc.RTPTransceiver, offered []string) (map[uint8]webrtc.RTPCodecParameters, error) {
	// What was preferred hides what an earlier offer did not have.
	if err := t.SetCodecPreferences(nil); err != nil {
		return nil, err
	}
	codecs := slices.DeleteFunc(slices.Clone(t.Receiver().GetParameters().Codecs), func(c webrtc.RTPCodecParameters) bool {
		return !slices.Contains(offered, strconv.Itoa(int(c.PayloadType)))
	})
	slices.SortStableFunc(codecs, func(a, b webrtc.RTPCodecParameters) int {
		return cmp.Compare(rank(a.MimeType), rank(b.MimeType))
	})
	for i, codec := range codecs {
		if strings.EqualFold(codec.MimeType, webrtc.MimeTypeOpus) {
			codecs[i].SDPFmtpLine = opusFmtp
		}
	}
	if len(codecs) == 0 {
		return nil, nil
	}
	return formatsOf(codecs), t.SetCodecPreferences(codecs)
}

// formatsOf lists codecs by payload type.
func formatsOf(codecs []webrtc.RTPCodecParameters) map[uint8]webrtc.RTPCodecParameters {
	formats := make(map[uint8]webrtc.RTPCodecParameters, len(codecs))
	for _, codec := range codecs {
		formats[uint8(codec.PayloadType)] = codec
	}
	return formats
}

// announced adds to the formats of a section what its sender says of them and the answer does not. Only that:
// parameters may be long, and a track keeps its formats.
func (s *section) announced(formats map[uint8]webrtc.RTPCodecParameters) map[uint8]webrtc.RTPCodecParameters {
	for pt, codec := range formats {
		if strings.EqualFold(codec.MimeType, webrtc.MimeTypeOpus) {
			codec.SDPFmtpLine = opusFmtp
			if s.announcesStereo(strconv.Itoa(int(pt))) {
				codec.SDPFmtpLine += ";" + spropStereo
			}
			formats[pt] = codec
		}
	}
	return formats
}

// isRTX reports whether packets of a format are others sent again (RFC 4588).
func isRTX(codec webrtc.RTPCodecParameters) bool {
	return strings.EqualFold(codec.MimeType, webrtc.MimeTypeRTX)
}

// payload is what has to be known of a format for each packet.
type payload struct {
	rate    uint32 // clock
	rtx     bool
	repairs uint8 // the payload type of which these are packets sent again
}

func payloadsOf(formats map[uint8]webrtc.RTPCodecParameters) map[uint8]payload {
	payloads := make(map[uint8]payload, len(formats))
	for pt, codec := range formats {
		p := payload{rate: codec.ClockRate, rtx: isRTX(codec)}
		if p.rtx {
			_, apt, _ := strings.Cut(codec.SDPFmtpLine, "apt=")
			apt, _, _ = strings.Cut(apt, ";")
			n, err := strconv.ParseUint(strings.TrimSpace(apt), 10, 7)
			if err != nil {
				continue
			}
			p.repairs = uint8(n)
		}
		payloads[pt] = p
	}
	return payloads
}
