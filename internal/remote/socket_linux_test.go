//go:build linux && (amd64 || arm64)

package remote

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"
)

// reach is where a sender on this machine finds a socket.
func reach(s mediaSocket, ip string) *net.UDPAddr {
	return &net.UDPAddr{IP: net.ParseIP(ip), Port: s.localAddr().Port}
}

func listenForTest(t testing.TB, limit int, lag time.Duration) mediaSocket {
	t.Helper()
	s, err := listenMedia(0, limit, lag)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	return s
}

func dialForTest(t testing.TB, to *net.UDPAddr) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp", nil, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// take has n datagrams taken.
func take(t *testing.T, s mediaSocket, n int, each func(datagram []byte, from netip.AddrPort)) {
	t.Helper()
	for n > 0 {
		if err := s.receive(func(datagram []byte, from netip.AddrPort) {
			n--
			each(datagram, from)
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSocketTakesAndAnswersBothFamilies(t *testing.T) {
	for _, ip := range []string{"127.0.0.1", "::1"} {
		s := listenForTest(t, 0, time.Millisecond)
		c, err := net.DialUDP("udp", nil, reach(s, ip))
		if err != nil {
			t.Logf("no %s here: %v", ip, err)
			continue
		}
		defer c.Close()
		_, err = c.Write([]byte("question"))
		must(t, err)
		take(t, s, 1, func(datagram []byte, from netip.AddrPort) {
			if string(datagram) != "question" || from != c.LocalAddr().(*net.UDPAddr).AddrPort() {
				t.Errorf("%q from %v", datagram, from)
			}
			_, err = s.send([]byte("answer"), from)
			must(t, err)
		})
		buf := make([]byte, 100)
		n, err := c.Read(buf)
		must(t, err)
		if string(buf[:n]) != "answer" {
			t.Errorf("%q came back", buf[:n])
		}
	}
}

func TestSocketReadsWhatGatheredAtOnce(t *testing.T) {
	s := listenForTest(t, 0, 10*time.Millisecond)
	c := dialForTest(t, reach(s, "127.0.0.1"))
	const count = 300
	for i := range count {
		_, err := c.Write(binary.BigEndian.AppendUint32(nil, uint32(i)))
		must(t, err)
	}
	i := 0
	take(t, s, count, func(datagram []byte, _ netip.AddrPort) {
		if !bytes.Equal(datagram, binary.BigEndian.AppendUint32(nil, uint32(i))) {
			t.Fatalf("datagram %d is %x", i, datagram)
		}
		i++
	})
	stats := s.stats()
	if stats.datagrams != count || stats.dropped != 0 || stats.buffer == 0 {
		t.Errorf("got %+v", stats)
	}
	if stats.reads > 20 {
		t.Errorf("%d reads for %d datagrams", stats.reads, count)
	}
}

// However long packets waited to be read together, when each came is known.
func TestSocketKnowsWhenPacketsCame(t *testing.T) {
	s := listenForTest(t, 0, time.Millisecond)
	c := dialForTest(t, reach(s, "127.0.0.1"))
	const apart = 3 * time.Millisecond
	var at [2]time.Time
	// The system begins to stamp packets a moment after it was asked to.
	for seq := uint16(0); seq < 1000 && at[1].Sub(at[0]) < apart; seq += 2 {
		before := time.Now()
		for i := range uint16(2) {
			_, err := c.Write(numbered(7, 96, seq+i, 0))
			must(t, err)
			time.Sleep(apart)
		}
		i := 0
		take(t, s, len(at), func(datagram []byte, _ netip.AddrPort) {
			at[i] = s.times().of(datagram, time.Time{})
			if at[i].Before(before.Add(-apart)) || at[i].After(time.Now()) {
				t.Fatalf("a packet sent %v ago came %v ago", time.Since(before), time.Since(at[i]))
			}
			i++
		})
	}
	if d := at[1].Sub(at[0]); d < apart {
		t.Errorf("sent more than %v apart, came %v apart", apart, d)
	}
}

// Where the system allows small buffers only, several of them together hold a stall.
func TestSocketsShareThePortWhenBuffersAreSmall(t *testing.T) {
	const members, each, size = 20, 44, 1200 // 250 ms of each member
	lost := func(limit int) uint64 {
		s := listenForTest(t, limit, time.Millisecond)
		payload := bytes.Repeat([]byte{1}, size)
		for range members {
			c := dialForTest(t, reach(s, "127.0.0.1"))
			for range each {
				_, err := c.Write(payload)
				must(t, err)
			}
		}
		lost := s.stats().dropped
		seen := map[netip.AddrPort]int{}
		take(t, s, members*each-int(lost), func(_ []byte, from netip.AddrPort) { seen[from]++ })
		if len(seen) > members || lost == 0 && len(seen) != members {
			t.Errorf("datagrams of %d members", len(seen))
		}
		return lost
	}
	if n := lost(0); n != 0 {
		t.Errorf("%d datagrams lost", n)
	}
	// Who shares a socket with whom is chance. One small buffer alone would lose four fifths.
	if n := lost(208 << 10); n > members*each/10 {
		t.Errorf("%d datagrams lost with small buffers", n)
	}
}

// Who sends without end holds up no one, whichever socket each is on.
func TestSocketTakesFromAllOfThemInTurn(t *testing.T) {
	s := listenForTest(t, 208<<10, 0)
	const members = 50
	one := []byte{1}
	for range members {
		_, err := dialForTest(t, reach(s, "127.0.0.1")).Write(one)
		must(t, err)
	}
	flooder := dialForTest(t, reach(s, "127.0.0.1"))
	flood := flooder.LocalAddr().(*net.UDPAddr).AddrPort()
	for range 2 * batchSize {
		_, err := flooder.Write(one)
		must(t, err)
	}
	seen := map[netip.AddrPort]bool{}
	for taken := 0; len(seen) < members; {
		if taken > 100*batchSize {
			t.Fatalf("%d of %d members were heard beside %d datagrams of another", len(seen), members, taken)
		}
		must(t, s.receive(func(_ []byte, from netip.AddrPort) {
			if from != flood {
				seen[from] = true
				return
			}
			taken++
			_, err := flooder.Write(one)
			must(t, err)
		}))
	}
}

func TestSocketCountsWhatTheSystemDrops(t *testing.T) {
	s := listenForTest(t, 1, time.Millisecond) // the least there is
	if len(s.(*batchSocket).fds) != maxSockets {
		t.Errorf("%d sockets", len(s.(*batchSocket).fds))
	}
	c := dialForTest(t, reach(s, "127.0.0.1"))
	for range 100 {
		_, err := c.Write(make([]byte, 1200))
		must(t, err)
	}
	if stats := s.stats(); stats.dropped == 0 || stats.dropped > 100 {
		t.Errorf("got %+v", stats)
	}
}

func TestSocketClosesUnderItsReader(t *testing.T) {
	for _, lag := range []time.Duration{0, time.Millisecond} {
		s := listenForTest(t, 0, lag)
		read := make(chan error)
		go func() {
			for {
				if err := s.receive(func([]byte, netip.AddrPort) {}); err != nil {
					read <- err
					return
				}
			}
		}()
		if lag == 0 {
			time.Sleep(10 * time.Millisecond) // so that it is likely to wait; it must end in any case
		}
		must(t, s.close())
		if err := <-read; !errors.Is(err, net.ErrClosed) {
			t.Errorf("reading ended with %v", err)
		}
		if _, err := s.send([]byte{1}, reach(s, "127.0.0.1").AddrPort()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("writing ended with %v", err)
		}
		if err := s.close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed again: %v", err)
		}
	}
}

func TestSocketReadsAndWritesWithoutAllocating(t *testing.T) {
	s := listenForTest(t, 0, 0)
	c := dialForTest(t, reach(s, "127.0.0.1"))
	out := make([]byte, 1200)
	answer := func(_ []byte, from netip.AddrPort) {
		if _, err := s.send(out[:20], from); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(200, func() {
		_, _ = c.Write(out)
		if err := s.receive(answer); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
