package remote

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/pion/webrtc/v4"
)

func TestAMemberCannotHaveUsSendWhereNoMemberIs(t *testing.T) {
	rules := &addressRules{deny: []netip.Prefix{
		netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8:dead::/48"),
	}}
	for _, text := range []string{
		"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.254", "169.254.169.254", "224.0.0.251", "239.255.255.250", "240.0.0.1",
		"255.255.255.255", "198.51.100.7",
		"::", "::1", "fe80::1", "fe80::1%eth0", "2001:db8::1%eth0", "ff02::fb", "ff0e::1", "2001:db8:dead::1",
		// IPv4 within IPv6: mapped, compatible, translated, 6to4, NAT64, Teredo's server and client.
		"::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:255.255.255.255", "::ffff:198.51.100.7",
		"::127.0.0.1", "::169.254.169.254", "::ffff:0:127.0.0.1", "::ffff:0:198.51.100.7",
		"2002:7f00:1::1", "2002:a9fe:a9fe::", "2002:e000:fb::", "2002:c633:6407::1",
		"64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::ffff:ffff", "64:ff9b::198.51.100.7",
		"64:ff9b:1::127.0.0.1", "64:ff9b:1:7f00:0:100::", "64:ff9b:1:ab7f:0:1::", "64:ff9b:1:abcd:7f:0:100:0",
		"2001:0:a9fe:a9fe::5d9a:1", "2001:0:4136:e378:8000:63bf:5601:5601", // ^86.1.86.1 = 169.254.169.254
	} {
		if rules.allow(netip.MustParseAddr(text)) {
			t.Errorf("%s is allowed", text)
		}
	}
	for _, text := range []string{
		"192.0.2.1", "10.0.0.1", "192.168.1.7", "172.17.0.1", "100.64.0.1", "198.51.101.7", "223.255.255.255", "2001:db8::1",
		"fd00::1", "::ffff:192.0.2.1", "64:ff9b::192.0.2.1", "2002:c000:201::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
	} {
		if !rules.allow(netip.MustParseAddr(text)) {
			t.Errorf("%s is not allowed", text)
		}
	}
	if rules.allow(netip.Addr{}) {
		t.Error("no address is allowed")
	}
	local := &addressRules{loopback: true}
	for text, want := range map[string]bool{"127.0.0.1": true, "::1": true, "::ffff:127.0.0.1": true, "0.0.0.0": false, "::": false} {
		if local.allow(netip.MustParseAddr(text)) != want {
			t.Errorf("on this machine: %s is allowed: %t", text, !want)
		}
	}
}

