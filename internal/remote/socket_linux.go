//go:build linux && (amd64 || arm64)

package remote

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

const (
	batchSize    = 128  // datagrams read at once
	datagramSize = 2048 // larger ones are cut, and then refused by those who parse them
	// idleReads is after how many reads in a row that brought nothing the
	// kernel is asked to wake us. Until then that would only cost.
	idleReads = 50

	// fewDatagrams do not pay for being read alone: after fewer than that the
	// next ones may gather for twice as long.
	fewDatagrams = 8

	soReusePort   = 15 // SO_REUSEPORT
	soMemInfo     = 55 // SO_MEMINFO
	memInfoBuffer = 1  // SK_MEMINFO_RCVBUF
	memInfoDrops  = 8  // SK_MEMINFO_DROPS
	memInfoSize   = 9
	pollIn        = 1 // POLLIN
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

	// Of the reader, of which there is one at a time.
	reading sync.Mutex
	poll    []pollFD
	batch   *batch
	source  int // the index in fds of what batch came from
	next    int // in batch
	got     int // datagrams in batch
	idle    int // reads that brought nothing
	brought int // datagrams since the last wait
}

// pollFD is struct pollfd.
type pollFD struct {
	fd              int32
	events, revents int16
}

// batch is where recvmmsg puts datagrams.
type batch struct {
	messages [batchSize]message
	vectors  [batchSize]syscall.Iovec
	names    [batchSize]syscall.RawSockaddrInet6 // large enough for either family
	controls [batchSize]timeMessage
	data     [batchSize][datagramSize]byte
}

// timeMessage is what the system says of a datagram besides: a struct cmsghdr
// and a struct timespec.
type timeMessage struct {
	header syscall.Cmsghdr
	at     syscall.Timespec
}

const timeMessageSize = int(unsafe.Sizeof(timeMessage{}))

// message is struct mmsghdr.
type message struct {
	header syscall.Msghdr
	length uint32
	_      uint32
}

func newBatch() *batch {
	b := &batch{}
	for i := range b.messages {
		b.vectors[i].Base = &b.data[i][0]
		b.vectors[i].SetLen(datagramSize)
		h := &b.messages[i].header
		h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		h.Namelen = syscall.SizeofSockaddrInet6
		h.Iov = &b.vectors[i]
		h.Iovlen = 1
		h.Control = (*byte)(unsafe.Pointer(&b.controls[i]))
		h.SetControllen(timeMessageSize)
	}
	return b
}

// listenMedia opens the media port, a free one if port is 0. If the kernel
// grants less than socketBuffer at once, as many sockets share the port as it
// takes, and the kernel spreads the members over them. A limit that is not 0
// is the most that is asked for at once.
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
		return nil, errors.Join(os.NewSyscallError("getsockname", err), s.Close())
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
	for total := granted; granted > 0 && total < socketBuffer && len(s.fds) < maxSockets; total += granted {
		fd, err := s.listen(s.local.Port)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		s.fds = append(s.fds, fd)
		enlarge(fd, limit)
	}
	for _, fd := range s.fds {
		s.poll = append(s.poll, pollFD{fd: int32(fd), events: pollIn})
	}
	s.source = len(s.fds) - 1
	return s, nil
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

// ReadFromAddrPort implements ice.AddrPortReaderWriter.
func (s *batchSocket) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	for s.next == s.got {
		if err := s.fill(); err != nil {
			return 0, netip.AddrPort{}, err
		}
	}
	i := s.next
	s.next++
	n := copy(b, s.batch.data[i][:s.batch.messages[i].length])
	return n, s.batch.from(i), nil
}

// from is the sender of a datagram.
func (b *batch) from(i int) netip.AddrPort {
	name := &b.names[i]
	port := (*[2]byte)(unsafe.Pointer(&name.Port))
	if name.Family == syscall.AF_INET {
		v4 := (*syscall.RawSockaddrInet4)(unsafe.Pointer(name))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), binary.BigEndian.Uint16(port[:]))
	}
	addr := netip.AddrFrom16(name.Addr).Unmap()
	if name.Scope_id != 0 && addr.Is6() {
		addr = addr.WithZone(strconv.FormatUint(uint64(name.Scope_id), 10))
	}
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(port[:]))
}

