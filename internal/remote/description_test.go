package remote

import (
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/pion/webrtc/v4"
)

// offerText is an offer with the given m-line bodies.
func offerText(sections ...string) string {
	s := "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE"
	for i := range sections {
		s += fmt.Sprint(" ", i)
	}
	s += "\r\na=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n"
	for i, body := range sections {
		kind, attrs, _ := strings.Cut(body, "\n")
		s += fmt.Sprintf("m=%s\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n"+
			"a=fingerprint:sha-256 %s\r\na=setup:actpass\r\na=mid:%d\r\na=rtcp-mux\r\n", kind, strings.Repeat("AB:", 31)+"AB", i)
		for line := range strings.SplitSeq(attrs, "\n") {
			if line != "" {
				s += line + "\r\n"
			}
		}
	}
	return s
}

const (
	opusLine = "audio 9 UDP/TLS/RTP/SAVPF 111 63 9\n" +
		"a=rtpmap:111 opus/48000/2\na=fmtp:111 minptime=10;useinbandfec=1\na=rtcp-fb:111 transport-cc\n" +
		"a=rtpmap:63 red/48000/2\na=fmtp:63 111/111\na=rtpmap:9 G722/8000\n"
	videoLine = "video 9 UDP/TLS/RTP/SAVPF 102 103 96 97 98 99 45 46\n" +
		"a=rtpmap:102 H264/90000\na=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f\n" +
		"a=rtpmap:103 rtx/90000\na=fmtp:103 apt=102\n" +
		"a=rtpmap:96 VP8/90000\na=rtcp-fb:96 goog-remb\na=rtcp-fb:96 transport-cc\na=rtcp-fb:96 ccm fir\na=rtcp-fb:96 nack\na=rtcp-fb:96 nack pli\n" +
		"a=rtpmap:97 rtx/90000\na=fmtp:97 apt=96\n" +
		"a=rtpmap:98 VP9/90000\na=fmtp:98 profile-id=0\na=rtpmap:99 rtx/90000\na=fmtp:99 apt=98\n" +
		"a=rtpmap:45 AV1/90000\na=fmtp:45 level-idx=5;profile=0;tier=0\na=rtpmap:46 rtx/90000\na=fmtp:46 apt=45\n"
	dataLine = "application 9 UDP/DTLS/SCTP webrtc-datachannel\na=sctp-port:5000\n"
)

func parsed(t *testing.T, sdp string) *description {
	t.Helper()
	d, err := parseDescription(sdpEnvelope{"offer", sdp})
	must(t, err)
	return d
}

func TestASectionTellsWhatItSends(t *testing.T) {
	for _, c := range []struct {
		name, attrs, kind string
		sending           bool
		track             string
		streams           []string
	}{
		{"sendrecv", "a=sendrecv\na=msid:s t", "audio 9", true, "t", []string{"s"}},
		{"sendonly", "a=sendonly\na=msid:s t", "audio 9", true, "t", []string{"s"}},
		{"no direction", "a=msid:s t", "audio 9", true, "t", []string{"s"}},
		{"recvonly with a left-over msid", "a=recvonly\na=msid:s t\na=ssrc:1 msid:s t", "audio 9", false, "", nil},
		{"inactive", "a=inactive\na=msid:s t", "audio 9", false, "", nil},
		{"port 0", "a=sendrecv\na=msid:s t", "audio 0", false, "", nil},
		{"port 0, bundle-only", "a=sendrecv\na=bundle-only\na=msid:s t", "audio 0", true, "t", []string{"s"}},
		{"no stream", "a=sendrecv\na=msid:- t", "audio 9", true, "t", nil},
		{"stream without track", "a=sendrecv\na=msid:s", "audio 9", true, "", []string{"s"}},
		{"two streams", "a=sendrecv\na=msid:a t\na=msid:b t\na=msid:a t", "audio 9", true, "t", []string{"a", "b"}},
		{"source level", "a=sendrecv\na=ssrc:1 cname:x\na=ssrc:1 msid:s t", "audio 9", true, "t", []string{"s"}},
		{"no msid", "a=sendrecv\na=ssrc:1 cname:x", "audio 9", true, "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := parsed(t, offerText(c.kind+strings.TrimPrefix(opusLine, "audio 9")+c.attrs))
			s := d.sections[0]
			if s.sending != c.sending || s.track != c.track || !slices.Equal(s.streams, c.streams) {
				t.Errorf("section: sending %v, track %q, streams %q", s.sending, s.track, s.streams)
			}
		})
	}
}

