package main

import (
	"context"
	"net"
	"sync"
	"sync/atomic"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/nack"
	"github.com/pion/interceptor/pkg/report"
	"github.com/pion/webrtc/v4"

	"recorder/internal/lab/member"
	"recorder/internal/signaling"
)

// discardReceiver is a member that reads what the others send, and drops it.
type discardReceiver struct {
	member *member.Member
	socket net.PacketConn // of discard-min

	mu     sync.Mutex
	tracks []*discardedTrack
}

func newDiscardReceiver(ctx context.Context, url string, minimal bool) (*discardReceiver, error) {
	d := &discardReceiver{}
	settings := benchSettings()
	api := webrtc.NewAPI(webrtc.WithSettingEngine(settings))
	read := (*discardedTrack).readPackets
	if minimal {
		var err error
		if api, err = d.minimal(settings); err != nil {
			return nil, err
		}
		read = (*discardedTrack).readBytes
	}
	credential, err := signaling.PublishableKey("pk_live_bench")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	d.member, err = member.Join(ctx, member.Options{
		URL: url, Credential: credential, Channel: benchChannel, API: api,
		OnTrack: func(_ string, remote *webrtc.TrackRemote) {
			t := &discardedTrack{remote: remote}
			d.mu.Lock()
			d.tracks = append(d.tracks, t)
			d.mu.Unlock()
			read(t)
		},
	})
	return d, err
}

// minimal is an API with one socket, a NACK generator and receiver reports.
func (d *discardReceiver) minimal(settings webrtc.SettingEngine) (*webrtc.API, error) {
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	d.socket = socket
	if err := socket.SetReadBuffer(4 << 20); err != nil {
		return nil, err
	}
	settings.SetICEUDPMux(ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: socket, Logger: settings.LoggerFactory.NewLogger("ice")}))
	media, registry := &webrtc.MediaEngine{}, &interceptor.Registry{}
	if err := media.RegisterDefaultCodecs(); err != nil {
		return nil, err
	}
	requests, err := nack.NewGeneratorInterceptor()
	if err != nil {
		return nil, err
	}
	reports, err := report.NewReceiverInterceptor()
	if err != nil {
		return nil, err
	}
	registry.Add(requests)
	registry.Add(reports)
	return webrtc.NewAPI(webrtc.WithMediaEngine(media), webrtc.WithInterceptorRegistry(registry), webrtc.WithSettingEngine(settings)), nil
}

func (d *discardReceiver) count() (c benchCount, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range d.tracks {
		packets := t.packets.Load()
		c.packets += packets
		if packets > 0 {
			c.tracks++
			c.lost += t.spread.Load() - int64(packets)
		}
	}
	return c, nil
}

func (d *discardReceiver) stop(*benchTurn) error {
	d.member.Leave()
	if d.socket != nil {
		_ = d.socket.Close()
	}
	return nil
}

// discardedTrack reads a track in either of the usual ways.
type discardedTrack struct {
	remote  *webrtc.TrackRemote
	packets atomic.Uint64
	spread  atomic.Int64 // how many sequence numbers there were
	highest uint16
}

func (t *discardedTrack) readPackets() {
	for {
		p, _, err := t.remote.ReadRTP()
		if err != nil {
			return
		}
		t.packet(p.SequenceNumber)
	}
}

func (t *discardedTrack) readBytes() {
	buf := make([]byte, 1500)
	for {
		n, _, err := t.remote.Read(buf)
		if err != nil {
			return
		}
		if n >= 4 {
			t.packet(uint16(buf[2])<<8 | uint16(buf[3]))
		}
	}
}

func (t *discardedTrack) packet(seq uint16) {
	if t.packets.Add(1) == 1 {
		t.highest = seq
		t.spread.Store(1)
		return
	}
	if ahead := int16(seq - t.highest); ahead > 0 {
		t.highest = seq
		t.spread.Add(int64(ahead))
	}
}
