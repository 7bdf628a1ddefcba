package attack

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/pion/webrtc/v4"
)

var portAttacks = []Attack{
	atPort(
		"udp-junk",
		"datagrams of all sizes and first bytes at the media port, 4000 a second, from 4 sockets",
		"they are counted, and cost nobody a packet",
		func(ctx context.Context, t Target, p *publisher, to *net.UDPAddr) error {
			return t.junk(ctx, to, func() []byte {
				b := noise(rand.IntN(1500))
				if len(b) > 0 && rand.IntN(2) == 0 {
					b[0] = []byte{0, 1, 20, 22, 23, 64, 128, 144, 191}[rand.IntN(9)] // STUN, DTLS, TURN, RTP
				}
				return b
			})
		},
	),
	atPort(
		"stun-forged",
		"STUN requests for a connection that exists, from many ports, unsigned, wrongly signed and malformed",
		"the connection stays, and only who knows its password is answered",
		func(ctx context.Context, t Target, p *publisher, to *net.UDPAddr) error {
			_, rest, _ := strings.Cut(p.pc.RemoteDescription().SDP, "a=ice-ufrag:")
			ufrag, _, _ := strings.Cut(rest, "\r\n")
			return t.junk(ctx, to, func() []byte { return forgedRequest(ufrag + ":x") })
		},
	),
	atPort(
		"dtls-junk",
		"DTLS records and ClientHellos, from strangers and on the connection's own path",
		"the connection stays",
		func(ctx context.Context, t Target, p *publisher, to *net.UDPAddr) error {
			hello := func() []byte {
				b := append([]byte{22, 254, 253}, noise(200)...)
				binary.BigEndian.PutUint16(b[11:], uint16(len(b)-13))
				b[13] = byte(1 + rand.IntN(3))
				return b
			}
			p.wire.then(func([]byte, net.Addr) {
				_, _ = p.wire.UDPConn.WriteTo(hello(), to)
				t.sent.Add(1)
			})
			return t.junk(ctx, to, hello)
		},
	),
	atPort(
		"srtp-replay",
		"each media packet twice more, once changed, once cut, and once from another port",
		"SRTP drops them",
		func(ctx context.Context, t Target, p *publisher, to *net.UDPAddr) error {
			elsewhere, err := net.DialUDP("udp4", nil, to)
			if err != nil {
				return fmt.Errorf("listen: %w", err)
			}
			defer elsewhere.Close()
			p.wire.then(func(b []byte, to net.Addr) {
				changed := append([]byte(nil), b...)
				changed[rand.IntN(len(b))] ^= 1 << rand.IntN(8)
				for _, again := range [][]byte{b, b, changed, b[:rand.IntN(len(b))]} {
					_, _ = p.wire.UDPConn.WriteTo(again, to)
				}
				_, _ = elsewhere.Write(b)
				t.sent.Add(5)
			})
			t.begin()
			<-ctx.Done()
			return nil
		},
	),
}

// atPort is an attack at the media port by a member that has a connection and
// sends sound and pictures meanwhile.
func atPort(
	name, about, promise string,
	run func(context.Context, Target, *publisher, *net.UDPAddr) error,
) Attack {
	return Attack{
		Name:    name,
		About:   about,
		Promise: promise,
		run: func(ctx context.Context, t Target) error {
			sound, picture := NewRaw(
				webrtc.MimeTypeOpus,
				"sound",
			), NewRaw(
				webrtc.MimeTypeVP8,
				"picture",
			)
			p, err := t.publish(ctx, t.id(), sound, picture)
			if err != nil {
				return err
			}
			defer p.close()
			pair, err := p.pc.GetTransceivers()[0].Sender().
				Transport().
				ICETransport().
				GetSelectedCandidatePair()
			if err != nil || pair == nil {
				return errors.Join(errors.New("no path to the recorder"), err)
			}
			to := &net.UDPAddr{IP: net.ParseIP(pair.Remote.Address), Port: int(pair.Remote.Port)}
			sending, stop := context.WithCancel(ctx)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				_ = t.every(sending, 20*time.Millisecond, func(n int) error {
					t.send(sound, n, silence)
					t.send(picture, n, keyFrame)
					return nil
				})
			}()
			err = run(ctx, t, p, to)
			stop()
			<-sent
			if s := p.pc.ConnectionState(); err == nil && s != webrtc.PeerConnectionStateConnected {
				return BrokenPromise(fmt.Sprintf("the connection is %v", s))
			}
			return err
		},
	}
}

// junk sends datagrams to an address from 4 sockets, 4000 a second.
func (t Target) junk(ctx context.Context, to *net.UDPAddr, datagram func() []byte) error {
	var sockets []*net.UDPConn
	for range 4 {
		s, err := net.DialUDP("udp4", nil, to)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		defer s.Close()
		sockets = append(sockets, s)
	}
	return t.every(ctx, 4*time.Millisecond, func(int) error {
		for _, s := range sockets {
			for range 4 {
				_, _ = s.Write(datagram()) // refused when nobody listens any more
				t.sent.Add(1)
			}
		}
		return nil
	})
}

// forgedRequest is a binding request with a user name, and with a signature
// that is missing, wrong, or not where it belongs.
func forgedRequest(user string) []byte {
	attribute := func(kind uint16, value []byte) []byte {
		b := binary.BigEndian.AppendUint16(nil, kind)
		b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
		return append(append(b, value...), make([]byte, (4-len(value)%4)%4)...)
	}
	b := append([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42}, noise(12)...)
	b = append(b, attribute(6, []byte(user))...)
	switch rand.IntN(5) {
	case 0:
		b = append(b, attribute(8, hmac.New(sha1.New, noise(22)).Sum(nil))...) // MESSAGE-INTEGRITY
	case 1:
		b = append(b, attribute(uint16(rand.Uint32()), noise(rand.IntN(600)))...)
	case 2:
		b = append(b, attribute(0x25, nil)...) // USE-CANDIDATE
		b = append(b, attribute(8, noise(20))...)
		b = append(b, attribute(0x8028, noise(4))...) // FINGERPRINT
	case 3:
		b = append(b, 0, 6, 255, 255)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)-20))
	if rand.IntN(8) == 0 {
		binary.BigEndian.PutUint16(b[2:], uint16(rand.Uint32()))
	}
	return b
}