// The parser's strings are parts of larger ones, and what they name is
// remembered as long as the recording lasts.
func TestNamesOfADescriptionDoNotKeepIt(t *testing.T) {
	const descriptions, each = 500, 400 // bytes
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var names [][]string
	before := heap()
	for range descriptions {
		s := parsed(t, offerText(opusLine+"a=sendonly\na=msid:stream track\n")).sections[0]
		names = append(names, append(s.streams, s.track, s.mid))
	}
	if grown := int64(heap()) - int64(before); grown > descriptions*each {
		t.Errorf("the names of each of %d descriptions keep %d bytes", descriptions, grown/descriptions)
	}
	runtime.KeepAlive(names)
}

func TestDescriptionsOutOfBoundsAreRefused(t *testing.T) {
	sending := opusLine + "a=sendrecv\n"
	many := func(n int, line string) (lines []string) {
		for range n {
			lines = append(lines, line)
		}
		return lines
	}
	numbered := func(n, per int) (lines []string) {
		for i := range n {
			line := sending
			for j := range per {
				line += fmt.Sprintf("a=msid:s%d-%d t\n", i, j)
			}
			lines = append(lines, line)
		}
		return lines
	}
	long := strings.Repeat("x", maxName+1)
	for name, sdp := range map[string]string{
		"empty":             "",
		"not sdp":           "hello",
		"no sections":       offerText(),
		"too many sections": offerText(many(maxSections+1, dataLine)...),
		"too many tracks":   offerText(many(maxTracks+1, sending)...),
		"too many streams":  offerText(numbered(maxTracks, 2)...),
		"streams of one":    offerText(numbered(1, maxStreams+1)...),
		"long stream id":    offerText(sending + "a=msid:" + long + " t\n"),
		"long track id":     offerText(sending + "a=msid:s " + long + "\n"),
		"long source id":    offerText(sending + "a=ssrc:1 msid:s " + long + "\n"),
		"no mid":            strings.ReplaceAll(offerText(sending), "a=mid:0\r\n", ""),
		"long mid":          strings.ReplaceAll(offerText(sending), "a=mid:0\r\n", "a=mid:"+strings.Repeat("x", maxMid+1)+"\r\n"),
		"mid twice":         strings.ReplaceAll(offerText(sending, sending), "a=mid:1\r\n", "a=mid:0\r\n"),
		"no fingerprint":    strings.ReplaceAll(offerText(sending), "a=fingerprint", "a=x-fingerprint"),
		"no ufrag":          strings.ReplaceAll(offerText(sending), "a=ice-ufrag", "a=x-ufrag"),
		"other media":       offerText("message 9 TCP/MSRP *\n"),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseDescription(sdpEnvelope{"offer", sdp})
			if !errors.Is(err, errDescription) {
				t.Fatalf("error: %v", err)
			}
			if strings.Contains(err.Error(), "abcd") || len(err.Error()) > 100 {
				t.Errorf("the error quotes the description: %v", err)
			}
		})
	}
	if _, err := parseDescription(sdpEnvelope{"offer", offerText(numbered(maxTracks, 1)...)}); err != nil {
		t.Errorf("the most that is allowed was refused: %v", err)
	}
}

func TestConnectionsAreToldApartBySessionOrFingerprint(t *testing.T) {
	text := offerText(opusLine)
	d := parsed(t, text)
	for name, c := range map[string]struct {
		edit func(string) string
		same bool
	}{
		"next version":      {replacing("336 2 IN", "336 3 IN"), true},
		"ice restart":       {replacing("ice-ufrag:abcd", "ice-ufrag:efgh"), true},
		"other case":        {replacing("AB:AB", "ab:ab"), true},
		"other session":     {replacing("4611731400430051336", "4611731400430051337"), false},
		"other fingerprint": {replacing("sha-256 AB", "sha-256 AC"), false},
	} {
		if same := parsed(t, c.edit(text)).sameConnection(d); same != c.same {
			t.Errorf("%s: same connection: %v", name, same)
		}
	}
}

