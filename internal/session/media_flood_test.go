package session

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"recorder/internal/lab/attack"
	"recorder/internal/signaling"
)

// connectRaw has a member publish raw tracks to the bot, and returns once they
// can be written to.
func (r *rig) connectRaw(id string, tracks ...*attack.Raw) *webrtc.PeerConnection {
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
		<-t.Bound
	}
	return pc
}

// Whatever one member does with packets, of another nothing is lost, and the
// files that come of it are sound.
func TestPacketsOfOneMemberHarmNobodyElse(t *testing.T) {
	for _, game := range attack.Games {
		t.Run(game.Name, func(t *testing.T) {
			inHostileRig(t, func(r *rig) {
				r.start(true)
				time.Sleep(settling)
				alice := r.join(r.token("alice"), "alice-camera")
				sound, picture := attack.NewRaw(webrtc.MimeTypeOpus, "sound"), attack.NewRaw(game.Format(), "picture")
				pc := r.connectRaw("mallory", sound, picture)
				time.Sleep(settling)
				before := heap()
				match := &attack.Match{
					PC: pc, Sound: sound, Picture: picture, Random: rand.New(rand.NewPCG(1, 2)),
				}
				came := 0.0
				for n := range 2000 {
					game.Play(match, n)
					time.Sleep(2 * time.Millisecond)
					if n%100 == 50 { // the series go with the connection, which some games end
						came = max(came, r.counted("recorder_remote_peer_rtp_packets_received_total", "mallory"))
					}
				}
				time.Sleep(time.Second)
				if grown := int64(heap() - before); grown > mostHeap {
					t.Errorf("%d MB are held after the game", grown>>20)
				}
				if came == 0 {
					t.Error("no packet of mallory came through")
				}
				if game.Metric != "" && r.counted(game.Metric, game.Reason) == 0 {
					t.Errorf("%s{%s} is 0", game.Metric, game.Reason)
				}
				alice.Leave()
				m := r.finish()
				checkWhole(t, of(m, "alice"), alice.Sent())
				r.checkOneStream(of(m, "alice"), outcome{})
			})
		})
	}
}
