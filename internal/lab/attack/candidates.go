package attack

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

var candidateAttacks = []Attack{
	{
		Name:    "candidate-names",
		About:   "trickles ICE candidates with names, .invalid, .local, zones, ports and types that no browser has",
		Promise: "only literal addresses are tried, and the process lives",
		run:     func(ctx context.Context, t Target) error { return t.oddCandidates(ctx, false) },
	},
	{
		Name:    "candidate-names-in-offer",
		About:   "the same inside offers, each of a new connection",
		Promise: "only literal addresses are tried, and the process lives",
		run:     func(ctx context.Context, t Target) error { return t.oddCandidates(ctx, true) },
	},
	{
		Name:    "candidate-flood",
		About:   "90 candidates a second of a single connection",
		Promise: "at most 200 are taken for the same ICE credentials",
		run: func(ctx context.Context, t Target) error {
			sdp, err := offerOf(1)
			if err != nil {
				return err
			}
			return t.chatter(ctx, func(n int) any {
				if n == 0 {
					return description("offer", sdp)
				}
				return candidate(
					fmt.Sprintf("candidate:%d 1 udp %d 127.0.0.1 %d typ host", n, n, 1024+n%60_000),
				)
			})
		},
	},
	{
		Name:  "stun-elsewhere",
		About: "100 addresses of somebody else as candidates of an offer, with an ICE restart 5 times a second",
		Promise: fmt.Sprintf(
			"at most %d datagrams a second go to addresses that have not answered",
			mostChecks,
		),
		run: stunElsewhere,
	},
}

// mostChecks is how many datagrams a second the recorder may send to addresses
// that have not answered.
const mostChecks = 50

// oddLines are candidates that a browser does not send.
func oddLines() (lines []string) {
	for _, host := range []string{
		"evil.example.invalid", ".invalid", "invalid", "x.local", ".local", "localhost", "0x7f000001", "2130706433", "127.1", "1.2.3.4.5",
		"0.0.0.0", "255.255.255.255", "::", "::1", "fe80::1%lo", "::ffff:127.0.0.1", "224.0.0.1", "ff02::1", "169.254.169.254", "%", "",
		"\u0661.\u0662.\u0663.\u0664", strings.Repeat("a", 250) + ".invalid", "a..invalid", "*.invalid", "[::1]", "127.0.0.1 x",
	} {
		lines = append(
			lines,
			"candidate:1 1 udp 2130706431 "+host+" 53 typ host",
			"candidate:2 1 tcp 1 "+host+" 9 typ host tcptype active",
		)
	}
	for _, rest := range []string{
		"1 udp 1 127.0.0.1 0 typ host", "1 udp 1 127.0.0.1 65536 typ host", "1 udp 1 127.0.0.1 -1 typ host", "1 udp 99999999999 127.0.0.1 9 typ host",
		"2 udp 1 127.0.0.1 9 typ host", "1 sctp 1 127.0.0.1 9 typ host", "1 udp 1 127.0.0.1 9 typ", "1 udp 1 127.0.0.1 9 typ relay",
		"1 udp 1 127.0.0.1 9 typ srflx raddr evil.invalid rport x", "1 udp 1 127.0.0.1 9 typ prflx raddr", "1 tcp 1 127.0.0.1 1 typ host tcptype passive",
		"1 tcp 1 127.0.0.1 1 typ host tcptype so", "1 udp 1 127.0.0.1 9 typ host" + strings.Repeat(" x y", 200), "", "1",
	} {
		lines = append(lines, "candidate:3 "+rest)
	}
	return lines
}

// oddCandidates sends them one by one, or all in each offer.
func (t Target) oddCandidates(ctx context.Context, inOffer bool) error {
	sdp, err := offerOf(1)
	if err != nil {
		return err
	}
	lines := oddLines()
	return t.chatter(ctx, func(n int) any {
		switch {
		case inOffer:
			few := []string{lines[n%len(lines)], lines[(n+1)%len(lines)]}
			return description("offer", another(withCandidates(sdp, few)))
		case n%len(lines) == 0:
			return description("offer", restarted(sdp))
		}
		return candidate(lines[n%len(lines)])
	})
}

// stunElsewhere plays the victim as well, which counts what comes.
func stunElsewhere(ctx context.Context, t Target) error {
	victim, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer victim.Close()
	var hits atomic.Int64
	go func() {
		buf := make([]byte, 2048)
		for {
			if _, _, err := victim.ReadFrom(buf); err != nil {
				return
			}
			hits.Add(1)
		}
	}()
	sdp, err := offerOf(1)
	if err != nil {
		return err
	}
	var lines []string
	for i := range 100 {
		port := victim.LocalAddr().(*net.UDPAddr).Port
		lines = append(
			lines,
			fmt.Sprintf(
				"candidate:%d 1 udp %d 127.9.0.%d %d typ host",
				i,
				2_000_000_000-i,
				i+1,
				port,
			),
		)
	}
	s, err := t.speak(ctx, t.id())
	if err != nil {
		return err
	}
	defer s.close()
	start := time.Now()
	err = t.every(ctx, 200*time.Millisecond, func(int) error {
		return s.say(ctx, description("offer", restarted(withCandidates(sdp, lines))))
	})
	// The first second's may come at once.
	if n, most := hits.Load(), int64(mostChecks*(time.Since(start).Seconds()+1)); n > most {
		return BrokenPromise(
			fmt.Sprintf(
				"%d datagrams came to addresses that did not answer, at most %d may",
				n,
				most,
			),
		)
	}
	return err
}
