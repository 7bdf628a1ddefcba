package session

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"recorder/internal/signaling"
)

// raw is a track that writes packets as they are.
type raw struct {
	mime, id string

	bound   chan struct{}
	writer  webrtc.TrackLocalWriter
	ssrc    uint32
	repairs uint32 // SSRC of what is sent again
	format  uint8
}

func newRaw(mime, id string) *raw { return &raw{mime: mime, id: id, bound: make(chan struct{})} }

func (r *raw) Bind(c webrtc.TrackLocalContext) (codec webrtc.RTPCodecParameters, err error) {
	for _, codec = range c.CodecParameters() {
		if codec.MimeType == r.mime {
			break
		}
	}
	r.writer, r.ssrc, r.repairs, r.format = c.WriteStream(), uint32(c.SSRC()), uint32(c.SSRCRetransmission()), uint8(codec.PayloadType)
	close(r.bound)
	return codec, nil
}
func (*raw) Unbind(webrtc.TrackLocalContext) error { return nil }
func (r *raw) ID() string                          { return r.id }
func (*raw) RID() string                           { return "" }
func (*raw) StreamID() string                      { return "raw" }
func (r *raw) Kind() webrtc.RTPCodecType {
	if strings.HasPrefix(r.mime, "audio/") {
		return webrtc.RTPCodecTypeAudio
	}
	return webrtc.RTPCodecTypeVideo
}

// header is that of the n-th packet of a track that does nothing wrong.
func (r *raw) header(n int) *rtp.Header {
	return &rtp.Header{Version: 2, PayloadType: r.format, SSRC: r.ssrc, SequenceNumber: uint16(n), Timestamp: uint32(n) * 960, Marker: n%2 == 0}
}

// connectRaw has a member publish raw tracks to the bot, and returns once they
// can be written to.
func (r *rig) connectRaw(id string, tracks ...*raw) *webrtc.PeerConnection {
	s := webrtc.SettingEngine{}
	r.host()(&s)
	pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(s)).NewPeerConnection(webrtc.Configuration{})
	r.must(err)
	r.defers(func() { pc.GracefulClose() })
	for _, t := range tracks {
		_, err := pc.AddTrack(t)
		r.must(err)
	}
	client := r.converse(id, func(d signaling.Direct) {
		var s struct {
			Description struct{ Type, SDP string }
			Candidate   webrtc.ICECandidateInit
		}
		_ = json.Unmarshal(d.Data, &s)
		if s.Description.Type == "answer" {
			_ = pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: s.Description.SDP})
		} else if s.Candidate.Candidate != "" {
			_ = pc.AddICECandidate(s.Candidate)
		}
	})
	offer, err := pc.CreateOffer(nil)
	r.must(err)
	gathered := webrtc.GatheringCompletePromise(pc)
	r.must(pc.SetLocalDescription(offer))
	<-gathered
	r.must(<-client.SendAsync(r.bot(), description("offer", pc.LocalDescription().SDP)))
	for _, t := range tracks {
		<-t.bound
	}
	return pc
}

// mediaGame is what a member can do with packets; it is called for each one.
type mediaGame struct {
	name           string
	metric, reason string // none: the packets are taken, and written or not
	play           func(pc *webrtc.PeerConnection, sound, picture *raw, random *rand.Rand, n int)
}

