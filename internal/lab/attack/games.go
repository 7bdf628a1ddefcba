package attack

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

// Game is what a member can do with packets. Play is called for each one.
type Game struct {
	Name string
	// Metric and Reason count what is refused; empty: packets are taken, and
	// written or not.
	Metric, Reason string
	Picture        string // format of the picture; empty: VP8
	Play           func(m *Match, n int)
}

// Match is what a game is played with: the tracks of one connection.
type Match struct {
	PC             *webrtc.PeerConnection
	Sound, Picture *Raw
	Random         *rand.Rand
}

// noise is n random bytes.
func (m *Match) noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(m.Random.Uint32())
	}
	return b
}

// Format is that of the picture.
func (g Game) Format() string { return cmp.Or(g.Picture, webrtc.MimeTypeVP8) }

// silence is an Opus packet of 20 ms, and keyFrame the beginning of a VP8 key
// frame of 16 by 16 pixels, with its payload descriptor.
var (
	silence  = []byte{0xf8, 0xff, 0xfe}
	keyFrame = append([]byte{0x10, 0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x10, 0x00, 0x10, 0x00},
		make([]byte, 100)...)
)

const refused = "recorder_remote_peer_rtp_packets_refused_total"

// both sends a packet on either track, with a header that was changed.
func both(change func(m *Match, h *rtp.Header, n int) (payload []byte)) func(*Match, int) {
	return func(m *Match, n int) {
		for _, t := range []*Raw{m.Sound, m.Picture} {
			h := t.Header(n)
			payload := change(m, h, n)
			_, _ = t.Writer.WriteRTP(h, payload)
		}
	}
}

// Games lists them.
var Games = []Game{
	{Name: "numbers and times at random",
		Play: both(func(m *Match, h *rtp.Header, _ int) []byte {
			h.SequenceNumber, h.Timestamp = uint16(m.Random.Uint32()), m.Random.Uint32()
			return m.noise(50)
		})},
	{Name: "jumps",
		Play: both(func(m *Match, h *rtp.Header, n int) []byte {
			h.SequenceNumber += uint16(n / 50 * 10_000)
			h.Timestamp += uint32(n/50) * 1 << 30
			return m.noise(50)
		})},
	{Name: "formats at random",
		Metric: refused, Reason: "mallory",
		Play: both(func(m *Match, h *rtp.Header, _ int) []byte {
			h.PayloadType = uint8(m.Random.UintN(128))
			return m.noise(50)
		})},
	{Name: "giant and truncated packets",
		Play: both(func(m *Match, _ *rtp.Header, n int) []byte {
			return m.noise([]int{0, 1, 2, 3, 1100, 1400}[n%6])
		})},
	{Name: "one source for two tracks",
		Metric: refused, Reason: "mallory",
		Play: func(m *Match, n int) {
			h := m.Picture.Header(2*n + 1) // no repeat, which SRTP would drop
			h.SSRC = m.Sound.SSRC
			_, _ = m.Sound.Writer.WriteRTP(m.Sound.Header(2*n), m.noise(50))
			_, _ = m.Picture.Writer.WriteRTP(h, m.noise(50))
			_, _ = m.Picture.Writer.WriteRTP(m.Picture.Header(n), m.noise(50))
		}},
	{Name: "retransmissions of anything",
		Play: func(m *Match, n int) {
			h := m.Picture.Header(n)
			_, _ = m.Picture.Writer.WriteRTP(h, m.noise(50))
			h.SSRC, h.PayloadType = m.Picture.Repairs, m.Picture.Format+1
			_, _ = m.Picture.Writer.WriteRTP(h, m.noise(int(m.Random.UintN(60))))
		}},
	{Name: "headers full of everything",
		Play: both(func(m *Match, h *rtp.Header, n int) []byte {
			h.CSRC = make([]uint32, n%16)
			h.Padding, h.PaddingSize = n%3 == 0, byte(n%20)
			_ = h.SetExtension(uint8(1+n%14), m.noise(1+n%16))
			return m.noise(50)
		})},
	{Name: "clocks at random",
		Play: func(m *Match, n int) {
			for _, t := range []*Raw{m.Sound, m.Picture} {
				_, _ = t.Writer.WriteRTP(t.Header(n), m.noise(50))
				_ = m.PC.WriteRTCP([]rtcp.Packet{&rtcp.SenderReport{
					SSRC: t.SSRC, NTPTime: m.Random.Uint64(), RTPTime: m.Random.Uint32(),
				}})
				header := []byte{0x80 | byte(n%32), byte(192 + n%32), 0, byte(n % 8)}
				garbage := rtcp.RawPacket(append(header, m.noise(4*(n%8))...))
				_ = m.PC.WriteRTCP([]rtcp.Packet{&garbage})
			}
		}},
	{Name: "nothing but padding",
		Play: both(func(m *Match, h *rtp.Header, n int) []byte {
			h.Padding, h.PaddingSize = true, byte(1+n%255)
			return nil
		})},
	{Name: "sources without end",
		Play: both(func(m *Match, h *rtp.Header, n int) []byte {
			if n%4 > 0 {
				h.SSRC = m.Random.Uint32()
			}
			return m.noise(50)
		})},
	{Name: "clocks that run backwards",
		Play: both(func(m *Match, h *rtp.Header, n int) []byte {
			h.Timestamp = -h.Timestamp * uint32(1+n/100)
			return valid(h)
		})},
	{Name: "a picture that never ends",
		Play: func(m *Match, n int) {
			for i := range 4 {
				h := m.Picture.Header(4*n + i)
				h.Marker, h.Timestamp = false, 1
				payload := make([]byte, 1100)
				if n+i == 0 {
					copy(payload, keyFrame)
				}
				_, _ = m.Picture.Writer.WriteRTP(h, payload)
			}
		}},
	{Name: "another size in each picture",
		Play: func(m *Match, n int) {
			h := m.Picture.Header(n)
			h.Marker, h.Timestamp = true, uint32(n)*3000
			payload := append([]byte(nil), keyFrame...)
			copy(payload[7:], m.noise(4))
			_, _ = m.Picture.Writer.WriteRTP(h, payload)
			_, _ = m.Sound.Writer.WriteRTP(m.Sound.Header(n), silence)
		}},
	{Name: "sound that lies of its length",
		Play: func(m *Match, n int) {
			_, _ = m.Sound.Writer.WriteRTP(m.Sound.Header(n), m.noise(2+int(m.Random.UintN(5))))
		}},
	{Name: "another SPS in each picture",
		Picture: webrtc.MimeTypeH264,
		Play: func(m *Match, n int) {
			slice := append([]byte{0x65, 0x88, 0x84}, make([]byte, 200)...)
			for i, nal := range [][]byte{sps(n), {0x68, 0xce, 0x38, 0x80}, slice} {
				h := m.Picture.Header(3*n + i)
				h.Marker, h.Timestamp = i == 2, uint32(n)*3000
				_, _ = m.Picture.Writer.WriteRTP(h, nal)
			}
			_, _ = m.Sound.Writer.WriteRTP(m.Sound.Header(n), silence)
		}},
	{Name: "noise as H.264",
		Picture: webrtc.MimeTypeH264,
		Play: both(func(m *Match, _ *rtp.Header, n int) []byte {
			return append([]byte{byte(n % 32), byte(m.Random.Uint32())}, m.noise(1+n%200)...)
		})},
	{Name: "noise as VP9",
		Picture: webrtc.MimeTypeVP9,
		Play: both(func(m *Match, _ *rtp.Header, n int) []byte {
			return m.noise(1 + n%200)
		})},
	{Name: "noise as AV1",
		Picture: webrtc.MimeTypeAV1,
		Play: both(func(m *Match, _ *rtp.Header, n int) []byte {
			return m.noise(1 + n%200)
		})},
}

func valid(h *rtp.Header) []byte {
	if h.Marker {
		return keyFrame
	}
	return silence
}

// sps is a sequence parameter set of H.264, baseline, whose pictures are
// 16·(1 + n mod 60) pixels wide and 16 high.
func sps(n int) []byte {
	var bits strings.Builder
	ue := func(v int) { // Exp-Golomb
		code := fmt.Sprintf("%b", v+1)
		bits.WriteString(strings.Repeat("0", len(code)-1) + code)
	}
	for _, v := range []int{0, 0, 2, 1} { // id, log2_max_frame_num-4, no order, 1 reference
		ue(v)
	}
	bits.WriteString("0")
	ue(n % 60) // width, in macroblocks, less 1
	ue(0)
	bits.WriteString("1100" + "1")
	nal := []byte{0x67, 0x42, 0xc0, 0x1e}
	for text := bits.String() + "0000000"; len(text) >= 8; text = text[8:] {
		var b byte
		for _, bit := range text[:8] {
			b = b<<1 | byte(bit-'0')
		}
		nal = append(nal, b)
	}
	return nal
}

// packetAttacks are the games, each of which a member plays that comes again
// when its connection is ended.
func packetAttacks() (all []Attack) {
	for _, g := range Games {
		name := strings.NewReplacer(" ", "-", ".", "").Replace(strings.ToLower(g.Name))
		all = append(all, Attack{
			Name: "packets-" + name, About: "RTP and RTCP: " + g.Name,
			Promise: "the member harms its own files alone",
			run: func(ctx context.Context, t Target) error {
				return again(ctx, func() error { return t.play(ctx, g) })
			},
		})
	}
	return all
}

func (t Target) play(ctx context.Context, g Game) error {
	sound, picture := NewRaw(webrtc.MimeTypeOpus, "sound"), NewRaw(g.Format(), "picture")
	p, err := t.publish(ctx, t.id(), sound, picture)
	if err != nil {
		return err
	}
	defer p.close()
	m := &Match{PC: p.pc, Sound: sound, Picture: picture, Random: rand.New(rand.NewPCG(1, 2))}
	return t.every(ctx, 2*time.Millisecond, func(n int) error {
		g.Play(m, n)
		t.sent.Add(2)
		if n%1000 == 999 && p.pc.ConnectionState() != webrtc.PeerConnectionStateConnected {
			return fmt.Errorf("the connection is %v", p.pc.ConnectionState())
		}
		return nil
	})
}

// send sends the n-th packet of a track that does nothing wrong.
func (t Target) send(track *Raw, n int, payload []byte) {
	h := track.Header(n)
	h.Marker = track.Kind() == webrtc.RTPCodecTypeVideo
	if h.Marker {
		h.Timestamp = uint32(n) * 1800
	}
	if _, err := track.Writer.WriteRTP(h, payload); err == nil {
		t.sent.Add(1)
	}
}
