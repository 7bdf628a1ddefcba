package remote

import (
	"io"
	"slices"
	"sync"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/transport/v5/packetio"
	"github.com/pion/webrtc/v4"

	"recorder/internal/guard"
)

const (
	// maxWaiting bounds what waits on a connection for someone to take it, in
	// bytes, over all sources.
	maxWaiting = 4 << 20
	// maxSourceWaiting bounds the same for one source.
	maxSourceWaiting = 1 << 20
	// maxRTCPWaiting bounds the RTCP of one source that was not read.
	maxRTCPWaiting = 8 << 10
	// claimTime is how long what came of a source waits for someone to take it
	// after pion is done with the source.
	claimTime = 5 * time.Second
	// probe is the SSRC of packets that only try out the bandwidth, as pion has it.
	probe = 0
	// maxSources bounds the sources of a connection, in its life: of RTP and
	// of RTCP, those that send again included. 64 tracks have 256.
	maxSources = 1024
)

// inlet is where the RTP of one connection comes out of pion: it hands pion
// the buffers to write decrypted packets to (webrtc.SettingEngine), and those
// buffers pass them on at once, on the goroutine that decrypts. Nothing is
// queued, copied or allocated on the way, and no other goroutine wakes up.
//
// pion's interceptors see none of these packets, so that reports and
// congestion feedback are the inlet's: see [feedback].
type inlet struct {
	feedback feedback
	arrivals *arrivals // at the port, nil if that is not known
	crowded  func()    // called, once, when there are too many sources

	fault, pionFault onFault // end the connection

	mu      sync.Mutex
	sources map[uint32]*source
	routes  []*route
	opened  int // sources, ever
	waiting int // bytes
	closed  bool
}

// route leads the packets of one TrackRemote to a track.
type route struct {
	remote *webrtc.TrackRemote
	ssrc   uint32
	track  *Track
}

func newInlet() *inlet {
	again := func(reason any, _ []byte) { panic(reason) } // unless somebody takes it
	return &inlet{
		fault: again, pionFault: again,
		sources: map[uint32]*source{}, feedback: feedback{requests: make(chan rtcp.Packet, maxRequests)},
	}
}

// newBuffer is the BufferFactory of a webrtc.SettingEngine.
func (in *inlet) newBuffer(kind packetio.BufferPacketType, ssrc uint32) io.ReadWriteCloser {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.opened++; in.opened == maxSources+1 {
		in.crowded()
	}
	if kind != packetio.RTPBufferPacket {
		b := rtcpBuffer{packetio.NewBuffer()}
		b.SetLimitSize(maxRTCPWaiting)
		return b
	}
	s := &source{inlet: in, ssrc: ssrc}
	s.arrived.L = &s.mu
	s.closed = in.closed
	in.sources[ssrc] = s
	return s
}

// forward delivers what remote receives, and what is sent again of it, to t.
// ended is called when pion has nothing more.
func (in *inlet) forward(t *Track, remote *webrtc.TrackRemote, ended func()) {
	r := &route{remote: remote, ssrc: uint32(remote.SSRC()), track: t}
	in.mu.Lock()
	in.routes = append(in.routes, r)
	s := in.sources[r.ssrc]
	in.mu.Unlock()
	if s != nil {
		refused := s.open(func(p []byte, at time.Time) { t.deliver(p, at, false) }, ended)
		t.reception.refused.Add(refused)
	}
}

// repaired returns the route whose packets are sent again with an SSRC
// (RFC 4588), nil if there is none.
func (in *inlet) repaired(ssrc uint32) *route {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, r := range in.routes {
		if ssrc != 0 && uint32(r.remote.RtxSSRC()) == ssrc {
			return r
		}
	}
	return nil
}

// wait accounts for n more bytes that wait, and reports whether they may.
func (in *inlet) wait(n int) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.waiting+n > maxWaiting {
		return false
	}
	in.waiting += n
	return true
}

// close ends all of it. pion may leave buffers open.
func (in *inlet) close() {
	in.mu.Lock()
	in.closed = true
	sources := in.sources
	in.sources, in.routes = map[uint32]*source{}, nil
	in.mu.Unlock()
	for _, s := range sources {
		_ = s.Close()
	}
	in.feedback.close()
}

