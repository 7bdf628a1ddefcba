package remote

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"
)

// link is one PeerConnection of a peer, and all that dies with it. What must
// survive a reconnect is a field of Peer. Everything here belongs to the
// peer's event loop; pion's callbacks only post to it, with the generation.
type link struct {
	gen    uint64
	pc     *webrtc.PeerConnection
	inlet  *inlet // what pc receives
	meta   *metadataStore
	post   func(func(*link)) // runs f on the loop while this link counts
	on     callbacks
	sender uint32                // SSRC of our RTCP
	rtcp   *webrtc.DTLSTransport // where it goes

	neg     negotiation
	remote  *description              // the last one applied
	applied webrtc.SessionDescription // the same, in the words pion got
	setup   string                    // the member's DTLS role: active or passive
	ufrag   string                    // ours, of the last local description
	sent    string                    // that description as it was sent
	mids    map[string]bool           // every m-line there ever was
	wedged  bool                      // a description was applied by half; no other can follow
	faulty  bool                      // a panic ended it
	restart bool                      // the next offer has to restart ICE
	failed  bool                      // that DTLS failed was reported
	refused int                       // data channels of the member there was no room for

	generation string // the member's ICE user name, of the last description
	candidates int    // of this generation

	tracks   []*Track // live
	streams  []*Stream
	channels []*DataChannel

	ended  context.Context // ends with everything the connection carries
	finish context.CancelFunc
}

// callbacks of a link. All but channel are called on the loop.
type callbacks struct {
	candidate func(*link, *webrtc.ICECandidate)
	changed   func(*link)
	crowded   func(*link)
	channel   func(*link, *webrtc.DataChannel)
	track     func(*link, *webrtc.TrackRemote, *webrtc.RTPReceiver)
	delivered func(*link) // a track delivered its first packet
}

func newLink(gen uint64, pc *webrtc.PeerConnection, in *inlet, meta *metadataStore, polite bool,
	post func(func(*link)), on callbacks,
) *link {
	l := &link{
		gen: gen, pc: pc, inlet: in, meta: meta, post: post, on: on, sender: rand.Uint32() | 1, rtcp: pc.SCTP().Transport(),
		neg: negotiation{polite: polite}, mids: map[string]bool{},
	}
	l.ended, l.finish = context.WithCancel(context.Background())
	in.crowded = func() { post(on.crowded) }
	in.feedback.run(l.sender, in.fault, in.reports, l.writeRTCP)
	pc.OnICECandidate(func(c *webrtc.ICECandidate) { post(func(l *link) { on.candidate(l, c) }) })
	pc.OnConnectionStateChange(func(webrtc.PeerConnectionState) { post(on.changed) })
	pc.OnICEConnectionStateChange(func(webrtc.ICEConnectionState) { post(on.changed) })
	pc.OnDataChannel(func(raw *webrtc.DataChannel) {
		// The wrapper has to exist before the first message is read.
		on.channel(l, raw)
	})
	pc.OnTrack(func(t *webrtc.TrackRemote, r *webrtc.RTPReceiver) {
		post(func(l *link) { on.track(l, t, r) })
	})
	return l
}

// writeRTCP sends packets as pc.WriteRTCP does, less the detour through
// interceptors, of which there are none: it allocates a map each time.
func (l *link) writeRTCP(packets []rtcp.Packet) error {
	_, err := l.rtcp.WriteRTCP(packets)
	return err
}

// condition says what the connection is like.
func (l *link) condition() condition {
	switch l.pc.ConnectionState() {
	case webrtc.PeerConnectionStateConnected:
		return up
	case webrtc.PeerConnectionStateDisconnected, webrtc.PeerConnectionStateFailed, webrtc.PeerConnectionStateClosed:
		return broken
	default:
		if l.remote == nil && !l.neg.pending {
			return dormant
		}
		return negotiating
	}
}

func (l *link) closed() bool {
	return l.pc.ConnectionState() == webrtc.PeerConnectionStateClosed
}

// offer creates and applies an offer of ours.
func (l *link) offer() (sdp string, err error) {
	restart := l.restart && l.remote != nil
	l.restart = false
	offer, err := l.pc.CreateOffer(&webrtc.OfferOptions{
		OfferAnswerOptions: webrtc.OfferAnswerOptions{ICETricklingSupported: true},
		ICERestart:         restart,
	})
	if err != nil {
		return "", fmt.Errorf("create offer: %w", err)
	}
	if err := l.pc.SetLocalDescription(offer); err != nil {
		return "", fmt.Errorf("apply offer: %w", err)
	}
	l.noteLocal(offer.SDP)
	return nameDataSection(offer.SDP), nil
}

// nameDataSection gives the section of data channels in an offer a mid of its
// own. pion names a new one by the number of sections there are, and a section
// of the member may have that name: a browser that took an offer back leaves a
// gap in its numbers. pion takes on the name that the answer has.
func nameDataSection(sdp string) string {
	at := strings.LastIndex(sdp, "\r\nm=application ")
	if at < 0 {
		return sdp
	}
	line := "\r\na=mid:" + attribute(sdp[at:], "mid") + "\r\n"
	if strings.Count(sdp, line) < 2 {
		return sdp
	}
	name := "data"
	for strings.Contains(sdp, "\r\na=mid:"+name+"\r\n") {
		name += "-"
	}
	rest, section := sdp[:at], strings.Replace(sdp[at:], line, "\r\na=mid:"+name+"\r\n", 1)
	head, group, ok := strings.Cut(rest, "\r\na=group:BUNDLE ")
	if mids, tail, found := strings.Cut(group, "\r\n"); ok && found {
		mids = mids[:strings.LastIndex(mids, " ")+1] + name // the section is the last
		rest = head + "\r\na=group:BUNDLE " + mids + "\r\n" + tail
	}
	return rest + section
}

