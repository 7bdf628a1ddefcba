package remote

import (
	"net"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/logging"
	"github.com/pion/webrtc/v4"
)

// A page that is loaded again may get the port that it had, while we have not
// noticed yet that the last connection is gone.
func TestBrowserConnectsAnewFromTheSamePort(t *testing.T) {
	api, err := NewAPI(APIOptions{Logger: testLogger(t), OnePort: true, Loopback: true, ReadLag: time.Millisecond})
	must(t, err)
	port, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	mux := ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: port, Logger: logging.NewDefaultLoggerFactory().NewLogger("ice")})
	defer mux.Close()
	settings := webrtc.SettingEngine{}
	settings.SetICEUDPMux(mux)
	settings.SetIncludeLoopbackCandidate(true)
	page := webrtc.NewAPI(webrtc.WithSettingEngine(settings))

	var before []*webrtc.PeerConnection
	for range 3 {
		in := newInlet()
		ours, err := api.newPeerConnection(nil, in, newCheckBudget(api.metrics))
		must(t, err)
		theirs, err := page.NewPeerConnection(webrtc.Configuration{})
		must(t, err)
		opened := make(chan struct{})
		channel, err := theirs.CreateDataChannel("hello", nil)
		must(t, err)
		channel.OnOpen(func() { close(opened) })

		offer, err := theirs.CreateOffer(nil)
		must(t, err)
		gathered := webrtc.GatheringCompletePromise(theirs)
		must(t, theirs.SetLocalDescription(offer))
		<-gathered
		must(t, ours.SetRemoteDescription(*theirs.LocalDescription()))
		reply, err := ours.CreateAnswer(nil)
		must(t, err)
		gathered = webrtc.GatheringCompletePromise(ours)
		must(t, ours.SetLocalDescription(reply))
		<-gathered
		must(t, theirs.SetRemoteDescription(*ours.LocalDescription()))
		select {
		case <-opened:
		case <-time.After(20 * time.Second):
			t.Fatal("not connected")
		}
		must(t, theirs.Close()) // the page is gone; our side of it still is there
		before = append(before, ours)
		t.Cleanup(in.close)
	}
	for _, ours := range before {
		must(t, ours.GracefulClose())
	}
	must(t, api.Close())
	if len(api.mux.branches) != 0 || len(api.mux.routes) != 0 {
		t.Errorf("%d branches and %d routes are left", len(api.mux.branches), len(api.mux.routes))
	}
}
