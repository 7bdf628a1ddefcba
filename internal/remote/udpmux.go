package remote

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/stun/v4"

	"recorder/internal/guard"
)

const (
	// maxAddresses bounds from how many addresses one connection is reached.
	// pion keeps each that it has answered, and looks through all of them. It
	// begins anew with an ICE restart, and so does this.
	maxAddresses = 1024
	// socketPause is waited after an error of the socket, which may pass.
	socketPause = 100 * time.Millisecond
)

var errNotUDP = errors.New("not a UDP address")

// udpMux shares a socket among connections, see [memberMux].
//
// A request of ICE names the connection it is for, so it goes there whatever
// address it comes from: a browser may begin another connection on the port
// it has used for the last. Everything else goes by its sender's address,
// which belongs to the connection that has answered a request from there.
// An agent answers those that prove to know its password, so that nobody can
// take another's address by claiming to be reached there.
type udpMux struct {
	socket   mediaSocket
	loopback bool           // only loopback addresses are offered
	deny     []netip.Prefix // from where no connection is made
	log      *slog.Logger
	fault    onFault       // of a datagram
	done     chan struct{} // closed once the reader is gone

	unknown  atomic.Uint64 // datagrams that were for nobody, or from an address too many
	overflow atomic.Uint64 // datagrams that a connection had no room for

	mu       sync.Mutex
	closed   bool
	branches map[branchKey]*branch
	routes   map[netip.AddrPort]claim

	// Of the reader.
	stun  stun.Message
	awake []*muxConn // that something was put into since the last wake
}

// branchKey is what ICE tells connections apart by. The families are apart
// since each candidate is of one.
type branchKey struct {
	ufrag string
	ipv6  bool
}

// claim is whose an address is.
type claim struct {
	branch *branch
	proven bool // a request from there was answered, so the member is there
}

// branch is one connection at the mux. Each of its local candidates has a
// conn, and all have this socket; the first conn is the one that receives.
type branch struct {
	key       branchKey
	conns     []*muxConn
	addresses []netip.AddrPort // that lead here
}

// newUDPMux takes over the socket.
func newUDPMux(socket mediaSocket, loopback bool, log *slog.Logger, fault onFault) *udpMux {
	m := &udpMux{
		socket: socket, loopback: loopback, log: log, fault: fault, done: make(chan struct{}),
		branches: map[branchKey]*branch{}, routes: map[netip.AddrPort]claim{},
	}
	go m.read()
	return m
}

// read hands out what comes until the socket is closed.
func (m *udpMux) read() {
	defer close(m.done)
	route := m.route
	for {
		err := m.socket.receive(route)
		for i, c := range m.awake {
			c.arrived.Signal()
			m.awake[i] = nil
		}
		m.awake = m.awake[:0]
		switch {
		case err == nil:
		case errors.Is(err, net.ErrClosed):
			return
		default:
			m.log.Warn("could not read from media port", "err", err)
			time.Sleep(socketPause)
		}
	}
}

// route puts a datagram where it belongs.
func (m *udpMux) route(datagram []byte, from netip.AddrPort) {
	defer guard.Recover(m.fault)
	c := m.receiver(datagram, from)
	if c == nil {
		m.unknown.Add(1)
		return
	}
	woken, ok := c.put(datagram, from)
	if !ok {
		m.overflow.Add(1)
	}
	if woken {
		m.awake = append(m.awake, c)
	}
}

func (m *udpMux) receiver(datagram []byte, from netip.AddrPort) *muxConn {
	ufrag, request := m.request(datagram)
	m.mu.Lock()
	defer m.mu.Unlock()
	owner := m.routes[from].branch
	b := owner
	if request {
		if slices.ContainsFunc(m.deny, func(p netip.Prefix) bool { return p.Contains(from.Addr()) }) {
			return nil
		}
		b = m.branches[branchKey{string(ufrag), from.Addr().Is6()}]
	}
	if b == nil || b != owner && len(b.addresses) == maxAddresses {
		return nil
	}
	return b.conns[0]
}

// refuse has no connection made from networks.
func (m *udpMux) refuse(networks []netip.Prefix) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.deny = networks
}

