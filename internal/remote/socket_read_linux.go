//go:build linux && (amd64 || arm64)

package remote

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

const (
	batchSize    = 128  // datagrams read at once
	datagramSize = 2048 // larger ones are cut, and then refused by those who parse them
	// idleWaits is after how many waits in a row that brought nothing the
	// kernel is asked to wake us. Until then that would only cost.
	idleWaits = 50
	// fewDatagrams do not pay for being read alone: after fewer than that the
	// next ones may gather for twice as long.
	fewDatagrams = 8

	pollIn = 1 // POLLIN
)

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

// receive implements mediaSocket.
func (s *batchSocket) receive(take func([]byte, netip.AddrPort)) error {
	s.next(s.source + 1)
	if s.source == len(s.poll) {
		s.await()
		s.next(0)
	}
	if err := s.fill(); err != nil {
		return err
	}
	for i := range s.got {
		take(s.batch.data[i][:s.batch.messages[i].length], s.batch.from(i))
	}
	return nil
}

// next goes on to the next socket that something came to, or behind the last.
func (s *batchSocket) next(from int) {
	for s.source = min(from, len(s.poll)); s.source < len(s.poll) && s.poll[s.source].revents == 0; s.source++ {
	}
}

// fill reads the next batch, which may be empty.
func (s *batchSocket) fill() error {
	s.open.RLock()
	defer s.open.RUnlock()
	if s.closing.Load() {
		return net.ErrClosed
	}
	for i := range s.got {
		s.batch.messages[i].header.Namelen = syscall.SizeofSockaddrInet6
		s.batch.messages[i].header.SetControllen(timeMessageSize)
	}
	s.got = 0
	if s.source == len(s.poll) {
		return nil
	}
	// It does not wait, so Go's scheduler need not hear of it.
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVMMSG, uintptr(s.fds[s.source]),
		uintptr(unsafe.Pointer(&s.batch.messages)), batchSize, syscall.MSG_DONTWAIT, 0, 0)
	s.reads.Add(1)
	switch errno {
	case 0:
		s.got = int(n)
		s.full = s.full || s.got == batchSize
		s.brought += int(n)
		s.datagrams.Add(uint64(n))
		s.note()
	case syscall.EAGAIN, syscall.EINTR:
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

// await lets datagrams gather, unless some were left.
func (s *batchSocket) await() {
	if s.full {
		s.full = false
		if len(s.poll) > 1 {
			s.look(&syscall.Timespec{})
		}
		return
	}
	if s.brought > 0 {
		s.idle = 0
	}
	if s.lag == 0 || s.idle >= idleWaits {
		s.look(nil)
		s.idle = 0
	}
	s.idle++
	lag := s.lag
	if s.brought < fewDatagrams {
		lag *= 2
	}
	s.brought = 0
	if lag > 0 {
		time.Sleep(untilBeat(lag))
		if len(s.poll) > 1 {
			s.look(&syscall.Timespec{})
		}
	}
}

// look asks to which sockets something came. Without a timeout it waits until
// there is one, or they are shut down.
func (s *batchSocket) look(timeout *syscall.Timespec) {
	s.open.RLock()
	defer s.open.RUnlock()
	for errno := syscall.EINTR; errno == syscall.EINTR && !s.closing.Load(); {
		_, _, errno = syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&s.poll[0])), uintptr(len(s.poll)),
			uintptr(unsafe.Pointer(timeout)), 0, 0, 0)
	}
}
