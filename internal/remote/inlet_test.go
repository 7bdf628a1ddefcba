package remote

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/transport/v5/packetio"
	"github.com/pion/webrtc/v4"
)

// numbered is a packet with a transport-wide sequence number, id 3.
func numbered(ssrc uint32, payloadType uint8, seq, wide uint16, payload ...byte) []byte {
	p := []byte{0x90, payloadType, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xbe, 0xde, 0, 1, 0x31, byte(wide >> 8), byte(wide), 0}
	binary.BigEndian.PutUint16(p[2:], seq)
	binary.BigEndian.PutUint32(p[8:], ssrc)
	return append(p, payload...)
}

func newTestSource(in *inlet, ssrc uint32) *source {
	return in.newBuffer(packetio.RTPBufferPacket, ssrc).(*source)
}

func newTestTrack(w RTPWriter) *Track {
	t := &Track{delivered: func() {}, wanted: make(chan struct{}), writer: w}
	t.setFormats(map[uint8]webrtc.RTPCodecParameters{
		96: {RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000}},
		97: {RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeRTX, ClockRate: 90000, SDPFmtpLine: "apt=96"}},
	})
	return t
}

// kept is a writer that keeps what it gets.
type kept struct{ packets [][]byte }

func (k *kept) SetFormats(map[uint8]webrtc.RTPCodecParameters) {}

func (k *kept) WriteRTP(p []byte, _ time.Time)              { k.packets = append(k.packets, slices.Clone(p)) }
func (k *kept) WriteSenderReport(uint64, uint32, time.Time) {}
func (k *kept) Close()                                      {}

type nowhere struct{}

func (nowhere) SetFormats(map[uint8]webrtc.RTPCodecParameters) {}

func (nowhere) WriteRTP([]byte, time.Time)                  {}
func (nowhere) WriteSenderReport(uint64, uint32, time.Time) {}
func (nowhere) Close()                                      {}

func TestPacketsWaitInOrderUntilTheyAreWanted(t *testing.T) {
	in, k := newInlet(), &kept{}
	defer in.close()
	s, track := newTestSource(in, 7), newTestTrack(k)
	for seq := range uint16(3) {
		_, err := s.Write(numbered(7, 96, seq, 0))
		must(t, err)
	}
	buf := make([]byte, receiveMTU) // pion looks at the first two, as it does at sources it does not know
	for seq := range uint16(2) {
		n, err := s.Read(buf)
		if err != nil || n != 20 || binary.BigEndian.Uint16(buf[2:]) != seq {
			t.Errorf("pion read %x, %v", buf[:n], err)
		}
	}
	ended := 0
	s.open(func(p []byte, at time.Time) { track.deliver(p, at, false) }, func() { ended++ })
	_, err := s.Write(numbered(7, 96, 3, 0))
	must(t, err)
	if len(k.packets) != 4 {
		t.Fatalf("%d packets", len(k.packets))
	}
	for i, p := range k.packets {
		if binary.BigEndian.Uint16(p[2:]) != uint16(i) {
			t.Errorf("packet %d is %x", i, p)
		}
	}
	if in.waiting != 0 || ended != 0 {
		t.Errorf("%d bytes wait, ended %d times", in.waiting, ended)
	}
}

func TestWhatWaitsIsBounded(t *testing.T) {
	in := newInlet()
	packet := numbered(1, 96, 0, 0, make([]byte, 1180)...)
	one := newTestSource(in, 1)
	for range 2000 {
		_, _ = one.Write(packet)
	}
	if in.waiting > maxSourceWaiting || in.waiting < maxSourceWaiting*9/10 {
		t.Errorf("%d bytes of one source wait", in.waiting)
	}
	for ssrc := range uint32(20) {
		s := newTestSource(in, 2+ssrc)
		for range 2000 {
			_, _ = s.Write(packet)
		}
	}
	if in.waiting > maxWaiting {
		t.Errorf("%d bytes wait", in.waiting)
	}
	in.close()
	if _, err := one.Write(packet); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("writing after the end: %v", err)
	}
	if _, err := newTestSource(in, 99).Read(packet); !errors.Is(err, io.EOF) {
		t.Errorf("reading after the end: %v", err)
	}
}

// Packets that only try out the bandwidth are nobody's, and those of a source
// that ended are nobody's after a while: they leave room for others.
func TestWhatNobodyTakesWaitsNoLongerThanItMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newInlet()
		defer in.close()
		packet := numbered(1, 96, 0, 0, make([]byte, 1180)...)
		probes := newTestSource(in, probe)
		for range 100 {
			if n, err := probes.Write(packet); n != len(packet) || err != nil {
				t.Fatal(n, err)
			}
		}
		if in.waiting != 0 {
			t.Errorf("%d bytes of probes wait", in.waiting)
		}
		for ssrc := range uint32(2 * maxWaiting / maxSourceWaiting) {
			s := newTestSource(in, 1+ssrc)
			for range 2000 {
				_, _ = s.Write(packet)
			}
			must(t, s.Close())
		}
		full := newTestSource(in, 98)
		for range 2000 {
			_, _ = full.Write(packet)
		}
		waited := uint64(0)
		if refused := full.open(func([]byte, time.Time) { waited++ }, func() {}); refused == 0 || refused+waited != 2000 {
			t.Errorf("of 2000 packets %d waited and %d were refused", waited, refused)
		}
		late, n := newTestSource(in, 99), 0
		_, _ = late.Write(packet)
		time.Sleep(claimTime + time.Second)
		if _, err := late.Write(packet); err != nil {
			t.Fatal(err)
		}
		if in.waiting != len(packet) {
			t.Errorf("%d bytes wait, want those of one packet", in.waiting)
		}
		late.open(func([]byte, time.Time) { n++ }, func() {})
		if n != 1 {
			t.Errorf("%d packets came of a track that begins", n)
		}
	})
}

