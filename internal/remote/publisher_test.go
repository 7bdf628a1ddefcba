package remote

import (
	"encoding/json"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

// publisher is a plain pion peer that behaves as the browser SDK does when it
// publishes: track metadata, then an offer, then trickled candidates.
type publisher struct {
	t   *testing.T
	w   *world
	pc  *webrtc.PeerConnection
	in  chan []byte // signals of the recorder's peer, in order
	out func(any)   // signals to it

	local chan candidateSignal

	negotiating sync.Mutex // held while a description is made or applied

	mu      sync.Mutex
	senders map[string]*webrtc.RTPSender // by track id
	stop    map[string]chan struct{}
	held    []webrtc.ICECandidateInit
	errs    []error
	onData  func(*webrtc.DataChannel)
	polite  bool // gives way when offers cross, on a negotiated connection

	feedback   map[string][]rtcp.Packet // by track id
	silent     bool                     // publishes without playing
	collisions int
	again      bool // an offer was taken back
	done       sync.WaitGroup
	closing    chan struct{}
}

// join puts a publisher on the network and in the place of the one before,
// which it leaves running.
func (w *world) join() *publisher {
	s := webrtc.SettingEngine{}
	s.SetNet(w.newNet())
	s.SetICETimeouts(5*time.Second, 10*time.Second, 2*time.Second)
	// Closing at the same instant as the other side makes pion's SCTP wait
	// for a timer with a mutex held, which stops a bubble's clock.
	s.DisableCloseByDTLS(true)
	s.LoggerFactory = pionLogs{testLogger(w.t).With("who", "publisher")}
	api := webrtc.NewAPI(webrtc.WithSettingEngine(s))
	pc, err := api.NewPeerConnection(webrtc.Configuration{})
	must(w.t, err)
	m := &publisher{
		t: w.t, w: w, pc: pc, in: make(chan []byte, 1000), local: make(chan candidateSignal, 1000), closing: make(chan struct{}),
		senders: map[string]*webrtc.RTPSender{}, stop: map[string]chan struct{}{}, feedback: map[string][]rtcp.Packet{},
	}
	m.out = func(payload any) {
		b, err := json.Marshal(payload)
		must(w.t, err)
		w.peer.HandleDirect(b)
	}
	pc.OnICECandidate(func(c *webrtc.ICECandidate) {
		sig := candidateSignal{Type: "rtc-ice"}
		if c != nil {
			init := c.ToJSON()
			ufrag := attribute(pc.LocalDescription().SDP, "ice-ufrag")
			sig.Candidate = &wireCandidate{Candidate: init.Candidate, SDPMid: init.SDPMid, SDPMLineIndex: init.SDPMLineIndex, UsernameFragment: &ufrag}
		}
		m.local <- sig
	})
	pc.OnDataChannel(func(d *webrtc.DataChannel) {
		m.mu.Lock()
		f := m.onData
		m.mu.Unlock()
		if f != nil {
			f(d)
		}
	})
	m.done.Go(m.read)
	m.done.Go(m.trickle)
	w.mu.Lock()
	w.member, w.all = m, append(w.all, m)
	w.mu.Unlock()
	return m
}

// trickle sends candidates after the description they belong to; pion finds
// the first ones while that is still being applied.
func (m *publisher) trickle() {
	for {
		select {
		case sig := <-m.local:
			m.negotiating.Lock()
			m.out(sig)
			m.negotiating.Unlock()
		case <-m.closing:
			return
		}
	}
}

func (m *publisher) read() {
	for {
		select {
		case b := <-m.in:
			if err := m.handle(b); err != nil {
				m.mu.Lock()
				m.errs = append(m.errs, err)
				m.mu.Unlock()
			}
		case <-m.closing:
			return
		}
	}
}

func (m *publisher) handle(b []byte) error {
	m.negotiating.Lock()
	defer m.negotiating.Unlock()
	s, ok, err := parseSignal(b)
	if !ok || err != nil {
		return err
	}
	switch {
	case s.candidate != nil:
		if m.pc.RemoteDescription() == nil {
			m.held = append(m.held, *s.candidate)
			return nil
		}
		return m.pc.AddICECandidate(*s.candidate)
	case s.description != nil && s.description.Type == "answer":
		if m.pc.SignalingState() != webrtc.SignalingStateHaveLocalOffer {
			return nil
		}
		err = m.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: s.description.SDP})
	case s.description != nil:
		if m.pc.SignalingState() != webrtc.SignalingStateStable {
			m.collisions++
			if !m.polite {
				return nil
			}
			// As a browser rolls back; pion has to be led around.
			old := m.pc.CurrentRemoteDescription()
			if err := m.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: old.SDP}); err != nil {
				return err
			}
			m.again = true
		}
		if err := m.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: s.description.SDP}); err != nil {
			return err
		}
		answer, aerr := m.pc.CreateAnswer(nil)
		if aerr != nil {
			return aerr
		}
		if err := m.pc.SetLocalDescription(answer); err != nil {
			return err
		}
		m.out(descriptionSignal{"rtc-description", sdpEnvelope{"answer", answer.SDP}})
		if m.again {
			m.again = false
			m.makeOffer(false, nil)
		}
	}
	for _, c := range m.held {
		_ = m.pc.AddICECandidate(c)
	}
	m.held = nil
	return err
}

