package remote

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/stun/v4"

	"recorder/internal/guard"
)

const (
	// maxQueued is what may wait on a connection to be read from the mux, in
	// bytes. It does for a second of 8 Mbit/s.
	maxQueued = 1 << 20
	// maxQueuedDatagrams is the same in datagrams, which may be tiny.
	maxQueuedDatagrams = 4096
	// keptQueue is how large an empty queue may stay, in bytes.
	keptQueue = 32 << 10
	// keptDatagrams is the same in datagrams.
	keptDatagrams = 256
	// handOver is how much pion is given at once, in bytes, and handOverPause
	// how long it then has to take that further. Two of pion's own queues
	// follow on this one, and a queue of pion's never shrinks: after a moment
	// in which this process was not run each would keep the room for all that
	// came meanwhile, for as long as the connection lasts. In this way they
	// have to hold little, and 128 Mbit/s get through.
	handOver      = 16 << 10
	handOverPause = time.Millisecond
)

// muxConn is what a local ICE candidate has of the shared socket. It
// implements ice.AddrPortReaderWriter too.
type muxConn struct {
	mux    *udpMux
	branch *branch
	checks *checkBudget
	fault  onFault

	mu      sync.Mutex
	arrived sync.Cond // something is queued, or the conn was closed
	data    []byte    // datagrams end to end
	queue   []queuedDatagram
	next    int // in queue
	read    int // of data
	handed  int // bytes, since the reader last waited
	closed  bool
}

type queuedDatagram struct {
	from netip.AddrPort
	end  int // in data
}

func newMuxConn(m *udpMux, b *branch, checks *checkBudget, fault onFault) *muxConn {
	c := &muxConn{mux: m, branch: b, checks: checks, fault: fault}
	c.arrived.L = &c.mu
	return c
}

// put queues a copy of a datagram. ok says whether there was room for it, and
// first whether nothing else is queued, so that a reader may have to be woken.
func (c *muxConn) put(datagram []byte, from netip.AddrPort) (first, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	waiting := len(c.queue) - c.next
	if c.closed || waiting == maxQueuedDatagrams || len(c.data)-c.read+len(datagram) > maxQueued {
		return false, false
	}
	if c.read > keptQueue && c.read > len(c.data)/2 || c.next > keptDatagrams && c.next > len(c.queue)/2 {
		c.compact()
	}
	c.data = append(c.data, datagram...)
	c.queue = append(c.queue, queuedDatagram{from, len(c.data)})
	return waiting == 0, true
}

// compact forgets what was read of a queue that never is empty.
func (c *muxConn) compact() {
	c.data = c.data[:copy(c.data, c.data[c.read:])]
	c.queue = c.queue[:copy(c.queue, c.queue[c.next:])]
	for i := range c.queue {
		c.queue[i].end -= c.read
	}
	c.next, c.read = 0, 0
}

// ReadFromAddrPort implements ice.AddrPortReaderWriter. It waits for a
// datagram; what does not fit b is lost.
func (c *muxConn) ReadFromAddrPort(b []byte) (n int, from netip.AddrPort, err error) {
	defer guard.Recover(c.fault)
	err = io.EOF // of a panic
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.handed >= handOver && c.next < len(c.queue) {
		c.handed = 0
		c.mu.Unlock()
		time.Sleep(handOverPause)
		c.mu.Lock()
	}
	for c.next == len(c.queue) && !c.closed {
		c.handed = 0
		c.arrived.Wait()
	}
	if c.closed {
		return 0, netip.AddrPort{}, io.EOF
	}
	d := c.queue[c.next]
	n = copy(b, c.data[c.read:d.end])
	c.handed += d.end - c.read
	c.next, c.read = c.next+1, d.end
	if c.next == len(c.queue) {
		c.drained()
	}
	return n, d.from, nil
}

// drained makes room. What a burst has taken is given back.
func (c *muxConn) drained() {
	c.data, c.queue, c.next, c.read = c.data[:0], c.queue[:0], 0, 0
	if cap(c.data) > keptQueue || cap(c.queue) > keptDatagrams {
		c.data, c.queue = nil, nil
	}
}

// WriteToAddrPort implements ice.AddrPortReaderWriter. A check that is beyond
// the budget is lost, as any datagram may be.
func (c *muxConn) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	defer guard.Recover(c.fault)
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return 0, io.ErrClosedPipe
	}
	if !to.Addr().IsValid() {
		return 0, errNotUDP
	}
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	if isSTUN(b, stun.BindingRequest) && !c.checks.take(c.mux.proven(c.branch, to)) {
		return len(b), nil
	}
	c.mux.claim(c.branch, to, b)
	return c.mux.socket.send(b, to)
}

// ReadFrom implements net.PacketConn.
func (c *muxConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.ReadFromAddrPort(b)
	if err != nil {
		return 0, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// WriteTo implements net.PacketConn. An address may be nil: that of a candidate
// whose name pion has not resolved is.
func (c *muxConn) WriteTo(b []byte, to net.Addr) (int, error) {
	defer guard.Recover(c.fault)
	addr, ok := to.(*net.UDPAddr)
	if !ok || addr == nil {
		return 0, errNotUDP
	}
	return c.WriteToAddrPort(b, addr.AddrPort())
}

// LocalAddr implements net.PacketConn.
func (c *muxConn) LocalAddr() net.Addr { return c.mux.socket.localAddr() }

// SetDeadline implements net.PacketConn. Reads end with Close and writes do
// not wait, so nobody needs it.
func (c *muxConn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.PacketConn, see SetDeadline.
func (c *muxConn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.PacketConn, see SetDeadline.
func (c *muxConn) SetWriteDeadline(time.Time) error { return nil }

// Close implements net.PacketConn.
func (c *muxConn) Close() error {
	c.mu.Lock()
	closed := c.closed
	c.closed, c.data, c.queue = true, nil, nil
	c.arrived.Broadcast()
	c.mu.Unlock()
	if !closed {
		c.mux.remove(c)
	}
	return nil
}
