package attack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

// Raw is a track that writes packets as they are.
type Raw struct {
	Mime, TrackID, Stream string

	Bound   chan struct{} // closed when it may be written to
	Writer  webrtc.TrackLocalWriter
	SSRC    uint32
	Repairs uint32 // SSRC of what is sent again
	Format  uint8
}

// NewRaw returns a track of a format, in the stream "raw".
func NewRaw(mime, id string) *Raw {
	return &Raw{Mime: mime, TrackID: id, Stream: "raw", Bound: make(chan struct{})}
}

// Bind implements webrtc.TrackLocal.
func (r *Raw) Bind(c webrtc.TrackLocalContext) (codec webrtc.RTPCodecParameters, err error) {
	for _, codec = range c.CodecParameters() {
		if codec.MimeType == r.Mime {
			break
		}
	}
	r.Writer, r.SSRC, r.Repairs = c.WriteStream(), uint32(c.SSRC()), uint32(c.SSRCRetransmission())
	r.Format = uint8(codec.PayloadType)
	close(r.Bound)
	return codec, nil
}

// Unbind implements webrtc.TrackLocal.
func (*Raw) Unbind(webrtc.TrackLocalContext) error { return nil }

// ID implements webrtc.TrackLocal.
func (r *Raw) ID() string { return r.TrackID }

// RID implements webrtc.TrackLocal.
func (*Raw) RID() string { return "" }

// StreamID implements webrtc.TrackLocal.
func (r *Raw) StreamID() string { return r.Stream }

// Kind implements webrtc.TrackLocal.
func (r *Raw) Kind() webrtc.RTPCodecType {
	if strings.HasPrefix(r.Mime, "audio/") {
		return webrtc.RTPCodecTypeAudio
	}
	return webrtc.RTPCodecTypeVideo
}

// Header is that of the n-th packet of a track that does nothing wrong.
func (r *Raw) Header(n int) *rtp.Header {
	return &rtp.Header{
		Version: 2, PayloadType: r.Format, SSRC: r.SSRC,
		SequenceNumber: uint16(n), Timestamp: uint32(n) * 960, Marker: n%2 == 0,
	}
}

// publisher is a hostile member with a connection to the recorder.
type publisher struct {
	*speaker
	pc   *webrtc.PeerConnection
	wire *tamper // what its datagrams pass
}

// publish joins as a peer and connects raw tracks to the recorder. Close it.
func (t Target) publish(ctx context.Context, peer string, tracks ...*Raw) (*publisher, error) {
	s, err := t.speak(ctx, peer)
	if err != nil {
		return nil, err
	}
	p := &publisher{speaker: s}
	if err := p.connect(ctx, tracks); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *publisher) connect(ctx context.Context, tracks []*Raw) (err error) {
	if p.wire, err = newTamper(); err != nil {
		return err
	}
	settings := webrtc.SettingEngine{}
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	settings.SetICEUDPMux(ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: p.wire}))
	api := webrtc.NewAPI(webrtc.WithSettingEngine(settings))
	if p.pc, err = api.NewPeerConnection(webrtc.Configuration{}); err != nil {
		return fmt.Errorf("create a connection: %w", err)
	}
	for _, t := range tracks {
		if _, err := p.pc.AddTrack(t); err != nil {
			return fmt.Errorf("add a track: %w", err)
		}
	}
	connected := make(chan struct{}, 1)
	p.pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateConnected {
			select {
			case connected <- struct{}{}:
			default:
			}
		}
	})
	if err := p.offer(ctx); err != nil {
		return err
	}
	limit := time.After(patience)
	select {
	case <-connected:
	case <-ctx.Done():
		return ctx.Err()
	case <-limit:
		return errors.New("the recorder does not connect")
	}
	for _, t := range tracks {
		select {
		case <-t.Bound:
		case <-limit:
			return errors.New("the recorder does not take a track")
		}
	}
	return nil
}

// offer makes an offer with all candidates in it, and applies the answer once
// that comes.
func (p *publisher) offer(ctx context.Context) error {
	p.onDirect(p.answered)
	if len(p.pc.GetTransceivers()) == 0 {
		if _, err := p.pc.CreateDataChannel("first", nil); err != nil {
			return fmt.Errorf("create a data channel: %w", err)
		}
	}
	offer, err := p.pc.CreateOffer(nil)
	if err != nil {
		return fmt.Errorf("create an offer: %w", err)
	}
	gathered := webrtc.GatheringCompletePromise(p.pc)
	if err := p.pc.SetLocalDescription(offer); err != nil {
		return fmt.Errorf("apply an offer: %w", err)
	}
	<-gathered
	return p.say(ctx, description("offer", p.pc.LocalDescription().SDP))
}

func (p *publisher) answered(data json.RawMessage) {
	var s struct {
		Description struct{ Type, SDP string }
		Candidate   webrtc.ICECandidateInit
	}
	_ = json.Unmarshal(data, &s)
	if s.Description.Type == "answer" {
		_ = p.pc.SetRemoteDescription(
			webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: s.Description.SDP},
		)
	} else if s.Candidate.Candidate != "" {
		_ = p.pc.AddICECandidate(s.Candidate)
	}
}

func (p *publisher) close() {
	if p.pc != nil {
		_ = p.pc.Close()
	}
	if p.wire != nil {
		_ = p.wire.Close()
	}
	p.speaker.close()
}

// tamper is the socket of a publisher. What it sends may be sent again,
// changed, or from elsewhere.
type tamper struct {
	*net.UDPConn
	after atomic.Pointer[func(datagram []byte, to net.Addr)]
}

// then has f told of each datagram that was sent.
func (t *tamper) then(f func(datagram []byte, to net.Addr)) { t.after.Store(&f) }

func newTamper() (*tamper, error) {
	conn, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return &tamper{UDPConn: conn}, nil
}

// WriteTo implements net.PacketConn.
func (t *tamper) WriteTo(b []byte, to net.Addr) (int, error) {
	n, err := t.UDPConn.WriteTo(b, to)
	if after := t.after.Load(); after != nil && err == nil {
		(*after)(b, to)
	}
	return n, err
}
