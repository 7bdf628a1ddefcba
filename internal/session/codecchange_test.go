package session

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
	"github.com/pion/webrtc/v4"

	"recorder/internal/lab/attack"
	"recorder/internal/lab/devserver"
	"recorder/internal/lab/member"
	"recorder/internal/signaling"
)

// A member that offers its track anew with another codec alone, as pages do that set codec preferences,
// is answered with that, and recorded without a gap. Pictures that were under way come in the old one.
func TestAnotherCodecOfTheSameTrackIsANewPartWithoutAGap(t *testing.T) {
	inRig(t, devserver.Options{}, func(r *rig) {
		r.startWith(10 * time.Second)
		time.Sleep(settling)
		s := webrtc.SettingEngine{}
		r.host()(&s)
		pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(s)).NewPeerConnection(webrtc.Configuration{})
		r.must(err)
		r.defers(func() { pc.GracefulClose() })
		track := attack.NewRaw(webrtc.MimeTypeVP8, "picture")
		transceiver, err := pc.AddTransceiverFromTrack(track)
		r.must(err)
		answers := make(chan string, 2)
		client := r.converse("alice", func(d signaling.Direct) {
			var s struct {
				Description struct{ Type, SDP string }
				Candidate   webrtc.ICECandidateInit
			}
			_ = json.Unmarshal(d.Data, &s)
			if s.Description.Type == "answer" {
				_ = pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: s.Description.SDP})
				answers <- s.Description.SDP
			} else if s.Candidate.Candidate != "" {
				_ = pc.AddICECandidate(s.Candidate)
			}
		})
		const vp8, vp9 = 96, 98
		r.must(transceiver.SetCodecPreferences([]webrtc.RTPCodecParameters{{
			PayloadType: vp8, RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000},
		}}))
		negotiate := func(codec string, edit *strings.Replacer) {
			offer, err := pc.CreateOffer(nil)
			r.must(err)
			gathered := webrtc.GatheringCompletePromise(pc)
			r.must(pc.SetLocalDescription(offer))
			<-gathered
			r.must(<-client.SendAsync(r.bot(), description("offer", edit.Replace(pc.LocalDescription().SDP))))
			if answer := <-answers; strings.Count(answer, "a=rtpmap:") != 1 || !strings.Contains(answer, codec) {
				t.Errorf("the answer to an offer of %s is\n%s", codec, answer)
			}
		}
		negotiate("96 VP8/90000", strings.NewReplacer())
		<-track.Bound
		time.Sleep(settling)

		sequence, now := rtp.NewFixedSequencer(1), uint32(0)
		play := func(format uint8, payloader rtp.Payloader, source member.Source, pictures int) {
			packetizer := rtp.NewPacketizer(1200, format, track.SSRC, payloader, sequence, 90000)
			for picture := range source {
				if pictures--; pictures < 0 {
					return
				}
				for _, p := range packetizer.Packetize(picture, 0) {
					p.SSRC, p.Timestamp = track.SSRC, now
					_, err := track.Writer.WriteRTP(&p.Header, p.Payload)
					r.must(err)
				}
				now += 3000
				time.Sleep(time.Second / 30)
			}
		}
		play(vp8, &codecs.VP8Payloader{}, member.Picture(), 60)
		negotiate("98 VP9/90000", strings.NewReplacer("SAVPF 96", "SAVPF 98", "rtpmap:96 VP8", "rtpmap:98 VP9", "rtcp-fb:96", "rtcp-fb:98")) // pion does not
		play(vp8, &codecs.VP8Payloader{}, member.Picture(), 5)
		play(vp9, &codecs.VP9Payloader{}, vp9Picture(t), 60)
		time.Sleep(100 * time.Millisecond)

		m := r.finish()
		if len(m.Streams) != 1 || len(m.Streams[0].Tracks) != 1 {
			t.Fatalf("streams: %+v", m.Streams)
		}
		recorded := m.Streams[0].Tracks[0]
		if p := recorded.Parts; len(p) != 2 || p[0].Codec != "vp8" || p[0].Frames != 65 || p[1].Codec != "vp9" || p[1].Frames < 60 {
			for _, p := range p {
				t.Errorf("%d pictures of %s", p.Frames, p.Codec)
			}
		}
		for _, g := range recorded.Gaps {
			t.Errorf("gap %+v", g)
		}
		if l := recorded.Ledger; l.Lost > 0 || l.FramesDropped > 0 {
			t.Errorf("%+v", l)
		}
	})
}
