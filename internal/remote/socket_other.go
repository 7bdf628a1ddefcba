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
	*net.UDPConn
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
	return &udpSocket{UDPConn: conn}, nil
}

// ReadFromAddrPort implements ice.AddrPortReaderWriter.
func (s *udpSocket) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	n, from, err := s.ReadFromUDPAddrPort(b)
	if err == nil {
		s.datagrams.Add(1)
	}
	return n, from, err
}

// WriteToAddrPort implements ice.AddrPortReaderWriter.
func (s *udpSocket) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	return s.WriteToUDPAddrPort(b, to)
}

func (s *udpSocket) times() *arrivals { return nil }

func (s *udpSocket) stats() socketStats {
	n := s.datagrams.Load()
	return socketStats{reads: n, datagrams: n}
}