// request returns the ufrag that a binding request is for (RFC 8445 §7.2.2).
func (m *udpMux) request(datagram []byte) (ufrag []byte, ok bool) {
	if !isSTUN(datagram, stun.BindingRequest) {
		return nil, false
	}
	m.stun.Raw = datagram
	if m.stun.Decode() != nil {
		return nil, true
	}
	name, err := m.stun.Get(stun.AttrUsername)
	if err != nil {
		return nil, true
	}
	ufrag, _, _ = bytes.Cut(name, []byte{':'})
	return ufrag, true
}

// isSTUN reports whether a datagram looks like a STUN message of a type.
func isSTUN(datagram []byte, t stun.MessageType) bool {
	v := t.Value()
	return stun.IsMessage(datagram) && datagram[0] == byte(v>>8) && datagram[1] == byte(v)
}

// claim notes that a conn sends a datagram to an address. With the answer to
// a request the address becomes the branch's; with anything else it does if it
// is nobody's.
func (m *udpMux) claim(b *branch, to netip.AddrPort, datagram []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.routes[to]
	owner := before.branch
	if owner == b && before.proven {
		return
	}
	proven := isSTUN(datagram, stun.BindingSuccess)
	switch {
	case owner == b && proven:
		m.routes[to] = claim{b, true}
		return
	case owner == b || owner != nil && !proven:
		return
	case len(b.conns) == 0 || len(b.addresses) == maxAddresses:
		return
	}
	if owner != nil {
		owner.addresses = slices.DeleteFunc(owner.addresses, func(a netip.AddrPort) bool { return a == to })
	}
	b.addresses = append(b.addresses, to)
	m.routes[to] = claim{b, proven}
}

// proven reports whether a branch's member is known to be at an address.
func (m *udpMux) proven(b *branch, to netip.AddrPort) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.routes[to]
	return c.branch == b && c.proven
}

// connect makes a conn of its own for a local candidate. What it asks of
// addresses that have not answered comes out of the member's budget.
func (m *udpMux) connect(
	ufrag string, local net.Addr, checks *checkBudget, fault onFault,
) (net.PacketConn, error) {
	addr, ok := local.(*net.UDPAddr)
	if !ok || addr == nil {
		return nil, errNotUDP
	}
	key := branchKey{ufrag, addr.IP.To4() == nil}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, io.ErrClosedPipe
	}
	b := m.branches[key]
	if b == nil {
		b = &branch{key: key}
		m.branches[key] = b
	}
	c := newMuxConn(m, b, checks, fault)
	b.conns = append(b.conns, c)
	return c, nil
}

// remove takes a conn off its branch, and with the last one the branch.
func (m *udpMux) remove(c *muxConn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := c.branch
	b.conns = slices.DeleteFunc(b.conns, func(other *muxConn) bool { return other == c })
	if len(b.conns) > 0 {
		return
	}
	for _, a := range b.addresses {
		delete(m.routes, a)
	}
	b.addresses = nil
	if m.branches[b.key] == b {
		delete(m.branches, b.key)
	}
}

// memberMux is the mux as the connections of one member have it (ice.UDPMux).
type memberMux struct {
	*udpMux
	checks *checkBudget
	fault  onFault
}

// GetConn implements ice.UDPMux.
func (m memberMux) GetConn(ufrag string, local net.Addr) (net.PacketConn, error) {
	return m.connect(ufrag, local, m.checks, m.fault)
}

// RemoveConnByUfrag implements ice.UDPMux: it closes a connection's conns.
func (m *udpMux) RemoveConnByUfrag(ufrag string) {
	var conns []*muxConn
	m.mu.Lock()
	for _, ipv6 := range []bool{false, true} {
		if b := m.branches[branchKey{ufrag, ipv6}]; b != nil {
			conns = append(conns, b.conns...)
		}
	}
	m.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

// Close implements ice.UDPMux. The reader is gone when it returns.
func (m *udpMux) Close() error {
	m.mu.Lock()
	m.closed = true
	var conns []*muxConn
	for _, b := range m.branches {
		conns = append(conns, b.conns...)
	}
	m.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
	err := m.socket.close()
	<-m.done
	return err
}
