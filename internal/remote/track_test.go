package remote

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"

	"recorder/internal/event"
)

func TestNothingOfTheFirstPacketsIsLost(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		s := &sinkhole{}
		event.Subscribe(w.peer, func(e StreamAdded) {
			time.Sleep(2 * time.Second) // media comes long before
			e.Stream.AudioTracks()[0].Forward(s)
		})
		w.join().camera()
		settle()
		settle()
		if n, _, _ := s.counts(); n < 150 {
			t.Errorf("%d packets", n)
		}
		if seq := binary.BigEndian.Uint16(s.first[2:]); seq > 3 {
			t.Errorf("the first packet is number %d", seq)
		}
	})
}

func TestForwardTakesOneWriterAtATime(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		track := w.peer.Streams()[0].AudioTracks()[0]
		a, b := sinks("audio-1")[0], &sinkhole{}
		track.Forward(b)
		if flows(a) || !flows(b) {
			t.Error("the first writer goes on, or the second has not begun")
		}
		track.Forward(nil)
		if flows(b) {
			t.Error("nil does not stop the delivery")
		}
		track.Forward(a)
		if !flows(a) {
			t.Error("the delivery did not begin again")
		}
		w.peer.Close(CauseLeft)
		settle()
		if _, _, closed := a.counts(); closed != 1 {
			t.Errorf("the writer was closed %d times", closed)
		}
		if _, _, closed := b.counts(); closed != 0 {
			t.Errorf("the replaced writer was closed %d times", closed)
		}
		late := &sinkhole{}
		track.Forward(late)
		if _, _, closed := late.counts(); closed != 1 {
			t.Error("a writer for a track that ended was not closed")
		}
	})
}

func TestSenderReportsReachTheWriter(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		settle()
		if _, reports, _ := sinks("audio-1")[0].counts(); reports == 0 {
			t.Error("no sender report")
		}
	})
}

// rtcpOf collects what a publisher is told about a track.
func (m *publisher) rtcpOf(trackID string) func() []rtcp.Packet {
	m.mu.Lock()
	defer m.mu.Unlock()
	return func() []rtcp.Packet {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.feedback[trackID]
	}
}

func count[P rtcp.Packet](packets []rtcp.Packet) (all []P) {
	for _, p := range packets {
		if p, ok := p.(P); ok {
			all = append(all, p)
		}
	}
	return all
}

func TestFeedbackReachesTheSender(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		track := w.peer.Streams()[0].VideoTracks()[0]
		must(t, track.RequestKeyFrame(false))
		must(t, track.RequestKeyFrame(true))
		must(t, track.RequestKeyFrame(true))
		must(t, track.NACK([]uint16{5, 6, 9}))
		settle()
		got := m.rtcpOf("video-1")()
		pli, fir, nack := count[*rtcp.PictureLossIndication](got), count[*rtcp.FullIntraRequest](got), count[*rtcp.TransportLayerNack](got)
		if len(pli) != 1 || pli[0].MediaSSRC != track.SSRC() || pli[0].SenderSSRC == 0 {
			t.Errorf("PLI: %v", pli)
		}
		if len(fir) != 2 || fir[0].FIR[0].SSRC != track.SSRC() || fir[0].FIR[0].SequenceNumber == fir[1].FIR[0].SequenceNumber {
			t.Errorf("FIR: %v", fir)
		}
		if len(nack) != 1 || len(nack[0].Nacks) != 1 || len(nack[0].Nacks[0].PacketList()) != 3 {
			t.Errorf("NACK: %v", nack)
		}
		if len(count[*rtcp.ReceiverReport](got)) == 0 {
			t.Error("no receiver report")
		}
	})
}

func TestNobodyButTheRecorderAsksForPacketsAgain(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		w.setCut(true)
		time.Sleep(time.Second)
		w.setCut(false)
		settle()
		if n := count[*rtcp.TransportLayerNack](m.rtcpOf("video-1")()); len(n) != 0 {
			t.Errorf("NACK: %v", n)
		}
	})
}