// withLink calls f with a link that leads nowhere.
func withLink(t *testing.T, f func(*link)) {
	t.Helper()
	api, err := NewAPI(APIOptions{Logger: testLogger(t)})
	must(t, err)
	in := newInlet()
	pc, err := api.newPeerConnection(nil, in, newCheckBudget(api.metrics))
	must(t, err)
	defer pc.GracefulClose()
	l := newLink(1, pc, in, &metadataStore{}, false, func(func(*link)) {}, callbacks{})
	defer l.end()
	f(l)
}

// answerTo runs an offer through pion, as a link does.
func answerTo(t *testing.T, sdp string) (answer string, events []Event) {
	t.Helper()
	withLink(t, func(l *link) {
		d := parsed(t, sdp)
		var err error
		answer, events, err = l.answer(d)
		must(t, err)
	})
	return answer, events
}

// payloads lists the codecs of the n-th m-line in order.
func payloads(t *testing.T, sdp string, n int) []string {
	t.Helper()
	section := strings.Split(sdp, "\r\nm=")[n+1]
	var names []string
	for _, pt := range strings.Fields(strings.Split(section, "\r\n")[0])[3:] {
		_, rest, ok := strings.Cut(section, "a=rtpmap:"+pt+" ")
		if !ok {
			t.Fatalf("payload type %s is not described", pt)
		}
		name, _, _ := strings.Cut(rest, "/")
		names = append(names, pt+" "+name)
	}
	return names
}

func TestTheAnswerPrefersREDForOpus(t *testing.T) {
	answer, _ := answerTo(t, offerText(opusLine+"a=sendrecv\na=msid:s t\na=ssrc:1 cname:x\n"))
	if got := payloads(t, answer, 0); !slices.Equal(got, []string{"63 red", "111 opus"}) {
		t.Errorf("codecs: %v", got)
	}
	for _, line := range []string{"a=fmtp:63 111/111\r\n", "a=fmtp:111 " + opusFmtp + "\r\n", "a=rtcp-fb:111 transport-cc \r\n", "a=recvonly\r\n"} {
		if !strings.Contains(answer, line) && !strings.Contains(answer, strings.Replace(line, " \r", "\r", 1)) {
			t.Errorf("the answer lacks %q", line)
		}
	}
	if strings.Contains(answer, "nack") {
		t.Error("the answer asks for audio again")
	}
}

func TestREDFollowsThePayloadTypesOfTheOffer(t *testing.T) {
	moved := strings.NewReplacer("111", "109", "63", "120").Replace(opusLine)
	answer, events := answerTo(t, offerText(moved+"a=sendrecv\na=msid:s t\na=ssrc:1 cname:x\n"))
	if got := payloads(t, answer, 0); !slices.Equal(got, []string{"120 red", "109 opus"}) {
		t.Errorf("codecs: %v", got)
	}
	formats := events[0].(TrackAdded).Track.Formats()
	if len(formats) != 2 || formats[120].MimeType != "audio/red" || formats[109].MimeType != webrtc.MimeTypeOpus ||
		formats[120].SDPFmtpLine != "109/109" || formats[109].ClockRate != 48000 || formats[109].Channels != 2 {
		t.Errorf("formats: %v", formats)
	}
}

