package remote

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// addressRules say to which addresses a member may have us send. Whoever may
// join a channel names them, so they are taken for an attacker's.
type addressRules struct {
	loopback bool           // the members may be on this machine
	deny     []netip.Prefix // by configuration
}

// special are networks that no member is reached in: "this network",
// link-local, multicast, the reserved block with the broadcast address (RFC
// 6890), and what a network translates to IPv4 addresses in a way of its own
// (RFC 8215). Other IPv4 addresses inside IPv6 ones are looked at apart.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/128"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff00::/8"),
	netip.MustParsePrefix("64:ff9b:1::/48"),
}

// allow reports whether we may send to an address.
func (r *addressRules) allow(a netip.Addr) bool {
	if !a.IsValid() || a.Zone() != "" {
		return false // a zone of the member's machine means nothing on ours
	}
	a = a.Unmap()
	for _, a := range append(embedded(a), a) {
		if !r.allowOne(a) {
			return false
		}
	}
	return true
}

func (r *addressRules) allowOne(a netip.Addr) bool {
	if a.IsLoopback() && !r.loopback {
		return false
	}
	contains := func(p netip.Prefix) bool { return p.Contains(a) }
	return !slices.ContainsFunc(special, contains) && !slices.ContainsFunc(r.deny, contains)
}

var (
	compatible = netip.MustParsePrefix("::/96")           // RFC 4291 §2.5.5.1
	translated = netip.MustParsePrefix("::ffff:0:0:0/96") // RFC 7915
	sixToFour  = netip.MustParsePrefix("2002::/16")       // RFC 3056
	teredo     = netip.MustParsePrefix("2001::/32")       // RFC 4380
	nat64      = netip.MustParsePrefix("64:ff9b::/96")    // RFC 6052
)

// embedded lists the IPv4 addresses that a packet to an IPv6 address may be
// translated or tunnelled to.
func embedded(a netip.Addr) (inner []netip.Addr) {
	if !a.Is6() {
		return nil
	}
	b := a.As16()
	add := func(v uint32) {
		inner = append(inner, netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, v))))
	}
	high, low := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	switch {
	case compatible.Contains(a) && low > 1, translated.Contains(a), nat64.Contains(a):
		add(uint32(low))
	case sixToFour.Contains(a):
		add(uint32(high >> 16))
	case teredo.Contains(a):
		add(uint32(high))
		add(^uint32(low))
	}
	return inner
}
