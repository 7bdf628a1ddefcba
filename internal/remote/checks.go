package remote

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/stun/v4"
	"github.com/pion/transport/v5"
	"github.com/prometheus/client_golang/prometheus"

	"recorder/internal/guard"
)

const (
	// maxChecks is how many connectivity checks are made for one member in a
	// second, of addresses that have not answered: twice this in the worst
	// second, which follows one of rest.
	//
	// A member names the addresses, and pion sends eight checks to each within
	// 1.6 s, from each of our own. One that is there is reached with less: its own
	// request makes us check its address at once.
	maxChecks = 25
	// maxProvenChecks is the same for addresses that a request came from, which
	// may have been forged.
	maxProvenChecks = 50
)

// checkBudget is what is left of a member's checks, over all its connections.
type checkBudget struct {
	dropped prometheus.Counter

	mu     sync.Mutex
	named  bucket
	proven bucket
}

// bucket fills up with as many tokens a second as it holds.
type bucket struct {
	size, left float64
	since      time.Time // as of when
}

func newCheckBudget(m *metrics) *checkBudget {
	now := time.Now()
	return &checkBudget{
		dropped: m.checksDropped,
		named:   bucket{maxChecks, maxChecks, now}, proven: bucket{maxProvenChecks, maxProvenChecks, now},
	}
}

// take reports whether a check may be sent, to an address that a request came
// from or to another.
func (b *checkBudget) take(proven bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	of := &b.named
	if proven {
		of = &b.proven
	}
	if of.take(time.Now()) {
		return true
	}
	b.dropped.Inc()
	return false
}

// take takes a token. pion goes through its pairs in the same order each time,
// so when few are left chance decides: else the last would never be checked.
func (b *bucket) take(now time.Time) bool {
	b.left = min(b.size, b.left+b.size*now.Sub(b.since).Seconds())
	b.since = now
	if b.left < 1 || b.left < b.size/2*rand.Float64() {
		return false
	}
	b.left--
	return true
}

// memberNet is the network as the connections of one member have it. The
// shared port is not of it, but the ports for STUN and TURN servers are. What
// goes to TURN servers over TCP is not looked at: the bound on candidates holds there.
type memberNet struct {
	transport.Net
	checks *checkBudget
	fault  onFault
}

// ListenPacket implements transport.Net. pion reaches TURN servers through it.
func (n memberNet) ListenPacket(network, address string) (net.PacketConn, error) {
	c, err := n.Net.ListenPacket(network, address)
	if err != nil {
		return nil, err
	}
	return memberPacketConn{c, n.checks, n.fault}, nil
}

// ListenUDP implements transport.Net.
func (n memberNet) ListenUDP(network string, local *net.UDPAddr) (transport.UDPConn, error) {
	c, err := n.Net.ListenUDP(network, local)
	if err != nil {
		return nil, err
	}
	return &memberUDPConn{
		UDPConn: c, checks: n.checks, fault: n.fault, proven: map[netip.AddrPort]bool{},
	}, nil
}

type memberPacketConn struct {
	net.PacketConn
	checks *checkBudget
	fault  onFault
}

// WriteTo implements net.PacketConn.
func (c memberPacketConn) WriteTo(b []byte, to net.Addr) (int, error) {
	defer guard.Recover(c.fault)
	if isCheck(b) && !c.checks.take(false) {
		return len(b), nil
	}
	return c.PacketConn.WriteTo(b, to)
}

type memberUDPConn struct {
	transport.UDPConn
	checks *checkBudget
	fault  onFault

	mu     sync.Mutex
	proven map[netip.AddrPort]bool // a request from there was answered
}

// WriteTo implements net.PacketConn.
func (c *memberUDPConn) WriteTo(b []byte, to net.Addr) (int, error) {
	defer guard.Recover(c.fault)
	addr, ok := to.(*net.UDPAddr)
	if !ok || addr == nil {
		return 0, errNotUDP
	}
	if !c.may(b, addr.AddrPort()) {
		return len(b), nil
	}
	return c.UDPConn.WriteTo(b, to)
}

// may reports whether a datagram is to be sent.
func (c *memberUDPConn) may(b []byte, to netip.AddrPort) bool {
	check, success := isSTUN(b, stun.BindingRequest), isSTUN(b, stun.BindingSuccess)
	if !check && !success {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if success && len(c.proven) < maxAddresses {
		c.proven[to] = true
	}
	return success || c.checks.take(c.proven[to])
}

var turnSend = stun.NewType(stun.MethodSend, stun.ClassIndication)

// isCheck reports whether a datagram is a connectivity check, or asks a TURN
// server to send one (RFC 8656 §10, §12).
func isCheck(b []byte) bool {
	switch {
	case isSTUN(b, stun.BindingRequest):
		return true
	case len(b) > 4 && b[0]>>6 == 1: // channel data
		return isSTUN(b[4:], stun.BindingRequest)
	case isSTUN(b, turnSend):
		m := stun.Message{Raw: b}
		if m.Decode() != nil {
			return false
		}
		data, err := m.Get(stun.AttrData)
		return err == nil && isSTUN(data, stun.BindingRequest)
	}
	return false
}