// What a member says of the channels it sends reaches the writer with the format: the answer's own
// parameters, which pion keeps, do not say it.
func TestAMembersStereoIsToldWithTheFormat(t *testing.T) {
	offer := func(fmtp string) *description {
		audio := strings.Replace(opusLine, "a=fmtp:111 minptime=10;useinbandfec=1\n", fmtp, 1)
		return parsed(t, offerText(audio+"a=sendrecv\na=msid:s t\na=ssrc:1 cname:x\n"))
	}
	for _, c := range []struct {
		fmtp string
		want bool
	}{
		{"a=fmtp:111 minptime=10;useinbandfec=1\n", false},
		{"", false},
		{"a=fmtp:111 minptime=10;useinbandfec=1;sprop-stereo=1\n", true},
		{"a=fmtp:111 sprop-stereo=1; useinbandfec=1\n", true},
		{"a=fmtp:111 useinbandfec=1; SPROP-STEREO=1\n", true},
		{"a=fmtp:111 sprop-stereo=0;stereo=1\n", false},
		{"a=fmtp:111 x-sprop-stereo=1;stereo=1\n", false},
		{"a=fmtp:9 sprop-stereo=1\n", false},
		{"a=fmtp:63 111/111;sprop-stereo=1\n", false},
		{"a=fmtp:111 useinbandfec=1\na=fmtp:111 sprop-stereo=1\n", true},
		{"a=fmtp:111 sprop-stereo=1;" + strings.Repeat("x", 4000) + "\n", true},
	} {
		withLink(t, func(l *link) {
			answer, _, err := l.answer(offer(c.fmtp))
			must(t, err)
			says := l.tracks[0].Formats()[111].SDPFmtpLine
			if got := strings.HasSuffix(says, ";sprop-stereo=1"); got != c.want || len(says) > 100 {
				t.Errorf("%.60q: the format is %.200q", c.fmtp, says)
			}
			if !strings.Contains(answer, "a=fmtp:111 "+opusFmtp+"\r\n") {
				t.Errorf("%.60q: the answer has other parameters than ours", c.fmtp)
			}
			_, _, err = l.answer(offer("a=fmtp:111 sprop-stereo=1\n")) // the same track, turned stereo
			must(t, err)
			if says := l.tracks[0].Formats()[111].SDPFmtpLine; !strings.HasSuffix(says, ";sprop-stereo=1") {
				t.Errorf("after another offer the format is %q", says)
			}
		})
	}
}

func TestWithoutREDInTheOfferOpusIsAnswered(t *testing.T) {
	plain := "audio 9 UDP/TLS/RTP/SAVPF 111\na=rtpmap:111 opus/48000/2\n"
	answer, _ := answerTo(t, offerText(plain+"a=sendrecv\na=msid:s t\na=ssrc:1 cname:x\n"))
	if got := payloads(t, answer, 0); !slices.Equal(got, []string{"111 opus"}) {
		t.Errorf("codecs: %v", got)
	}
}

func TestTheAnswerPrefersVP8AndNegotiatesFeedbackWithRTX(t *testing.T) {
	answer, events := answerTo(t, offerText(videoLine+"a=sendrecv\na=msid:s t\na=ssrc-group:FID 1 2\na=ssrc:1 cname:x\na=ssrc:2 cname:x\n"))
	got := payloads(t, answer, 0)
	if primary := slices.DeleteFunc(slices.Clone(got), func(s string) bool { return strings.HasSuffix(s, "rtx") }); !slices.Equal(primary, []string{"96 VP8", "98 VP9", "45 AV1", "102 H264"}) {
		t.Errorf("codecs: %v", got)
	}
	for _, line := range []string{"nack", "nack pli", "ccm fir", "transport-cc"} {
		if !strings.Contains(strings.ReplaceAll(answer, " \r\n", "\r\n"), "a=rtcp-fb:96 "+line+"\r\n") {
			t.Errorf("the answer lacks %s", line)
		}
	}
	if !strings.Contains(answer, "a=fmtp:97 apt=96\r\n") || strings.Contains(answer, "goog-remb") {
		t.Error("the answer lacks RTX or has goog-remb")
	}
	for pt, f := range events[0].(TrackAdded).Track.Formats() {
		if f.MimeType == webrtc.MimeTypeRTX {
			t.Errorf("format %d is RTX", pt)
		}
	}
}