func TestACandidateReachesPionInOurWordsOnly(t *testing.T) {
	rules := &addressRules{}
	for _, c := range []struct{ text, want, reason string }{
		{"candidate:842163049 1 udp 1677729535 192.0.2.7 46154 typ srflx raddr 10.0.0.1 rport 5 generation 0 ufrag abcd network-id 1",
			"candidate:1 1 udp 1677729535 192.0.2.7 46154 typ srflx", ""},
		{"candidate:1 1 UDP 1 2001:db8::1 9 typ host", "candidate:1 1 udp 1 2001:db8::1 9 typ host", ""},
		{"candidate:1 1 udp 1 ::ffff:192.0.2.7 9 typ relay raddr evil.invalid rport 1", "candidate:1 1 udp 1 192.0.2.7 9 typ relay", ""},
		{"candidate: 1 udp 1 192.0.2.7 9 typ host", "candidate:1 1 udp 1 192.0.2.7 9 typ host", ""}, // seen in the wild
		{"1 1 udp 1 192.0.2.7 9 typ prflx", "candidate:1 1 udp 1 192.0.2.7 9 typ prflx", ""},

		{"candidate:1 1 udp 2130706431 evil.example.invalid 53 typ host", "", dropName},
		{"candidate:1 1 udp 2130706431 .invalid 53 typ host", "", dropName},
		{"candidate:1 1 udp 2130706431 evil.INVALID. 53 typ host", "", dropName},
		{"candidate:1 1 udp 1 169.254.169.254%.invalid 53 typ host", "", dropName},
		{"candidate:1 1 udp 1 fe80::1%.invalid 53 typ host", "", dropAddress},
		{"candidate:1 1 udp 1 2001:db8::1%.local 53 typ host", "", dropAddress},
		{"candidate:1 1 udp 1 5d9a7f2c-0c5e-4b8e-9a39-6d7e4b1f2a3b.local 54321 typ host", "", dropName},
		{"candidate:1 1 udp 1 example.com 53 typ srflx", "", dropName},
		{"candidate:1 1 udp 1 010.0.0.1 53 typ host", "", dropName},
		{"candidate:1 1 udp 1 2130706433 53 typ host", "", dropName},
		{"candidate:1 1 udp 1 [2001:db8::1] 53 typ host", "", dropName},
		{"candidate:1 1 udp 1 127.0.0.1 53 typ host", "", dropAddress},
		{"candidate:1 1 udp 1 ::ffff:7f00:1 53 typ srflx", "", dropAddress},
		{"candidate:1 1 udp 1 192.0.2.7 0 typ host", "", dropAddress},
		{"candidate:1 1 tcp 1518280447 192.0.2.7 9 typ host tcptype active generation 0", "", dropUnsupported},
		{"candidate:1 1 tcp 1518280447 192.0.2.7 22 typ host tcptype passive", "", dropUnsupported},
		{"candidate:1 1 tcp 1518280447 evil.example.invalid 22 typ host tcptype passive", "", dropUnsupported},
		{"candidate:1 1 udp-evil 1 192.0.2.7 9 typ host", "", dropUnsupported},
		{"candidate:1 2 udp 1 192.0.2.7 9 typ host", "", dropUnsupported},
		{"candidate:1 1 udp 1 192.0.2.7 9 typ other", "", dropUnsupported},

		{"candidate:nonsense", "", dropRejected},
		{"a=candidate:1 1 udp 1 192.0.2.7 9 host", "", dropRejected},
		{"candidate:1 1 udp 4294967296 192.0.2.7 9 typ host", "", dropRejected},
		{"candidate:1 1 udp -1 192.0.2.7 9 typ host", "", dropRejected},
		{"candidate:1 1 udp 1 192.0.2.7 65536 typ host", "", dropRejected},
		{"candidate:1 x udp 1 192.0.2.7 9 typ host", "", dropRejected},
		{strings.Repeat(" ", 900), "", dropRejected},
	} {
		got, reason, err := rules.check(webrtc.ICECandidateInit{Candidate: c.text})
		if got.text != c.want || reason != c.reason || (err != nil) != (reason == dropRejected) {
			t.Errorf("%.90s\nis %q, dropped as %q: %v", c.text, got.text, reason, err)
		}
	}
}

func TestNoAddressOfADescriptionReachesPion(t *testing.T) {
	line := "a=candidate:1 1 udp 1 evil.example.invalid 9 typ host\n"
	text := offerText(opusLine+"a=sendrecv\n"+line+"a=remote-candidates:1 127.0.0.1 53\na=rtcp:9 IN IP4 127.0.0.1\n", dataLine+line)
	text = strings.Replace(text, "t=0 0\r\n", "c=IN IP4 127.0.0.1\r\nt=0 0\r\na=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\na=end-of-candidates\r\n", 1)
	d := parsed(t, text)
	if n := len(d.candidates()); n != 2 {
		t.Errorf("%d candidates", n)
	}
	out, err := d.forPion(map[string]bool{})
	must(t, err)
	if found := addressLine.FindString(out.SDP); found != "" || strings.Contains(out.SDP, "candidate") {
		t.Errorf("%q is left in\n%s", found, out.SDP)
	}
}
