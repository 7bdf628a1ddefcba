package attack

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/pion/webrtc/v4"
)

// offerOf is an offer of some streams of a picture each, in VP8 alone and
// without candidates: STREAM00 of TRACK00, and so on.
func offerOf(streams int) (sdp string, err error) {
	media := &webrtc.MediaEngine{}
	if err := media.RegisterCodec(webrtc.RTPCodecParameters{
		PayloadType:        96,
		RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000},
	}, webrtc.RTPCodecTypeVideo); err != nil {
		return "", fmt.Errorf("register a format: %w", err)
	}
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(media)).
		NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return "", fmt.Errorf("create a connection: %w", err)
	}
	defer pc.Close()
	for i := range streams {
		t := NewRaw(webrtc.MimeTypeVP8, fmt.Sprintf("TRACK%02d", i))
		t.Stream = fmt.Sprintf("STREAM%02d", i)
		send := webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly}
		if _, err := pc.AddTransceiverFromTrack(t, send); err != nil {
			return "", fmt.Errorf("add a track: %w", err)
		}
	}
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		return "", fmt.Errorf("create an offer: %w", err)
	}
	return offer.SDP, nil
}

// restarted is an offer that restarts ICE.
func restarted(sdp string) string {
	return strings.ReplaceAll(sdp, "a=ice-ufrag:", fmt.Sprintf("a=ice-ufrag:%x", rand.Uint32()))
}

// another is an offer of another connection.
func another(sdp string) string {
	return strings.Replace(sdp, "o=- ", fmt.Sprintf("o=- %d", 1+rand.Uint32N(1000)), 1)
}

// withCandidates puts candidates into each section of an offer.
func withCandidates(sdp string, lines []string) string {
	var b strings.Builder
	for _, line := range lines {
		b.WriteString("a=" + line + "\r\n")
	}
	return strings.ReplaceAll(sdp, "a=ice-ufrag:", b.String()+"a=ice-ufrag:")
}

// hostileNames are of streams and tracks.
var hostileNames = []string{
	"..", ".", "../../x", "/etc/passwd", `C:\x`, "NUL", "%2e%2e%2f", "\u2026", "\u202egnp.exe", "\u2066x\u2069", "\U0001d54f\u0301",
	"\x1b[2J", "\x00", "\x7f", "a\tb", "-rf", "recording.json", ".recorder", "audio-1.ogg", strings.Repeat("\u00e9", 128),
	strings.Repeat(
		"x",
		300,
	), strings.Repeat("../", 80), "\xff\xfe", "{}", `"`, "'; --", "a=candidate:1", "con\u0000",
}

// namedOffer is an offer of a stream with a hostile name.
func namedOffer(sdp string, n int) string {
	name := hostileNames[n%len(hostileNames)]
	return strings.NewReplacer("STREAM00", name, "TRACK00", name+"'").Replace(sdp)
}

// bomb is a description that costs whoever parses it more than it costs to
// send. The service takes 64 KB.
func bomb(sdp string, n int) string {
	b := explosive(sdp, n)
	size := 0 // in JSON
	for i := range len(b) {
		if size++; b[i] < ' ' {
			size++
		}
		if size > 65_000 {
			return b[:i]
		}
	}
	return b
}

func explosive(sdp string, n int) string {
	section := sdp[strings.Index(sdp, "m="):]
	repeat := func(format string, times int) string {
		var b strings.Builder
		for i := range times {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	switch n % 14 {
	case 0:
		return sdp + repeat("m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:%d\r\n", 1500)
	case 1:
		return sdp + repeat("a=x-%d\r\n", 6000)
	case 2:
		return sdp + repeat("a=rtpmap:%d VP8/90000\r\n", 2500)
	case 3:
		return sdp + repeat("a=extmap:%d urn:x\r\n", 3000)
	case 4:
		return sdp + repeat("a=ssrc:%d msid:STREAM00 TRACK00\r\n", 1500)
	case 5:
		return sdp + "a=ssrc-group:FID" + repeat(" %d", 10_000) + "\r\n"
	case 6:
		return sdp + repeat("a=msid:s%d t\r\n", 4000)
	case 7:
		return sdp + "a=fmtp:96 " + repeat("x%d=1;", 7000) + "\r\n"
	case 8:
		return strings.Replace(
			sdp,
			"m=video 9 UDP/TLS/RTP/SAVPF",
			"m=video 9 UDP/TLS/RTP/SAVPF"+repeat(" %d", 12_000),
			1,
		)
	case 9:
		return sdp + strings.Repeat(section, min(30, 50_000/len(section)))
	case 10:
		return strings.ReplaceAll(sdp, "a=group:BUNDLE 0", "a=group:BUNDLE"+repeat(" %d", 10_000))
	case 11:
		return sdp + "a=simulcast:send " + strings.Repeat(
			"a,b;c,",
			9000,
		) + "\r\n" + repeat(
			"a=rid:%d send\r\n",
			500,
		)
	case 12:
		return strings.NewReplacer("9 UDP", "99999999999999999999 UDP", "/90000", "/-1", "a=mid:0", "a=mid:"+strings.Repeat("0", 30_000)).
			Replace(sdp)
	default:
		return sdp + strings.Repeat("\r\n\n\r", 14_000)
	}
}

// mutated is a description with a few things changed at random.
func mutated(sdp string) string {
	lines := strings.SplitAfter(sdp, "\r\n")
	for range 1 + rand.IntN(4) {
		i, j := rand.IntN(len(lines)), rand.IntN(len(lines))
		switch rand.IntN(6) {
		case 0:
			lines[i] = ""
		case 1:
			lines[i] += lines[j]
		case 2:
			lines[i], lines[j] = lines[j], lines[i]
		case 3:
			if b := []byte(lines[i]); len(b) > 0 {
				b[rand.IntN(len(b))] = byte(rand.UintN(128))
				lines[i] = string(b)
			}
		case 4:
			lines[i] = strings.ReplaceAll(lines[i], "9", "4294967296")
		default:
			lines[i] = lines[i][:rand.IntN(len(lines[i])+1)] + "\r\n"
		}
	}
	return strings.ToValidUTF8(strings.Join(lines, ""), "?")
}
