package session

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/transport/v5/vnet"
	"github.com/pion/webrtc/v4"
)

// passes reports whether the network delivers a packet.
func (r *rig) passes(c vnet.Chunk) bool {
	for _, addr := range []net.Addr{c.SourceAddr(), c.DestinationAddr()} {
		if udp, ok := addr.(*net.UDPAddr); ok {
			if _, dead := r.dead.Load(udp.IP.String()); dead {
				return false
			}
		}
	}
	return !r.cut.Load()
}

// cutFor lets nothing through for a while.
func (r *rig) cutFor(d time.Duration) {
	r.cut.Store(true)
	time.Sleep(d)
	r.cut.Store(false)
}

// networks guards the numbers that vnet gives the cards of all of them.
var networks sync.Mutex

// host adds a host to the network and puts a SettingEngine on it.
func (r *rig) host() func(*webrtc.SettingEngine) {
	r.hosts++
	return r.addHost(fmt.Sprintf("10.0.0.%d", r.hosts))
}

func (r *rig) addHost(addresses ...string) func(*webrtc.SettingEngine) {
	networks.Lock()
	n, err := vnet.NewNet(&vnet.NetConfig{StaticIPs: addresses})
	networks.Unlock()
	r.must(err)
	r.must(r.router.AddNet(n))
	return func(s *webrtc.SettingEngine) {
		s.SetNet(n)
		s.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	}
}

// roam adds a host that changes networks when it is told to: its address is
// dead then, and it has another one.
func (r *rig) roam() (settings func(*webrtc.SettingEngine), move func()) {
	r.hosts++
	home, away := fmt.Sprintf("10.0.0.%d", r.hosts), fmt.Sprintf("10.0.0.%d", 100+r.hosts)
	host := r.addHost(home, away)
	var moved atomic.Bool
	settings = func(s *webrtc.SettingEngine) {
		host(s)
		s.SetIPFilter(func(ip net.IP) bool { return moved.Load() == (ip.String() == away) })
	}
	return settings, func() {
		moved.Store(true)
		r.dead.Store(home, true)
	}
}

// pipeListener is a listener whose connections are in memory.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{} // closed by Close
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }
