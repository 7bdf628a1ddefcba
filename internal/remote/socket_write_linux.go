//go:build linux && (amd64 || arm64)

package remote

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"unsafe"
)

// send implements mediaSocket.
func (s *batchSocket) send(b []byte, to netip.AddrPort) (int, error) {
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
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(s.fds[0]), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
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
