package remote

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/sdp/v3"
	"github.com/pion/transport/v5"
	"github.com/pion/transport/v5/stdnet"
	"github.com/pion/webrtc/v4"
	"github.com/prometheus/client_golang/prometheus"
)

// ICE timing. A path that died is noticed after 4 s of silence, and given up
// for an ICE restart 6 s later; browsers take 6 s and 17 s. Should the path
// itself come back meanwhile, the restart finds it at once.
const (
	iceDisconnected = 4 * time.Second
	iceFailed       = 6 * time.Second
	iceKeepalive    = 2 * time.Second
)

// replayWindow is how far, in packets, SRTP lets a packet come late.
const replayWindow = 1024

// APIOptions configure an [API]. The zero value is usable.
type APIOptions struct {
	Logger     *slog.Logger          // nil: slog.Default()
	Registerer prometheus.Registerer // nil: no metrics
	// OnePort has all connections share one UDP port, a free one. Otherwise
	// each has ports of its own.
	OnePort bool
	// UDPPort, if not 0, is the one port to share.
	UDPPort int
	// ReadLag is how long packets gather at the shared port before they are
	// read, twice that while few come, at the cost of that delay; 0 reads them
	// as they come.
	ReadLag time.Duration
	// RelayOnly keeps all media on TURN servers (RFC 8828, mode 4).
	RelayOnly bool
	// Loopback keeps all connections on this machine, and works where there
	// is no network.
	Loopback bool
	// LoopbackMembers lets members be on this machine: their loopback addresses
	// are tried. It goes without saying with Loopback.
	LoopbackMembers bool
	// DenyAddresses are networks that no candidate of a member is tried in.
	DenyAddresses []netip.Prefix
	// Net, if not nil, takes the place of the system's network.
	Net transport.Net
	// Settings, if not nil, has the last word on pion's settings, for each
	// connection anew.
	Settings func(*webrtc.SettingEngine)

	socketLimit int // the most that a socket's buffer is asked to be, for tests
}

// API makes the PeerConnections of all peers: codecs, interceptors and
// settings. It is safe for concurrent use.
type API struct {
	media    *webrtc.MediaEngine
	settings webrtc.SettingEngine
	log      *slog.Logger
	metrics  *metrics
	options  APIOptions
	faults   sync.Map  // places of panics whose stack was logged
	mux      *udpMux   // nil without a shared port
	arrivals *arrivals // at that port

	addresses addressRules
}

// NewAPI returns an API. It fails if the shared port cannot be listened
// on. Close it after the last peer.
func NewAPI(o APIOptions) (*API, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	a := &API{
		options: o, log: o.Logger, metrics: newMetrics(o.Registerer),
		addresses: addressRules{loopback: o.Loopback || o.LoopbackMembers, deny: o.DenyAddresses},
	}

	media := &webrtc.MediaEngine{}
	if err := registerCodecs(media); err != nil {
		return nil, fmt.Errorf("register codecs: %w", err)
	}
	if err := registerExtensions(media); err != nil {
		return nil, fmt.Errorf("register header extensions: %w", err)
	}
	settings := webrtc.SettingEngine{LoggerFactory: pionLogs{o.Logger}}
	if err := secure(&settings); err != nil {
		return nil, err
	}
	settings.SetICETimeouts(iceDisconnected, iceFailed, iceKeepalive)
	// Browsers that hide their addresses still reach us, as peer reflexive.
	settings.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	settings.DisableActiveTCP(true) // or members could have us connect to anything
	settings.SetFireOnTrackBeforeFirstRTP(true)
	settings.SetReceiveMTU(receiveMTU)
	settings.SetSRTPReplayProtectionWindow(replayWindow)
	settings.SetSRTCPReplayProtectionWindow(replayWindow)
	settings.SetSCTPMaxMessageSize(maxSCTPMessage)
	settings.SetSCTPMaxReceiveBufferSize(maxSCTPReceiving)
	if o.Loopback {
		settings.SetIncludeLoopbackCandidate(true)
		settings.SetIPFilter(net.IP.IsLoopback)
	}
	if o.OnePort || o.UDPPort != 0 {
		if err := a.listen(o); err != nil {
			return nil, err
		}
	}
	a.media, a.settings = media, settings
	return a, nil
}

func (a *API) listen(o APIOptions) error {
	socket, err := listenMedia(o.UDPPort, o.socketLimit, o.ReadLag)
	if err != nil {
		return fmt.Errorf("listen for media: %w", err)
	}
	a.arrivals = socket.times()
	a.mux = newUDPMux(socket, o.Loopback, a.log, func(reason any, stack []byte) {
		a.fault(faultPort, a.log, reason, stack)
	})
	a.mux.refuse(o.DenyAddresses)
	if o.Registerer != nil {
		o.Registerer.MustRegister(socketCollector{a.mux})
	}
	return nil
}

// Close releases the shared UDP port.
func (a *API) Close() error {
	if a.mux == nil {
		return nil
	}
	if err := a.mux.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close media socket: %w", err)
	}
	return nil
}

// newPeerConnection makes a connection that writes what it receives to in, and
// whose checks come out of the member's budget.
//
// Interceptors it has none: the inlet does what they would, and asking for
// lost packets is the recorder's (see [Track.NACK]). pion's NACK generator
// would not see packets that came through RTX and ask for them again until
// they leave its window (pion/webrtc#3063).
func (a *API) newPeerConnection(
	servers []webrtc.ICEServer, in *inlet, checks *checkBudget,
) (*webrtc.PeerConnection, error) {
	network := a.options.Net
	if network == nil {
		var err error
		if network, err = stdnet.NewNet(); err != nil {
			return nil, fmt.Errorf("list networks: %w", err)
		}
	}
	settings := a.settings
	settings.BufferFactory, in.arrivals = in.newBuffer, a.arrivals
	settings.SetNet(memberNet{network, checks, in.pionFault})
	if a.mux != nil {
		settings.SetICEUDPMux(memberMux{a.mux, checks, in.pionFault})
	}
	if a.options.Settings != nil {
		a.options.Settings(&settings)
	}
	api := webrtc.NewAPI(webrtc.WithMediaEngine(a.media), webrtc.WithSettingEngine(settings),
		webrtc.WithInterceptorRegistry(&interceptor.Registry{}))
	policy := webrtc.ICETransportPolicyAll
	if a.options.RelayOnly {
		policy = webrtc.ICETransportPolicyRelay
	}
	return api.NewPeerConnection(webrtc.Configuration{
		ICEServers:         servers,
		ICETransportPolicy: policy,
		BundlePolicy:       webrtc.BundlePolicyMaxBundle,
	})
}

// registerExtensions adds the header extensions for congestion feedback and
// for sources that a description does not name (simulcast).
//
// Of what browsers offer besides nothing would be used, and each costs bytes
// of every packet: send times (transport-wide numbers serve for that), levels
// of sound, hints for players. And without the one for orientation
// (urn:3gpp:video-orientation) a browser turns pictures before it sends them;
// with it those of a phone held upright would lie on their side in the files.
func registerExtensions(media *webrtc.MediaEngine) error {
	for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeAudio, webrtc.RTPCodecTypeVideo} {
		if err := media.RegisterHeaderExtension(
			webrtc.RTPHeaderExtensionCapability{URI: sdp.TransportCCURI}, kind); err != nil {
			return err
		}
	}
	return webrtc.ConfigureSimulcastExtensionHeaders(media)
}