// fill reads the next batch, which may be empty.
func (s *batchSocket) fill() error {
	if s.got < batchSize { // that was all
		s.source++
	}
	if s.source >= len(s.poll) {
		s.source = 0
		s.await()
	}
	s.open.RLock()
	defer s.open.RUnlock()
	if s.closing.Load() {
		return net.ErrClosed
	}
	for i := range s.got {
		s.batch.messages[i].header.Namelen = syscall.SizeofSockaddrInet6
		s.batch.messages[i].header.SetControllen(timeMessageSize)
	}
	s.next, s.got = 0, 0
	n, _, errno := syscall.Syscall6(syscall.SYS_RECVMMSG, uintptr(s.fds[s.source]),
		uintptr(unsafe.Pointer(&s.batch.messages)), batchSize, syscall.MSG_DONTWAIT, 0, 0)
	s.reads.Add(1)
	switch errno {
	case 0:
		s.got, s.idle = int(n), 0
		s.brought += int(n)
		s.datagrams.Add(uint64(n))
		s.note()
	case syscall.EAGAIN, syscall.EINTR:
		s.idle++
	default:
		return os.NewSyscallError("recvmmsg", errno)
	}
	return nil
}

// note remembers when the datagrams of the batch came.
func (s *batchSocket) note() {
	now := time.Now()
	for i := range s.got {
		m, told := &s.batch.messages[i], &s.batch.controls[i]
		if int(m.header.Controllen) >= timeMessageSize && told.header.Level == syscall.SOL_SOCKET && told.header.Type == syscall.SCM_TIMESTAMPNS {
			s.arrivals.note(s.batch.data[i][:m.length], now, time.Duration(now.UnixNano()-told.at.Nano()))
		}
	}
}

func (s *batchSocket) times() *arrivals { return s.arrivals }

// await lets datagrams gather.
func (s *batchSocket) await() {
	if s.lag == 0 || s.idle >= idleReads*len(s.poll) {
		s.open.RLock()
		if !s.closing.Load() { // Close ends the wait, by shutting the sockets down
			_, _, _ = syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&s.poll[0])), uintptr(len(s.poll)), 0, 0, 0, 0)
		}
		s.open.RUnlock()
		s.idle = 0
	}
	lag := s.lag
	if s.brought < fewDatagrams {
		lag *= 2
	}
	s.brought = 0
	if lag > 0 {
		time.Sleep(lag)
	}
}

// WriteToAddrPort implements ice.AddrPortReaderWriter.
func (s *batchSocket) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	var name syscall.RawSockaddrInet6
	length := uintptr(syscall.SizeofSockaddrInet6)
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&name.Port))[:], to.Port())
	if s.ipv6 {
		name.Family, name.Addr = syscall.AF_INET6, to.Addr().As16()
		if zone := to.Addr().Zone(); zone != "" {
			name.Scope_id = zoneID(zone)
		}
	} else {
		if !to.Addr().Unmap().Is4() {
			return 0, syscall.EAFNOSUPPORT
		}
		v4 := (*syscall.RawSockaddrInet4)(unsafe.Pointer(&name))
		v4.Family, v4.Addr, length = syscall.AF_INET, to.Addr().Unmap().As4(), syscall.SizeofSockaddrInet4
	}
	s.open.RLock()
	defer s.open.RUnlock()
	if s.closing.Load() {
		return 0, net.ErrClosed
	}
	n, _, errno := syscall.Syscall6(syscall.SYS_SENDTO, uintptr(s.fds[0]), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
		syscall.MSG_DONTWAIT, uintptr(unsafe.Pointer(&name)), length)
	if errno != 0 {
		return 0, os.NewSyscallError("sendto", errno)
	}
	return int(n), nil
}

// zoneID is the number of the interface that a zone names.
func zoneID(zone string) uint32 {
	if id, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(id)
	}
	if i, err := net.InterfaceByName(zone); err == nil {
		return uint32(i.Index)
	}
	return 0
}

// ReadFrom implements net.PacketConn.
func (s *batchSocket) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := s.ReadFromAddrPort(b)
	if err != nil {
		return 0, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// WriteTo implements net.PacketConn.
func (s *batchSocket) WriteTo(b []byte, to net.Addr) (int, error) {
	udp, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, syscall.EAFNOSUPPORT
	}
	return s.WriteToAddrPort(b, udp.AddrPort())
}

// LocalAddr implements net.PacketConn.
func (s *batchSocket) LocalAddr() net.Addr { return s.local }

// SetDeadline implements net.PacketConn. Reads end with Close and writes do
// not wait, so nobody needs it.
func (s *batchSocket) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.PacketConn, see SetDeadline.
func (s *batchSocket) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.PacketConn, see SetDeadline.
func (s *batchSocket) SetWriteDeadline(time.Time) error { return nil }

// Close implements net.PacketConn. The reader is gone when it returns, but
// for the lag.
func (s *batchSocket) Close() error {
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
