//go:build linux && (amd64 || arm64)

package remote

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

const (
	soReusePort   = 15 // SO_REUSEPORT
	soMemInfo     = 55 // SO_MEMINFO
	memInfoBuffer = 1  // SK_MEMINFO_RCVBUF
	memInfoDrops  = 8  // SK_MEMINFO_DROPS
	memInfoSize   = 9
)

// batchSocket is a mediaSocket that reads with recvmmsg(2). Its descriptors
// are not given to Go's poller, which would wake up for every single packet.
type batchSocket struct {
	lag   time.Duration
	ipv6  bool
	local *net.UDPAddr

	closing atomic.Bool
	open    sync.RWMutex // held for reading while descriptors are used
	fds     []int        // none once closed

	reads, datagrams atomic.Uint64
	arrivals         *arrivals

	// Of the reader, of which there is one.
	poll    []pollFD
	batch   *batch
	source  int  // the index in fds of what batch came from
	got     int  // datagrams in batch
	full    bool // a batch since the last wait was, and left some behind
	idle    int  // waits in a row after which nothing came
	brought int  // datagrams since the last wait
}

// listenMedia opens the media port, a free one if port is 0. If the kernel
// grants less than socketBuffer at once, several sockets share the port, and
// the kernel spreads the members over them. A limit that is not 0 is the most
// that is asked for at once.
func listenMedia(port, limit int, lag time.Duration) (mediaSocket, error) {
	s := &batchSocket{lag: lag, ipv6: true, batch: newBatch(), arrivals: newArrivals()}
	fd, err := s.listen(port)
	if errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL) {
		s.ipv6 = false
		fd, err = s.listen(port)
	}
	if err != nil {
		return nil, err
	}
	s.fds = append(s.fds, fd)
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("getsockname", err), s.close())
	}
	switch name := name.(type) {
	case *syscall.SockaddrInet4:
		s.local = &net.UDPAddr{IP: net.IPv4zero, Port: name.Port}
	case *syscall.SockaddrInet6:
		s.local = &net.UDPAddr{IP: net.IPv6unspecified, Port: name.Port}
	}
	if limit == 0 {
		limit = socketBuffer
	}
	enlarge(fd, limit)
	granted, _ := memInfo(fd)
	sockets := 1
	if granted > 0 && granted < socketBuffer {
		sockets = min(socketSpread*socketBuffer/granted, maxSockets, mostSockets())
	}
	for len(s.fds) < sockets {
		fd, err := s.listen(s.local.Port)
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		s.fds = append(s.fds, fd)
		enlarge(fd, limit)
	}
	for _, fd := range s.fds {
		s.poll = append(s.poll, pollFD{fd: int32(fd), events: pollIn, revents: pollIn})
	}
	s.source = len(s.fds)
	return s, nil
}

// mostSockets is how many descriptors the media port may take: an eighth of
// what the process may have, so that files and other sockets find theirs.
func mostSockets() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return maxSockets
	}
	return int(max(min(limit.Cur/8, maxSockets), 1))
}

// listen opens one socket.
func (s *batchSocket) listen(port int) (fd int, err error) {
	family := syscall.AF_INET
	var name syscall.Sockaddr = &syscall.SockaddrInet4{Port: port}
	if s.ipv6 {
		family, name = syscall.AF_INET6, &syscall.SockaddrInet6{Port: port}
	}
	fd, err = syscall.Socket(family, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	if s.ipv6 {
		err = syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, 0)
	}
	// The first socket has to find the port free: two recorders must not
	// share one by mistake.
	if len(s.fds) > 0 {
		for _, fd := range []int{s.fds[0], fd} {
			err = errors.Join(err, syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, soReusePort, 1))
		}
	}
	if err == nil {
		// Where that cannot be had packets count as come when they are read.
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_TIMESTAMPNS, 1)
		err = syscall.Bind(fd, name)
	}
	if err != nil {
		_ = syscall.Close(fd)
		return 0, fmt.Errorf("bind port %d: %w", port, err)
	}
	return fd, nil
}

// enlarge asks for a receive buffer, beyond the system's limit if that is allowed.
func enlarge(fd, size int) {
	if syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, size) != nil {
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, size) // what was granted is exported
	}
}

// memInfo returns the size of the receive buffer and how many datagrams did
// not fit, the latter as SO_RXQ_OVFL would have it.
func memInfo(fd int) (size int, drops uint64) {
	var info [memInfoSize]uint32
	length := uint32(unsafe.Sizeof(info))
	_, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, uintptr(fd), syscall.SOL_SOCKET, soMemInfo,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return 0, 0
	}
	return int(info[memInfoBuffer]), uint64(info[memInfoDrops])
}

func (s *batchSocket) localAddr() *net.UDPAddr { return s.local }

// close implements mediaSocket.
func (s *batchSocket) close() error {
	if s.closing.Swap(true) {
		return net.ErrClosed
	}
	s.open.RLock()
	for _, fd := range s.fds {
		// Says ENOTCONN, and still wakes up whoever polls.
		_ = syscall.Shutdown(fd, syscall.SHUT_RDWR)
	}
	s.open.RUnlock()
	s.open.Lock()
	defer s.open.Unlock()
	var err error
	for _, fd := range s.fds {
		err = errors.Join(err, syscall.Close(fd))
	}
	s.fds = nil
	return err
}

func (s *batchSocket) times() *arrivals { return s.arrivals }

func (s *batchSocket) stats() socketStats {
	s.open.RLock()
	defer s.open.RUnlock()
	stats := socketStats{reads: s.reads.Load(), datagrams: s.datagrams.Load()}
	for _, fd := range s.fds {
		size, drops := memInfo(fd)
		stats.buffer += size
		stats.dropped += drops
	}
	return stats
}