// answer applies an offer and creates and applies the answer. The events
// tell what the offer changed.
func (l *link) answer(d *description) (sdp string, events []Event, err error) {
	// pion may have changed state before it failed.
	defer func() { l.wedged = l.pc.SignalingState() != webrtc.SignalingStateStable }()
	if err := l.applyRemote(d); err != nil {
		return "", nil, err
	}
	formats := map[string]map[uint8]webrtc.RTPCodecParameters{}
	for _, t := range l.pc.GetTransceivers() {
		f, err := prefer(t, d.payloadTypes(t.Mid()))
		if err != nil {
			return "", nil, fmt.Errorf("order codecs: %w", err)
		}
		formats[t.Mid()] = f
	}
	answer, err := l.pc.CreateAnswer(&webrtc.AnswerOptions{
		OfferAnswerOptions: webrtc.OfferAnswerOptions{ICETricklingSupported: true},
	})
	if err != nil {
		return "", nil, fmt.Errorf("create answer: %w", err)
	}
	if err := l.pc.SetLocalDescription(answer); err != nil {
		return "", nil, fmt.Errorf("apply answer: %w", err)
	}
	l.noteLocal(answer.SDP)
	return l.answering(answer.SDP), l.update(formats), nil
}

// applyAnswer applies the answer to our offer.
func (l *link) applyAnswer(d *description) ([]Event, error) {
	if err := l.applyRemote(d); err != nil {
		l.wedged = true
		return nil, err
	}
	if l.setup == "" {
		l.setup = attribute(l.applied.SDP, "setup")
	}
	formats := map[string]map[uint8]webrtc.RTPCodecParameters{}
	for _, t := range l.pc.GetTransceivers() {
		formats[t.Mid()] = formatsOf(t.Receiver().GetParameters().Codecs)
	}
	return l.update(formats), nil
}

func (l *link) applyRemote(d *description) error {
	remote, err := d.forPion(l.mids)
	if err != nil {
		return err
	}
	if err := l.pc.SetRemoteDescription(remote); err != nil {
		return fmt.Errorf("apply remote %s: %w", d.kind, err)
	}
	l.remote, l.applied = d, remote
	for _, s := range d.sections {
		l.mids[s.mid] = true
	}
	return nil
}

// maxMids bounds the names that the sections of one connection ever had: pion
// keeps a transceiver for each. Browsers reach 64 KB of offer with 40.
const maxMids = 2 * maxSections

var errManySections = errors.New("too many sections over time")

// outgrown reports whether a description brings more sections than a connection may have.
func (l *link) outgrown(d *description) bool {
	n := len(l.mids)
	for _, s := range d.sections {
		if !l.mids[s.mid] {
			n++
		}
	}
	return n > maxMids
}

// rollback takes back our pending offer. pion cannot roll back, so the offer
// is answered in the member's name with what was agreed on before: nothing
// changes, and the connection is stable again. Only for a connection that
// has a remote description.
func (l *link) rollback() error {
	lines := strings.Split(l.applied.SDP, "\r\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "a=setup:") {
			lines[i] = "a=setup:" + l.setup
		}
	}
	err := l.pc.SetRemoteDescription(webrtc.SessionDescription{
		Type: webrtc.SDPTypeAnswer, SDP: strings.Join(lines, "\r\n"),
	})
	if err != nil {
		l.wedged = true
		return fmt.Errorf("roll back offer: %w", err)
	}
	return nil
}

func (l *link) noteLocal(sdp string) {
	l.ufrag = attribute(sdp, "ice-ufrag")
}

// attribute returns the first value of an SDP attribute.
func attribute(sdp, key string) string {
	_, rest, ok := strings.Cut(sdp, "a="+key+":")
	if !ok {
		return ""
	}
	value, _, _ := strings.Cut(rest, "\r\n")
	return value
}

// wantsOffer reports whether a data channel waits for data channels to be
// negotiated.
func (l *link) wantsOffer() bool {
	return (l.remote == nil || !l.remote.hasData()) && slices.ContainsFunc(l.channels, (*DataChannel).unopened)
}

// addChannel opens d on this connection.
func (l *link) addChannel(d *DataChannel) error {
	if !l.roomForChannel() {
		return errChannelLimit
	}
	raw, err := l.pc.CreateDataChannel(d.label, d.init)
	if err != nil {
		return fmt.Errorf("create data channel: %w", err)
	}
	l.channels = append(l.channels, d)
	d.bind(raw)
	return nil
}

// roomForChannel reports whether there may be one more data channel.
func (l *link) roomForChannel() bool {
	l.channels = slices.DeleteFunc(l.channels, (*DataChannel).over)
	return len(l.channels) < maxChannels
}

// dropChannels ends the channels and returns, taken off this connection,
// those that keep asks for.
func (l *link) dropChannels(keep bool) (kept []*DataChannel) {
	for _, d := range l.channels {
		if keep && d.unopened() {
			d.unbind()
			kept = append(kept, d)
		} else {
			d.shut()
		}
	}
	l.channels = nil
	return kept
}

// end is the end of everything the connection carried.
func (l *link) end() {
	for _, t := range l.tracks {
		t.end()
	}
	l.inlet.close()
	l.dropChannels(false)
	l.finish()
}
