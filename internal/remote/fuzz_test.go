package remote

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"
)

// hostileLines take the place of a description's own.
var hostileLines = []string{
	"", "a=", "a=mid:", "a=mid:0", "a=mid:1", "a=mid:-1", "a=mid:99999999999999999999", "a=sendrecv", "a=inactive", "a=recvonly", "a=bundle-only",
	"a=group:BUNDLE", "a=group:BUNDLE 0 0 7", "a=ssrc:1", "a=ssrc:99999999999 cname:x", "a=ssrc:1 msid:", "a=ssrc-group:FID 1 1", "a=ssrc-group:FID 1",
	"a=ssrc-group:FEC-FR 1 2", "a=ssrc-group:SIM 1 2 3", "a=rid:a send", "a=rid:a recv pt=1;max-width=0", "a=simulcast:send a;~b,c", "a=simulcast:recv a",
	"a=extmap:0 urn:x", "a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid", "a=extmap:255/sendonly urn:y", "a=extmap-allow-mixed", "a=rtpmap:96 VP8/0",
	"a=rtpmap:96 H264/90000", "a=rtpmap:96 rtx/90000", "a=fmtp:96 apt=96", "a=fmtp:97 apt=97", "a=fmtp:96 profile-level-id=zz;packetization-mode=9",
	"a=rtpmap:63 red/48000/2", "a=fmtp:63 63/63/63", "a=rtpmap:999 opus/48000/2", "a=rtcp-fb:* nack", "a=rtcp-fb:96", "a=setup:passive", "a=setup:holdconn",
	"a=fingerprint:sha-256 00", "a=fingerprint:md5 AB:AB", "a=ice-ufrag:", "a=ice-pwd:", "a=ice-lite", "a=ice-options:trickle renomination", "a=sctp-port:0",
	"a=max-message-size:0", "a=candidate:1 1 udp 1 10.9.0.1 9 typ host", "a=candidate:", "a=end-of-candidates", "a=rtcp-mux-only", "a=cryptex", "a=sctp-init:AAAA",
	"m=audio 0 UDP/TLS/RTP/SAVPF 111", "m=video 9 UDP/TLS/RTP/SAVPF", "m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "m=audio 9 RTP/AVP 0 0 0 255 256",
	"c=IN IP6 ::", "b=AS:-1", "t=0 0", "v=1", "o=- 1 1 IN IP4 x", "s=", "k=prompt", "z=0 0", "r=1 1 1",
}

// disturbed returns a description with lines taken out, doubled, moved and
// replaced: three bytes a change.
func disturbed(sdp string, changes []byte) string {
	lines := strings.Split(strings.TrimSuffix(sdp, "\r\n"), "\r\n")
	for c := range slices.Chunk(changes, 3) {
		if len(c) < 3 || len(lines) == 0 {
			break
		}
		at, other := int(c[1])%len(lines), int(c[2])
		switch c[0] % 5 {
		case 0:
			lines = slices.Delete(lines, at, at+1)
		case 1:
			lines = slices.Insert(lines, other%len(lines), lines[at])
		case 2:
			lines[at], lines[other%len(lines)] = lines[other%len(lines)], lines[at]
		case 3:
			lines[at] = hostileLines[other%len(hostileLines)]
		case 4:
			lines = slices.Insert(lines, at, hostileLines[other%len(hostileLines)])
		}
	}
	return strings.Join(lines, "\r\n") + "\r\n"
}

// FuzzOffers: whatever a member offers, first and then, is answered or refused,
// and an answer of ours can be read.
func FuzzOffers(f *testing.F) {
	simulcast := videoLine + "a=sendrecv\na=msid:s t\na=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\n" +
		"a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\na=rid:q send\na=rid:f send\na=simulcast:send q;f\n"
	camera := []string{
		opusLine + "a=sendrecv\na=msid:s t\na=ssrc:1 cname:x\n",
		videoLine + "a=sendrecv\na=msid:s u\na=ssrc-group:FID 2 3\na=ssrc:2 cname:x\na=ssrc:3 cname:x\n", simulcast, dataLine,
	}
	base := offerText(camera...)
	f.Add([]byte{}, []byte{})
	f.Add([]byte{3, 20, 8, 4, 30, 14}, []byte{0, 9, 9})
	f.Add([]byte{2, 12, 40}, []byte{3, 2, 33, 1, 60, 5})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		withLink(t, func(l *link) {
			for _, changes := range [][]byte{first, second} {
				d, err := parseDescription(sdpEnvelope{"offer", disturbed(base, changes)})
				if err != nil {
					continue
				}
				answer, _, err := l.answer(d)
				if err != nil {
					return // the link is wedged, or the offer was refused
				}
				var read sdp.SessionDescription
				if err := read.UnmarshalString(answer); err != nil || len(read.MediaDescriptions) != len(d.sections) {
					t.Errorf("answer with %d of %d sections: %v", len(read.MediaDescriptions), len(d.sections), err)
				}
				l.dropChannels(true)
			}
		})
	})
}

// FuzzCandidate: a candidate is taken or refused.
func FuzzCandidate(f *testing.F) {
	for _, text := range []string{
		"", "candidate:1 1 udp 1 10.9.0.1 9 typ host", "candidate:1 1 tcp 1518280447 10.0.0.2 9 typ host tcptype active generation 0 ufrag abcd network-id 1",
		"candidate:2 1 udp 2113937151 5d9a7f2c.local 54321 typ host", "candidate:842163049 1 udp 1677729535 ::1 46154 typ srflx raddr 0.0.0.0 rport 0",
		"1 2 udp 4294967296 x 99999 typ relay raddr", "candidate:1 1 udp 1 10.9.0.1 9 typ prflx raddr x rport y ufrag",
	} {
		f.Add(text, "abcd", uint16(0))
	}
	f.Fuzz(func(t *testing.T, text, ufrag string, line uint16) {
		withLink(t, func(l *link) {
			d := parsed(t, offerText(opusLine+"a=sendrecv\na=msid:s t\n"))
			_, _, err := l.answer(d)
			must(t, err)
			c := webrtc.ICECandidateInit{Candidate: text, SDPMLineIndex: &line, UsernameFragment: &ufrag}
			if got := candidateUfrag(c); got != ufrag && !strings.Contains(text, " ufrag "+got) {
				t.Errorf("ufrag %q, not %q", got, ufrag)
			}
			_ = l.pc.AddICECandidate(c)
		})
	})
}

// FuzzRTCP: only what speaks of the track's own source reaches the writer.
func FuzzRTCP(f *testing.F) {
	for _, ssrc := range []uint32{7, 8} {
		report := binary.BigEndian.AppendUint32([]byte{0x80, 200, 0, 6}, ssrc)
		f.Add(append(report, make([]byte, 20)...))
	}
	f.Add([]byte{0x81, 203, 0, 1, 0, 0, 0, 7})
	f.Add([]byte{0x9f, 205, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		sink := &sinkhole{}
		track := newTestTrack(sink)
		track.ssrc.Store(7)
		track.takeRTCP(b, time.Now())
		if _, reports, _ := sink.counts(); reports > bytes.Count(b, []byte{0, 0, 0, 7}) {
			t.Errorf("%d reports", reports)
		}
	})
}
