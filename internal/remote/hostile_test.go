package remote

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"recorder/internal/event"
)

// exceeded is how often a limit was, as counted.
func (w *world) exceeded(limit string) int {
	return int(testutil.ToFloat64(w.api.metrics.limits.WithLabelValues(limit)))
}

// rogue is a track that writes packets as they are.
type rogue struct {
	id     string
	writer webrtc.TrackLocalWriter
	ssrc   uint32
	bound  chan struct{}
}

func (r *rogue) Bind(c webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	r.writer, r.ssrc = c.WriteStream(), uint32(c.SSRC())
	close(r.bound)
	return c.CodecParameters()[0], nil
}
func (*rogue) Unbind(webrtc.TrackLocalContext) error { return nil }
func (r *rogue) ID() string                          { return r.id }
func (*rogue) RID() string                           { return "" }
func (*rogue) StreamID() string                      { return "rogue" }
func (*rogue) Kind() webrtc.RTPCodecType             { return webrtc.RTPCodecTypeVideo }

// rogue publishes a rogue track on a connection that is up.
func (m *publisher) rogue() *rogue {
	r := &rogue{id: "rogue", bound: make(chan struct{})}
	_, err := m.pc.AddTransceiverFromTrack(r)
	must(m.t, err)
	m.offer(false)
	settle()
	<-r.bound
	return r
}

// pion keeps something of every source it hears of: a connection has only so
// many, and costs only itself.
func TestTooManySourcesEndTheirConnection(t *testing.T) {
	for name, send := range map[string]func(m *publisher, r *rogue, i uint32){
		"rtp": func(_ *publisher, r *rogue, i uint32) {
			h := &rtp.Header{Version: 2, PayloadType: 96, SequenceNumber: uint16(i), SSRC: 10_000 + i}
			_, _ = r.writer.WriteRTP(h, make([]byte, 50))
		},
		"rtcp": func(m *publisher, _ *rogue, i uint32) {
			_ = m.pc.WriteRTCP([]rtcp.Packet{&rtcp.SenderReport{SSRC: 10_000 + i}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
				r := m.rogue()
				for i := range uint32(2 * maxSources) {
					send(m, r, i)
					time.Sleep(time.Millisecond)
				}
				settle()
				if n := w.exceeded(limitSources); n != 1 {
					t.Errorf("counted %d times", n)
				}
				if !w.peer.link.closed() {
					t.Error("the connection is not closed")
				}
				w.join().camera()
				settle()
				if w.peer.State() != StateConnected || !flows(sinks("video-1")[1]) {
					t.Errorf("the member cannot come back: %v", w.peer.State())
				}
			})
		})
	}
}

func TestASenderMaySwitchItsSource(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		r := m.rogue()
		for i := range uint32(100) {
			_, _ = r.writer.WriteRTP(&rtp.Header{Version: 2, PayloadType: 96, SSRC: r.ssrc + i%2, SequenceNumber: uint16(i)}, make([]byte, 50))
			time.Sleep(10 * time.Millisecond)
		}
		settle()
		if n, _, _ := sinks("rogue")[0].counts(); n != 50 || !flows(sinks("video-1")[0]) {
			t.Errorf("%d packets of the source that was announced", n)
		}
	})
}

func TestGarbageOnTheMediaPathHarmsNothing(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		r := m.rogue()
		for i := range 2000 {
			h := &rtp.Header{
				Version: 2, Marker: i%3 == 0, PayloadType: uint8(i), SequenceNumber: uint16(i * 7919), Timestamp: uint32(i) * 2654435761, SSRC: r.ssrc,
				CSRC: make([]uint32, i%16),
			}
			if i%5 == 0 {
				_ = h.SetExtension(uint8(1+i%14), make([]byte, 1+i%16))
			}
			_, _ = r.writer.WriteRTP(h, make([]byte, i%1300))
			raw := rtcp.RawPacket(append([]byte{0x80 | byte(i%32), byte(192 + i%32), 0, byte(i % 8)}, make([]byte, 4*(i%8))...))
			_ = m.pc.WriteRTCP([]rtcp.Packet{&raw})
			time.Sleep(time.Millisecond)
		}
		settle()
		if w.peer.State() != StateConnected || !flows(sinks("video-1")[0]) || !flows(sinks("audio-1")[0]) {
			t.Errorf("state: %v", w.peer.State())
		}
	})
}

