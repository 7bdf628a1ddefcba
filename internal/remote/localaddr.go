package remote

import (
	"net"
	"net/netip"
)

// GetListenAddresses implements ice.UDPMux: what to offer as local candidates.
func (m *udpMux) GetListenAddresses() []net.Addr {
	interfaces, err := net.Interfaces()
	if err != nil {
		m.log.Warn("could not list network interfaces", "err", err)
	}
	var all []net.Addr
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		if some, err := i.Addrs(); err == nil { // it may have gone
			all = append(all, some...)
		}
	}
	local := m.socket.localAddr()
	var addresses []net.Addr
	for _, a := range reachable(all, local.IP.To4() == nil, m.loopback) {
		addresses = append(addresses, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, uint16(local.Port))))
	}
	return addresses
}

// reachable are those addresses of this machine that a candidate can name
// (RFC 8445 §5.1.1.1), or its loopback addresses. Link-local ones of IPv6 mean
// nothing without a zone, which candidates leave out.
func reachable(all []net.Addr, ipv6, loopback bool) (found []netip.Addr) {
	for _, a := range all {
		prefix, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		addr, ok := netip.AddrFromSlice(prefix.IP)
		addr = addr.Unmap()
		if ok && addr.IsLoopback() == loopback && (addr.Is4() || ipv6 && !addr.IsLinkLocalUnicast()) {
			found = append(found, addr)
		}
	}
	return found
}