func (m *publisher) failures() []error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.errs)
}

// meta sends track metadata; "" clears it.
func (m *publisher) meta(trackID, metadata string) {
	payload := map[string]any{"trackId": trackID}
	if metadata != "" {
		payload["metadata"] = json.RawMessage(metadata)
	}
	m.out(map[string]any{"__meteredTrackMeta": payload})
}

// add publishes a track and starts to play it; offer has to follow.
func (m *publisher) add(streamID, trackID, mimeType string) {
	codec := webrtc.RTPCodecCapability{MimeType: mimeType, ClockRate: 90000}
	if mimeType == webrtc.MimeTypeOpus {
		codec.ClockRate, codec.Channels = 48000, 2
	}
	track, err := webrtc.NewTrackLocalStaticRTP(codec, trackID, streamID)
	must(m.t, err)
	// A transceiver of its own for each track, as m-lines are never recycled.
	tr, err := m.pc.AddTransceiverFromTrack(track, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendrecv})
	must(m.t, err)
	stop := make(chan struct{})
	m.mu.Lock()
	m.senders[trackID], m.stop[trackID] = tr.Sender(), stop
	m.mu.Unlock()
	m.done.Go(func() { m.drain(trackID, tr.Sender()) })
	if !m.silent {
		m.done.Go(func() { play(track, codec.ClockRate/50, stop) })
	}
}

// drain keeps the RTCP of a track; unless it is read, pion's interceptors do
// not run.
func (m *publisher) drain(trackID string, s *webrtc.RTPSender) {
	for {
		packets, _, err := s.ReadRTCP()
		if err != nil {
			return
		}
		m.mu.Lock()
		m.feedback[trackID] = append(m.feedback[trackID], packets...)
		m.mu.Unlock()
	}
}

// play writes a packet every 20 ms.
func play(track *webrtc.TrackLocalStaticRTP, step uint32, stop chan struct{}) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	p := &rtp.Packet{Header: rtp.Header{Version: 2}, Payload: make([]byte, 100)}
	for {
		select {
		case <-tick.C:
			p.SequenceNumber++
			p.Timestamp += step
			_ = track.WriteRTP(p)
		case <-stop:
			return
		}
	}
}

// remove stops sending a track; its m-line stays, recvonly.
func (m *publisher) remove(trackID string) {
	m.mu.Lock()
	s, stop := m.senders[trackID], m.stop[trackID]
	delete(m.senders, trackID)
	delete(m.stop, trackID)
	m.mu.Unlock()
	close(stop)
	must(m.t, m.pc.RemoveTrack(s))
}

// offer sends an offer.
func (m *publisher) offer(restart bool) { m.offerEdited(restart, nil) }

// offerEdited sends an offer after edit has changed its text.
func (m *publisher) offerEdited(restart bool, edit func(string) string) {
	m.negotiating.Lock()
	defer m.negotiating.Unlock()
	m.makeOffer(restart, edit)
}

func (m *publisher) makeOffer(restart bool, edit func(string) string) {
	offer, err := m.pc.CreateOffer(&webrtc.OfferOptions{ICERestart: restart})
	must(m.t, err)
	must(m.t, m.pc.SetLocalDescription(offer))
	if edit != nil {
		offer.SDP = edit(offer.SDP)
	}
	m.out(descriptionSignal{"rtc-description", sdpEnvelope{"offer", offer.SDP}})
}

// close ends the publisher; DTLS tells the other side.
func (m *publisher) close() {
	m.mu.Lock()
	select {
	case <-m.closing:
		m.mu.Unlock()
		return
	default:
	}
	close(m.closing)
	for _, stop := range m.stop {
		close(stop)
	}
	m.stop = map[string]chan struct{}{}
	m.mu.Unlock()
	_ = m.pc.GracefulClose()
	m.done.Wait()
}

// camera publishes a stream with audio and video and its metadata.
func (m *publisher) camera() {
	m.meta("audio-1", `{"role":"camera"}`)
	m.meta("video-1", `{"role":"camera"}`)
	m.add("stream-1", "audio-1", webrtc.MimeTypeOpus)
	m.add("stream-1", "video-1", webrtc.MimeTypeVP8)
	m.offer(false)
}
