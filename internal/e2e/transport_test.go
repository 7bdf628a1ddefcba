package e2e

import (
	"flag"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/logging"
	"github.com/pion/webrtc/v4"

	"recorder/internal/lab/devserver"
	"recorder/internal/remote"
	"recorder/internal/sink"
)

var (
	swaps    = flag.Int("swaps", 2, "how often a browser comes back with a new connection, for each DTLS role")
	swapLoss = flag.Float64("swap-loss", 0, "share of packets lost meanwhile, in each direction")
)

// A browser's media is protected as remote's choice of DTLS role has it, on its first connection and on those it comes
// back with. What the other role would bring is logged beside it: see the numbers there, which -swaps 12 gives, without
// and with -swap-loss 0.15.
func TestABrowserSendsAESGCMAndComesBackSoon(t *testing.T) {
	browser := StartBrowser(t)
	for _, c := range []struct {
		bot  string
		role webrtc.DTLSRole // none: remote's choice
	}{{"server", 0}, {"client", webrtc.DTLSRoleClient}} {
		t.Run("the bot as DTLS "+c.bot, func(t *testing.T) {
			b := newBot(t, botOptions{window: time.Minute, api: func(o *remote.APIOptions) {
				o.OnePort, o.ReadLag = true, remote.DefaultReadLag
				inner := o.Settings
				o.Settings = func(s *webrtc.SettingEngine) {
					inner(s)
					if c.role != 0 {
						must(t, s.SetAnsweringDTLSRole(c.role))
					}
					if *swapLoss > 0 {
						s.SetICEUDPMux(lossyMux(t, *swapLoss))
					}
				}
			}})
			page := browser.Open(t)
			page.Do("watchConnections()")
			b.join(page, "alice")
			page.Do("addDrawn('camera')")
			page.Do("until(async () => (await sent()).frames > 10, 45000)")
			checkTransport(t, page, c.role == 0)

			var handshakes []time.Duration
			for n := 1; n <= *swaps; n++ {
				b.service.Drop("alice", devserver.Drop{Presence: devserver.Silent})
				page.WaitFor(20*time.Second, "connections.length > %d && connections.at(-1).connected", n)
				ms := Eval[float64](page, "connections.at(-1).connected - connections.at(-1)['ice connected']")
				handshakes = append(handshakes, time.Duration(ms*1e6))
				page.Do("until(async () => (await sent()).frames > 10, 45000)")
				checkTransport(t, page, c.role == 0)
			}
			page.Do("leave()")
			b.leave()

			slices.Sort(handshakes)
			t.Logf("DTLS took %v", handshakes)
			_, m := b.recording()
			for _, track := range m.Streams[0].Tracks {
				away := reconnectGaps(track)
				t.Logf("%s: away for %v", track.Kind, away)
				if n := len(away); *swapLoss == 0 && (n > *swaps || n > 0 && away[n-1] > 3*time.Second) {
					t.Errorf("%s: %d gaps for %d swaps, up to %v", track.Kind, n, *swaps, away[n-1])
				}
			}
		})
	}
}

// checkTransport logs how the page's media is protected and, if it is the product's choice, holds it to that: the
// browser is the client and sends AES-GCM, with no header extensions but those that something is done with.
func checkTransport(t *testing.T, page *Page, chosen bool) {
	t.Helper()
	have := Eval[struct{ SRTP, Role, State string }](page, "transport()")
	t.Logf("the browser is %+v", have)
	if !chosen {
		return
	}
	if have.Role != "client" || have.State != "connected" || !strings.HasPrefix(have.SRTP, "SRTP_AEAD_AES_") {
		t.Errorf("the browser is %+v", have)
	}
	const (
		transportCC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
		sdes        = "urn:ietf:params:rtp-hdrext:sdes:"
	)
	want := map[string][]string{
		"audio": {transportCC},
		"video": {transportCC, sdes + "mid", sdes + "repaired-rtp-stream-id", sdes + "rtp-stream-id"},
	}
	for kind, uris := range Eval[map[string][]string](page, "extensions()") {
		slices.Sort(uris)
		if !slices.Equal(uris, want[kind]) {
			t.Errorf("%s with %v, want %v", kind, uris, want[kind])
		}
	}
}

func reconnectGaps(track *sink.ManifestTrack) (gaps []time.Duration) {
	for _, g := range track.Gaps {
		if g.Reason == sink.ReasonReconnect {
			gaps = append(gaps, g.Duration.Duration().Round(time.Millisecond))
		}
	}
	slices.Sort(gaps)
	return gaps
}

// lossyMux is a port that loses packets of both directions.
func lossyMux(t *testing.T, loss float64) ice.UDPMux {
	udp, err := net.ListenUDP("udp", &net.UDPAddr{})
	must(t, err)
	must(t, udp.SetReadBuffer(4<<20))
	network := &lossyConn{PacketConn: udp, random: rand.New(rand.NewPCG(1, 2)), loss: loss}
	mux := webrtc.NewICEUDPMux(logging.NewDefaultLeveledLoggerForScope("ice", logging.LogLevelDisabled, io.Discard), network)
	t.Cleanup(func() { mux.Close() })
	return mux
}