// RFC 4588 §4: the original sequence number stands before the payload.
func TestPacketsSentAgainBecomeWhatTheyWere(t *testing.T) {
	k := &kept{}
	track := newTestTrack(k)
	now := time.Now()
	again := numbered(8, 0x80|97, 500, 0, 0x12, 0x34, 'x', 'y')
	track.repair(slices.Clone(again), 7, now)
	want := numbered(7, 0x80|96, 0x1234, 0, 'x', 'y')
	if len(k.packets) != 1 || !slices.Equal(k.packets[0], want) {
		t.Errorf("got %x, want %x", k.packets, want)
	}
	for _, p := range [][]byte{
		numbered(8, 97, 501, 0),                                             // no payload
		numbered(8, 97, 502, 0, 0x12),                                       // half a number
		append([]byte{0xb0}, numbered(8, 97, 503, 0, 0, 0, 0, 4)[1:]...),    // padding only
		append([]byte{0xb0}, numbered(8, 97, 504, 0, 0, 0, 0, 255)[1:]...),  // more padding than packet
		append([]byte{0x9f}, numbered(8, 97, 505, 0, 1, 2, 3, 4, 5)[1:]...), // more sources than packet
	} {
		track.repair(p, 7, now)
	}
	if s := track.stats(); len(k.packets) != 1 || s.Recovered != 1 || s.Refused != 0 {
		t.Errorf("%d packets, %+v", len(k.packets), s)
	}
	track.repair(numbered(8, 98, 506, 0, 1, 2, 3), 7, now)
	track.deliver(numbered(7, 97, 507, 0, 1, 2, 3), now, false)
	if s := track.stats(); len(k.packets) != 1 || s.Refused != 2 {
		t.Errorf("%d packets, %+v", len(k.packets), s)
	}
}

func TestHeaderExtensionsAreFoundInBothForms(t *testing.T) {
	oneByte := numbered(7, 96, 1, 0x1234)
	twoByte := slices.Clone(oneByte)
	copy(twoByte[12:], []byte{0x10, 0x00, 0, 1, 3, 1, 0x12, 0})
	for _, tt := range []struct {
		name   string
		packet []byte
		want   []byte
	}{
		{"one byte", oneByte, []byte{0x12, 0x34}},
		{"two bytes", twoByte, []byte{0x12}},
		{"none", oneByte[:12:12], nil},
		{"cut", oneByte[:18:18], nil},
		{"empty", nil, nil},
	} {
		if got := headerExtension(tt.packet, 3); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %x", tt.name, got)
		}
	}
	if got := headerExtension(oneByte, 4); got != nil {
		t.Errorf("another id: %x", got)
	}
}

func FuzzRTP(f *testing.F) {
	f.Add(numbered(8, 97, 500, 0, 0x12, 0x34, 'x', 'y'))
	f.Add([]byte{0xff, 97, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xbe, 0xde, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, p []byte) {
		headerExtension(p, 3)
		if len(p) >= rtpHeaderSize {
			newTestTrack(nowhere{}).repair(slices.Clone(p), 7, time.Now())
		}
	})
}

// A report is about the interval since the last one (RFC 3550 §6.4.1).
func TestReceptionReportsSayWhatWasLost(t *testing.T) {
	track := newTestTrack(nowhere{})
	now := time.Now()
	if _, ok := track.reception.report(7, now); ok {
		t.Error("a report before the first packet")
	}
	for seq := range uint16(100) {
		if seq%4 != 3 {
			track.deliver(numbered(7, 96, seq, 0), now, false)
		}
	}
	track.reception.senderReport(0x0001_2345_6789_abcd, now)
	got, ok := track.reception.report(7, now.Add(time.Second/2))
	want := rtcp.ReceptionReport{
		SSRC: 7, LastSequenceNumber: 98, TotalLost: 24, FractionLost: 24 * 256 / 99,
		LastSenderReport: 0x2345_6789, Delay: 1 << 15, Jitter: got.Jitter,
	}
	if !ok || got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	track.deliver(numbered(7, 96, 99, 0), now, false)
	if got, _ := track.reception.report(7, now); got.FractionLost != 0 || got.TotalLost != 24 {
		t.Errorf("then %+v", got)
	}
}

func TestAPacketCostsNoAllocation(t *testing.T) {
	in := newInlet()
	defer in.close()
	in.feedback.extension.Store(3)
	in.feedback.run(1, again, in.reports, func([]rtcp.Packet) error { return nil })
	s, track := newTestSource(in, 7), newTestTrack(nowhere{})
	s.open(func(p []byte, at time.Time) { track.deliver(p, at, false) }, func() {})
	packet := numbered(7, 96, 0, 0, make([]byte, 1000)...)
	seq := uint16(0)
	if n := testing.AllocsPerRun(2000, func() {
		seq++
		binary.BigEndian.PutUint16(packet[2:], seq)
		binary.BigEndian.PutUint16(packet[17:], seq)
		if _, err := s.Write(packet); err != nil {
			t.Fatal(err)
		}
	}); n > 0.1 {
		t.Errorf("%v allocations", n)
	}
}
