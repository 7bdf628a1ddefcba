package remote

import (
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
	meta   *metadataStore
	post   func(func(*link)) // runs f on the loop while this link counts
	on     callbacks
	sender uint32 // SSRC of our RTCP

	neg     negotiation
	remote  *description              // the last one applied
	applied webrtc.SessionDescription // the same, in the words pion got
	setup   string                    // the member's DTLS role: active or passive
	ufrag   string                    // ours, of the last local description
	mids    map[string]bool           // every m-line there ever was
	wedged  bool                      // a description was applied by half; no other can follow
	restart bool                      // the next offer has to restart ICE
	failed  bool                      // that DTLS failed was reported

	tracks   []*Track // live
	streams  []*Stream
	channels []*DataChannel
}

// callbacks of a link. All but channel are called on the loop.
type callbacks struct {
	candidate func(*link, *webrtc.ICECandidate)
	changed   func(*link)
	channel   func(*link, *webrtc.DataChannel)
	track     func(*link, *webrtc.TrackRemote, *webrtc.RTPReceiver)
	delivered func(*link) // a track delivered its first packet
}

func newLink(gen uint64, pc *webrtc.PeerConnection, meta *metadataStore, polite bool,
	post func(func(*link)), on callbacks,
) *link {
	l := &link{
		gen: gen, pc: pc, meta: meta, post: post, on: on, sender: rand.Uint32() | 1,
		neg: negotiation{polite: polite}, mids: map[string]bool{},
	}
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
	return offer.SDP, nil
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
		f, err := prefer(t)
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
	if l.setup == "" {
		l.setup = "passive"
		if attribute(answer.SDP, "setup") == "passive" {
			l.setup = "active"
		}
	}
	return answer.SDP, l.update(formats), nil
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

// update compares the tracks there are with those of the last description,
// since pion tells of a track late and of its removal never. Tracks that
// come are in place before the first event of the description.
func (l *link) update(formats map[string]map[uint8]webrtc.RTPCodecParameters) (events []Event) {
	for _, s := range l.remote.sections {
		if s.sending {
			l.meta.claim(s.trackID(), s.streams, s.kind == webrtc.RTPCodecTypeAudio)
		}
	}
	var gone, came []*Track
	var left []*Stream // streams that lost a track
	for _, s := range l.remote.sections {
		if s.data {
			continue
		}
		t := l.track(s.mid)
		switch {
		case t == nil && !s.sending:
			continue
		case t != nil && s.sending && t.id == s.trackID():
			t.setFormats(formats[s.mid])
			if old := t.StreamIDs(); !slices.Equal(old, s.streams) {
				t.setStreams(s.streams)
				for _, id := range old {
					if !slices.Contains(s.streams, id) {
						left = append(left, l.leave(t, id)...)
					}
				}
				came = append(came, t)
			}
			continue
		case t != nil:
			gone = append(gone, t)
			l.tracks = slices.DeleteFunc(l.tracks, func(other *Track) bool { return other == t })
		}
		if s.sending {
			t := l.newTrack(s, formats[s.mid])
			l.tracks = append(l.tracks, t)
			came = append(came, t)
		}
	}
	for _, t := range slices.Clone(l.tracks) {
		if !slices.ContainsFunc(l.remote.sections, func(s section) bool { return s.mid == t.mid }) {
			gone = append(gone, t)
			l.tracks = slices.DeleteFunc(l.tracks, func(other *Track) bool { return other == t })
		}
	}

	fresh := map[*Stream]bool{}
	for _, t := range came {
		for _, id := range t.StreamIDs() {
			if l.join(t, id) {
				fresh[l.stream(id)] = true
			}
		}
	}
	for _, t := range gone {
		t.end()
		for _, id := range t.StreamIDs() {
			left = append(left, l.leave(t, id)...)
		}
	}
	for _, t := range came {
		streams := l.streamsOf(t)
		events = append(events, TrackAdded{Track: t, Streams: streams, Metadata: t.Metadata()})
		for _, s := range streams {
			if fresh[s] {
				delete(fresh, s)
				events = append(events, StreamAdded{Stream: s, Metadata: s.Metadata()})
			}
		}
	}
	for _, s := range left {
		if len(s.Tracks()) == 0 && slices.Contains(l.streams, s) {
			l.streams = slices.DeleteFunc(l.streams, func(other *Stream) bool { return other == s })
			events = append(events, StreamRemoved{Stream: s})
		}
	}
	return events
}

func (s section) trackID() string {
	if s.track == "" {
		return "mid:" + s.mid
	}
	return s.track
}

func (l *link) newTrack(s section, formats map[uint8]webrtc.RTPCodecParameters) *Track {
	t := &Track{
		id: s.trackID(), mid: s.mid, kind: s.kind, metadata: l.meta,
		streams: s.streams, formats: formats, wanted: make(chan struct{}),
	}
	t.delivered = func() { l.post(l.on.delivered) }
	t.stopped = func(remote *webrtc.TrackRemote) {
		l.post(func(l *link) {
			// Another source of the same track may follow on a live connection.
			if l.closed() && t.reading() == remote {
				t.end()
			}
		})
	}
	t.sendRTCP = func(packets ...rtcp.Packet) error {
		for _, p := range packets {
			switch p := p.(type) {
			case *rtcp.PictureLossIndication:
				p.SenderSSRC = l.sender
			case *rtcp.FullIntraRequest:
				p.SenderSSRC = l.sender
			case *rtcp.TransportLayerNack:
				p.SenderSSRC = l.sender
			}
		}
		if err := l.pc.WriteRTCP(packets); err != nil {
			return fmt.Errorf("send feedback: %w", err)
		}
		return nil
	}
	return t
}

func (l *link) track(mid string) *Track {
	for _, t := range l.tracks {
		if t.mid == mid {
			return t
		}
	}
	return nil
}

// trackFor finds the track of something pion started to receive. A source
// that the description does not name arrives on a transceiver of pion's own.
func (l *link) trackFor(remote *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) *Track {
	if tr := receiver.RTPTransceiver(); tr != nil && tr.Mid() != "" {
		return l.track(tr.Mid())
	}
	for _, t := range l.tracks {
		if t.kind == remote.Kind() && t.reading() == nil {
			return t
		}
	}
	return nil
}

func (l *link) stream(id string) *Stream {
	for _, s := range l.streams {
		if s.id == id {
			return s
		}
	}
	return nil
}

func (l *link) streamsOf(t *Track) (streams []*Stream) {
	for _, id := range t.StreamIDs() {
		streams = append(streams, l.stream(id))
	}
	return streams
}

// join adds t to a stream and reports whether the stream is new.
func (l *link) join(t *Track, id string) (fresh bool) {
	s := l.stream(id)
	if s == nil {
		s = &Stream{id: id}
		l.streams = append(l.streams, s)
		fresh = true
	}
	if !slices.Contains(s.Tracks(), t) {
		s.add(t)
	}
	return fresh
}

// leave takes t out of a stream and returns the stream if it is empty now.
func (l *link) leave(t *Track, id string) []*Stream {
	if s := l.stream(id); s != nil && s.remove(t) {
		return []*Stream{s}
	}
	return nil
}

// wantsOffer reports whether a data channel waits for data channels to be
// negotiated.
func (l *link) wantsOffer() bool {
	return (l.remote == nil || !l.remote.hasData()) && slices.ContainsFunc(l.channels, (*DataChannel).unopened)
}

// addChannel opens d on this connection.
func (l *link) addChannel(d *DataChannel) error {
	if len(l.channels) >= maxChannels {
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
	l.dropChannels(false)
}