func TestAMemberThatOpensChannelAfterChannelLosesItsConnection(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		var open atomic.Int64 // each channel tells on a goroutine of its own
		event.Subscribe(w.peer, func(e DataChannelOpened) {
			open.Add(1)
			event.Subscribe(e.Channel, func(ChannelClosed) { open.Add(-1) })
		})
		for i := range 2*maxChannels + 10 {
			_, _ = m.pc.CreateDataChannel(fmt.Sprint(i), nil) // fails in the end
			if i == 0 {
				m.offer(false)
			}
			settle()
		}
		if n := w.exceeded(limitDataChannels); n != maxChannels {
			t.Errorf("counted %d times", n)
		}
		if n := open.Load(); n != 0 {
			t.Errorf("%d channels are open", n)
		}
		w.join().camera()
		settle()
		if w.peer.State() != StateConnected || !flows(sinks("video-1")[1]) {
			t.Errorf("the member cannot come back: %v", w.peer.State())
		}
	})
}

// Only channels that are open count.
func TestChannelsMayComeAndGo(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		opened := 0
		event.Subscribe(w.peer, func(DataChannelOpened) { opened++ })
		for i := range 2 * maxChannels {
			d, err := m.pc.CreateDataChannel(fmt.Sprint(i), nil)
			must(t, err)
			if i == 0 {
				m.offer(false)
			}
			settle()
			must(t, d.Close())
			settle()
		}
		if opened != 2*maxChannels || w.exceeded(limitDataChannels) != 0 {
			t.Errorf("%d channels were opened", opened)
		}
	})
}

// Candidates are counted for as long as pion keeps them, which is until other
// ICE credentials come.
func TestCandidatesAreLimitedOverManyOffers(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		ufrag := attribute(m.pc.LocalDescription().SDP, "ice-ufrag")
		const rounds, each = 5, maxCandidates / 2
		for round := range rounds {
			m.offer(false)
			for i := range each {
				w.peer.HandleDirect(candidate(fmt.Sprintf("candidate:1 1 udp 1 10.9.%d.1 %d typ host", round, 1000+i), ufrag))
			}
			settle()
		}
		if n := int(w.dropped("limit")); n < rounds*each-maxCandidates {
			t.Errorf("%d candidates were dropped", n)
		}
		if w.peer.State() != StateConnected || !flows(sinks("video-1")[0]) {
			t.Errorf("state: %v", w.peer.State())
		}
	})
}

func TestCandidatesOfNoDescriptionAreLimited(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		for i := range maxCandidates + 50 {
			w.peer.HandleDirect(candidate(fmt.Sprintf("candidate:1 1 udp 1 10.9.0.1 %d typ host", 1000+i), "abcd"))
			time.Sleep(time.Millisecond)
		}
		settle()
		if n := w.dropped("limit"); n != 50 {
			t.Errorf("%v candidates were dropped", n)
		}
	})
}

func TestWhatAMemberHasTooMuchOfIsCounted(t *testing.T) {
	track := opusLine + "a=sendrecv\na=msid:s t\n"
	for limit, text := range map[string]string{
		limitSections: offerText(slices.Repeat([]string{dataLine}, maxSections+1)...),
		limitTracks:   offerText(slices.Repeat([]string{track}, maxTracks+1)...),
		limitStreams:  offerText(opusLine + "a=sendrecv\n" + numbers("a=msid:%d t\n", maxStreams+1)),
		limitNames:    offerText(opusLine + "a=sendrecv\na=msid:s " + strings.Repeat("t", maxName+1) + "\n"),
	} {
		run(t, "bot", "alice", func(t *testing.T, w *world) {
			w.peer.HandleDirect(offerSignal(t, text))
			settle()
			if n := w.exceeded(limit); n != 1 || w.peer.State() != StateIdle {
				t.Errorf("%s: counted %d times", limit, n)
			}
		})
	}
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		for i := range maxMetadataEntries + 7 {
			w.peer.HandleDirect(fmt.Appendf(nil, `{"__meteredTrackMeta":{"trackId":"%d","metadata":{}}}`, i))
			time.Sleep(time.Millisecond)
		}
		settle()
		if n := w.exceeded(limitMetadata); n != 7 {
			t.Errorf("metadata: counted %d times", n)
		}
	})
}

// numbers repeats a line with a number in it.
func numbers(line string, n int) (lines string) {
	for i := range n {
		lines += fmt.Sprintf(line, i)
	}
	return lines
}

// The inbox is bounded in bytes, too.
func TestLargeSignalsDoNotPileUp(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		release := make(chan struct{})
		w.peer.in.put(func() { <-release })
		large := offerSignal(t, strings.Repeat("x", maxDescription))
		for range 64 {
			w.peer.HandleDirect(large)
		}
		n := testutil.ToFloat64(w.api.metrics.signalsDropped.WithLabelValues("overflow"))
		close(release)
		settle()
		if want := 64 - maxQueuedBytes/float64(len(large)); n < want || n > want+1 {
			t.Errorf("%v of 64 were dropped, want %v", n, want)
		}
	})
}

func offerSignal(t *testing.T, sdp string) []byte {
	t.Helper()
	b, err := json.Marshal(descriptionSignal{"rtc-description", sdpEnvelope{"offer", sdp}})
	must(t, err)
	return b
}