func noise(random *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

var mediaGames = []mediaGame{
	{"numbers and times at random", "", "", func(_ *webrtc.PeerConnection, sound, picture *raw, random *rand.Rand, n int) {
		for _, t := range []*raw{sound, picture} {
			h := t.header(n)
			h.SequenceNumber, h.Timestamp = uint16(random.Uint32()), random.Uint32()
			_, _ = t.writer.WriteRTP(h, noise(random, 50))
		}
	}},
	{"jumps", "", "", func(_ *webrtc.PeerConnection, sound, picture *raw, random *rand.Rand, n int) {
		for _, t := range []*raw{sound, picture} {
			h := t.header(n)
			h.SequenceNumber += uint16(n / 50 * 10_000)
			h.Timestamp += uint32(n/50) * 1 << 30
			_, _ = t.writer.WriteRTP(h, noise(random, 50))
		}
	}},
	{"formats at random", "recorder_remote_peer_rtp_packets_refused_total", "mallory", func(_ *webrtc.PeerConnection, sound, picture *raw, random *rand.Rand, n int) {
		for _, t := range []*raw{sound, picture} {
			h := t.header(n)
			h.PayloadType = uint8(random.UintN(128))
			_, _ = t.writer.WriteRTP(h, noise(random, 50))
		}
	}},
	{"giant and truncated packets", "", "", func(_ *webrtc.PeerConnection, sound, picture *raw, random *rand.Rand, n int) {
		for _, t := range []*raw{sound, picture} {
			_, _ = t.writer.WriteRTP(t.header(n), noise(random, []int{0, 1, 2, 3, 1100, 1400}[n%6]))
		}
	}},
	{"one source for two tracks", "recorder_remote_peer_rtp_packets_refused_total", "mallory", func(_ *webrtc.PeerConnection, sound, picture *raw, random *rand.Rand, n int) {
		h := picture.header(2*n + 1) // no repeat, which SRTP would drop
		h.SSRC = sound.ssrc
		_, _ = sound.writer.WriteRTP(sound.header(2*n), noise(random, 50))
		_, _ = picture.writer.WriteRTP(h, noise(random, 50))
		_, _ = picture.writer.WriteRTP(picture.header(n), noise(random, 50))
	}},
	{"retransmissions of anything", "", "", func(_ *webrtc.PeerConnection, _, picture *raw, random *rand.Rand, n int) {
		h := picture.header(n)
		_, _ = picture.writer.WriteRTP(h, noise(random, 50))
		h.SSRC, h.PayloadType = picture.repairs, picture.format+1
		_, _ = picture.writer.WriteRTP(h, noise(random, int(random.UintN(60))))
	}},
	{"headers full of everything", "", "", func(_ *webrtc.PeerConnection, sound, picture *raw, random *rand.Rand, n int) {
		for _, t := range []*raw{sound, picture} {
			h := t.header(n)
			h.CSRC = make([]uint32, n%16)
			h.Padding, h.PaddingSize = n%3 == 0, byte(n%20)
			_ = h.SetExtension(uint8(1+n%14), noise(random, 1+n%16))
			_, _ = t.writer.WriteRTP(h, noise(random, 50))
		}
	}},
	{"clocks at random", "", "", func(pc *webrtc.PeerConnection, sound, picture *raw, random *rand.Rand, n int) {
		for _, t := range []*raw{sound, picture} {
			_, _ = t.writer.WriteRTP(t.header(n), noise(random, 50))
			_ = pc.WriteRTCP([]rtcp.Packet{&rtcp.SenderReport{SSRC: t.ssrc, NTPTime: random.Uint64(), RTPTime: random.Uint32()}})
			garbage := rtcp.RawPacket(append([]byte{0x80 | byte(n%32), byte(192 + n%32), 0, byte(n % 8)}, noise(random, 4*(n%8))...))
			_ = pc.WriteRTCP([]rtcp.Packet{&garbage})
		}
	}},
}

// Whatever one member does with packets, of another nothing is lost, and the
// files that come of it are sound.
func TestPacketsOfOneMemberHarmNobodyElse(t *testing.T) {
	for _, game := range mediaGames {
		t.Run(game.name, func(t *testing.T) {
			inHostileRig(t, func(r *rig) {
				r.start(true)
				time.Sleep(settling)
				alice := r.join(r.token("alice"), "alice-camera")
				sound, picture := newRaw(webrtc.MimeTypeOpus, "sound"), newRaw(webrtc.MimeTypeVP8, "picture")
				pc := r.connectRaw("mallory", sound, picture)
				time.Sleep(settling)
				before := heap()
				random := rand.New(rand.NewPCG(1, 2))
				for n := range 2000 {
					game.play(pc, sound, picture, random, n)
					time.Sleep(2 * time.Millisecond)
				}
				time.Sleep(time.Second)
				if grown := int64(heap() - before); grown > mostHeap {
					t.Errorf("%d MB are held after the game", grown>>20)
				}
				if r.counted("recorder_remote_peer_rtp_packets_received_total", "mallory") == 0 {
					t.Error("no packet of mallory came through")
				}
				if game.metric != "" && r.counted(game.metric, game.reason) == 0 {
					t.Errorf("%s{%s} is 0", game.metric, game.reason)
				}
				alice.Leave()
				m := r.finish()
				checkWhole(t, of(m, "alice"), alice.Sent())
				r.checkOneStream(of(m, "alice"), outcome{})
			})
		})
	}
}