// Whatever earlier offers of a section had, an answer has what this one has, and the track knows all.
func TestAnOfferOfOtherCodecsIsAnsweredWithThose(t *testing.T) {
	lines := []string{
		"video 9 UDP/TLS/RTP/SAVPF 96 97\na=rtpmap:96 VP8/90000\na=rtpmap:97 rtx/90000\na=fmtp:97 apt=96\n",
		"video 9 UDP/TLS/RTP/SAVPF 98 99\na=rtpmap:98 VP9/90000\na=fmtp:98 profile-id=0\na=rtpmap:99 rtx/90000\na=fmtp:99 apt=98\n",
		videoLine,
	}
	want := [][]string{{"96 VP8", "97 rtx"}, {"98 VP9", "99 rtx"}, {"96 VP8", "98 VP9", "45 AV1", "102 H264", "103 rtx", "97 rtx", "99 rtx", "46 rtx"}}
	withLink(t, func(l *link) {
		for i, line := range lines {
			d := parsed(t, offerText(line+"a=sendrecv\na=msid:s t\na=ssrc:1 cname:x\n"))
			answer, _, err := l.answer(d)
			must(t, err)
			got := payloads(t, answer, 0)
			slices.Sort(got)
			slices.Sort(want[i])
			if !slices.Equal(got, want[i]) {
				t.Errorf("offer %d is answered with %v", i, got)
			}
			formats := l.tracks[0].Formats()
			if n := []int{1, 2, 4}[i]; len(formats) != n {
				t.Errorf("after offer %d the formats are %v", i, formats)
			}
		}
	})
}

func TestOfSimulcastTheLastLayerIsTaken(t *testing.T) {
	answer, events := answerTo(t, offerText(videoLine+"a=sendrecv\na=msid:s t\n"+
		"a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\na=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\n"+
		"a=rid:q send\na=rid:h send\na=rid:f send\na=simulcast:send q;h;f\n"))
	if !strings.Contains(answer, "a=simulcast:recv f\r\n") || strings.Contains(answer, "a=rid:q") || len(events) != 2 {
		t.Errorf("answer takes %q", attribute(answer, "simulcast"))
	}
}

func TestSeveralSourcesInALineAreOneTrack(t *testing.T) {
	_, events := answerTo(t, offerText(videoLine+"a=sendrecv\na=msid:s t\na=ssrc-group:SIM 1 3\na=ssrc-group:FID 1 2\na=ssrc-group:FID 3 4\n"+
		"a=ssrc:1 cname:x\na=ssrc:2 cname:x\na=ssrc:3 cname:x\na=ssrc:4 cname:x\n"))
	if got := describe(events); !slices.Equal(got, []string{"track t[s]", "stream+ s"}) {
		t.Errorf("events: %v", got)
	}
}

func TestALineThatOnlyReceivesIsAnsweredInactive(t *testing.T) {
	for _, dir := range []string{"recvonly", "inactive"} {
		answer, events := answerTo(t, offerText(opusLine+"a="+dir+"\na=msid:s t\n"))
		if !strings.Contains(answer, "a=inactive\r\n") || len(events) != 0 {
			t.Errorf("%s: events %v", dir, events)
		}
	}
}

// addressLine is what could tell pion of an address.
var addressLine = regexp.MustCompile(`(?m)^(c=|a=(candidate|remote-candidates|rtcp):)`)

// FuzzDescription: a description is refused or within bounds, and pion's
// wording of it can be read again.
func FuzzDescription(f *testing.F) {
	f.Add(offerText(opusLine + "a=sendrecv\na=msid:s t\na=ssrc:1 msid:s t\n"))
	f.Add(offerText(videoLine+"a=recvonly\n", dataLine))
	f.Add(offerText(videoLine + "a=rid:q send\na=rid:f send\na=simulcast:send q;f\na=ssrc-group:FID 1 2\na=ssrc:1 x\na=candidate:1 1 udp 1 10.0.0.1 1 typ host\n"))
	f.Fuzz(func(t *testing.T, sdp string) {
		d, err := parseDescription(sdpEnvelope{"offer", sdp})
		if err != nil {
			return
		}
		sending := 0
		for _, s := range d.sections {
			if s.sending {
				sending++
			}
			if len(s.mid) > maxMid || len(s.trackID()) > maxName+maxMid || len(s.streams) > maxStreams {
				t.Errorf("section out of bounds: %+v", s)
			}
		}
		if len(d.sections) > maxSections || sending > maxTracks {
			t.Error("description out of bounds")
		}
		for _, known := range []map[string]bool{{}, {"0": true}} {
			out, err := d.forPion(known)
			must(t, err)
			again, err := parseDescription(sdpEnvelope{"offer", out.SDP})
			if err != nil {
				continue // the marshaller keeps what the parser does not take
			}
			if len(again.candidates()) != 0 || addressLine.MatchString(out.SDP) {
				t.Error("candidates were left")
			}
		}
	})
}
