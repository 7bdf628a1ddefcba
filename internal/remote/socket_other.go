//go:build !linux || !(amd64 || arm64)

package remote

import (
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// udpSocket is a mediaSocket that reads one datagram at a time.
type udpSocket struct {
	conn      *net.UDPConn
	buf       [2048]byte
	datagrams atomic.Uint64
}

// listenMedia opens the media port, a free one if port is 0.
func listenMedia(port, _ int, _ time.Duration) (mediaSocket, error) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{Port: port})
	if err != nil {
		return nil, err
	}
	for size := socketBuffer; size >= 256<<10 && conn.SetReadBuffer(size) != nil; size /= 2 {
	}
	return &udpSocket{conn: conn}, nil
}

// receive implements mediaSocket.
func (s *udpSocket) receive(take func([]byte, netip.AddrPort)) error {
	n, from, err := s.conn.ReadFromUDPAddrPort(s.buf[:])
	if err != nil {
		return err
	}
	s.datagrams.Add(1)
	take(s.buf[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
	return nil
}

// send implements mediaSocket.
func (s *udpSocket) send(b []byte, to netip.AddrPort) (int, error) {
	return s.conn.WriteToUDPAddrPort(b, to)
}

func (s *udpSocket) localAddr() *net.UDPAddr { return s.conn.LocalAddr().(*net.UDPAddr) }

func (s *udpSocket) close() error { return s.conn.Close() }

func (s *udpSocket) times() *arrivals { return nil }

func (s *udpSocket) stats() socketStats {
	n := s.datagrams.Load()
	return socketStats{reads: n, datagrams: n}
}