func TestFeedbackBeforeTheTransportIsUpIsAnError(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		w.setCut(true)
		w.join().camera()
		settle()
		track := w.peer.Streams()[0].VideoTracks()[0]
		if track.RequestKeyFrame(false) == nil || track.NACK([]uint16{1}) == nil {
			t.Error("feedback without a source was sent")
		}
	})
}

func TestAKeyFrameCanBeAskedForBeforeTheFirstPacket(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		m := w.join()
		m.silent = true
		m.camera()
		settle()
		must(t, w.peer.Streams()[0].VideoTracks()[0].RequestKeyFrame(false))
		settle()
		if n := len(count[*rtcp.PictureLossIndication](m.rtcpOf("video-1")())); n != 1 {
			t.Errorf("%d requests arrived", n)
		}
	})
}

func TestFormatsAreKnownWithTheStream(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		var formats map[uint8]webrtc.RTPCodecParameters
		event.Subscribe(w.peer, func(e StreamAdded) { formats = e.Stream.VideoTracks()[0].Formats() })
		w.join().camera()
		settle()
		vp8 := false
		for _, f := range formats {
			vp8 = vp8 || f.MimeType == webrtc.MimeTypeVP8 && f.ClockRate == 90000
		}
		if !vp8 {
			t.Errorf("formats: %v", formats)
		}
	})
}

func TestStatsOfALiveConnection(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		settle()
		s := w.peer.Stats()
		if s.State != StateConnected || s.DTLS != "connected" || s.LocalCandidate != "host" || len(s.Tracks) != 2 {
			t.Fatalf("stats: %+v", s)
		}
		for _, tr := range s.Tracks {
			if tr.Packets < 100 || tr.Bytes < tr.Packets*100 || tr.Lost != 0 {
				t.Errorf("track: %+v", tr)
			}
		}
		w.setCut(true)
		time.Sleep(time.Second)
		w.setCut(false)
		settle()
		for _, tr := range w.peer.Stats().Tracks {
			if tr.Lost < 45 || tr.Lost > 55 {
				t.Errorf("lost: %d", tr.Lost)
			}
		}
	})
}

func TestReceptionStatistics(t *testing.T) {
	packet := func(seq uint16, timestamp, ssrc uint32) []byte {
		b := make([]byte, 12)
		binary.BigEndian.PutUint16(b[2:], seq)
		binary.BigEndian.PutUint32(b[4:], timestamp)
		binary.BigEndian.PutUint32(b[8:], ssrc)
		return b
	}
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	var r reception
	r.packet(packet(65534, 0, 1), at(0), 48000, false)
	r.packet(packet(65535, 960, 1), at(20), 48000, false)
	r.packet(packet(2, 960*4, 1), at(80), 48000, false) // 0 and 1 are missing, across the wrap
	if s := r.stats(); s.Lost != 2 || s.Packets != 3 || s.Bytes != 36 || s.Jitter != 0 {
		t.Errorf("with a gap: %+v", s)
	}
	r.packet(packet(0, 960*2, 1), at(85), 48000, true)
	r.packet(packet(1, 960*3, 1), at(90), 48000, false)
	if s := r.stats(); s.Lost != 0 || s.Recovered != 1 || s.Packets != 4 {
		t.Errorf("with the gap filled: %+v", s)
	}
	r.packet(packet(100, 0, 2), at(100), 48000, false) // another source
	r.packet(packet(103, 960, 2), at(120), 48000, false)
	if s := r.stats(); s.Lost != 2 {
		t.Errorf("with another source: %+v", s)
	}
	j := r.jitter
	r.packet(packet(104, 1920, 2), at(156), 48000, false) // 16 ms late
	if got := r.stats().Jitter; got <= j || got > j+0.0011 {
		t.Errorf("jitter: %v after %v", got, j)
	}
}