// source is one SSRC: the buffer that pion writes its packets to. Until it is
// known whose they are they wait. pion reads some of those, to find that out.
type source struct {
	inlet *inlet
	ssrc  uint32

	mu      sync.Mutex
	arrived sync.Cond // something waits, or the source was closed
	waiting []arrival
	bytes   int
	read    int    // of waiting, by pion
	refused uint64 // packets for which there was no room
	take    func(packet []byte, at time.Time)
	ended   func()
	closed  bool
}

type arrival struct {
	packet []byte
	at     time.Time
}

// Write takes a packet from pion, which goes on using the buffer.
func (s *source) Write(p []byte) (int, error) {
	defer guard.Recover(s.inlet.fault)
	if len(p) < rtpHeaderSize {
		return len(p), nil
	}
	now := time.Now()
	s.inlet.feedback.packet(p, s.inlet.arrivals.of(p, now))
	if s.ssrc == probe {
		return len(p), nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, io.ErrClosedPipe
	}
	if s.take == nil {
		if r := s.inlet.repaired(s.ssrc); r != nil {
			s.flow(func(p []byte, at time.Time) { r.track.repair(p, r.ssrc, at) })
		}
	}
	if s.take != nil {
		s.take(p, now)
	} else if s.bytes+len(p) <= maxSourceWaiting && s.inlet.wait(len(p)) {
		s.waiting = append(s.waiting, arrival{append([]byte(nil), p...), now})
		s.bytes += len(p)
		s.arrived.Signal()
	} else {
		s.refused++
	}
	return len(p), nil
}

// open delivers what waits, and then everything as it comes. It returns how
// many packets there was no room for.
func (s *source) open(take func([]byte, time.Time), ended func()) (refused uint64) {
	closed, refused := s.begin(take, ended)
	if closed {
		ended()
	}
	return refused
}

func (s *source) begin(take func([]byte, time.Time), ended func()) (closed bool, refused uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flow(take)
	s.ended = ended
	return s.closed, s.refused
}

func (s *source) flow(take func([]byte, time.Time)) {
	for _, a := range s.waiting {
		take(a.packet, a.at)
	}
	s.take = take
	s.forget()
}

func (s *source) forget() {
	s.inlet.wait(-s.bytes)
	s.waiting, s.bytes, s.read = nil, 0, 0
}

// Read gives pion a packet that waits, which goes on waiting.
func (s *source) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.read == len(s.waiting) && !s.closed {
		s.arrived.Wait()
	}
	if s.read == len(s.waiting) {
		return 0, io.EOF
	}
	packet := s.waiting[s.read].packet
	s.read++
	if len(p) < len(packet) {
		return 0, io.ErrShortBuffer
	}
	return copy(p, packet), nil
}

// Close implements io.Closer. What waits can still be taken for a while.
func (s *source) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	flowed, ended := s.take != nil, s.ended
	if first && s.bytes > 0 {
		time.AfterFunc(claimTime, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.forget()
		})
	}
	s.arrived.Broadcast()
	s.mu.Unlock()
	if first && flowed {
		s.inlet.remove(s)
		if ended != nil {
			go ended() // pion holds locks
		}
	}
	return nil
}

// remove forgets a source that has ended.
func (in *inlet) remove(s *source) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.sources[s.ssrc] != s {
		return // it was opened anew
	}
	delete(in.sources, s.ssrc)
	in.routes = slices.DeleteFunc(in.routes, func(r *route) bool { return r.ssrc == s.ssrc })
}

// rtcpBuffer is pion's own buffer, as a BufferFactory returns it.
type rtcpBuffer struct{ *packetio.Buffer }

// Read implements io.Reader.
func (b rtcpBuffer) Read(p []byte) (int, error) {
	n, _, err := b.Buffer.Read(p, nil)
	return n, err
}

// Write implements io.Writer.
func (b rtcpBuffer) Write(p []byte) (int, error) { return b.Buffer.Write(p, nil) }
