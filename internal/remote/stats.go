package remote

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/webrtc/v4"
)

const rtpHeaderSize = 12

// PeerStats is what a peer's current connection is like, for metrics.
type PeerStats struct {
	State State
	// DTLS is a W3C state name, "" while there is no connection.
	DTLS string
	// LocalCandidate and RemoteCandidate are the types of the selected pair:
	// host, srflx, prflx or relay; "" before one is selected.
	LocalCandidate, RemoteCandidate string
	// RoundTripTime is that of the selected pair in seconds, 0 if unknown.
	RoundTripTime float64
	Tracks        []TrackStats
}

// TrackStats are the reception statistics of one track (RFC 3550 §6.4.1).
type TrackStats struct {
	ID      string
	Kind    webrtc.RTPCodecType
	Packets uint64 // received, without those recovered through RTX
	Bytes   uint64 // of all packets received, RTP headers included
	// Recovered counts packets that came through RTX, duplicates included.
	Recovered uint64
	// Lost is expected minus received; duplicates can make it negative.
	Lost int64
	// Refused counts packets that were not of a negotiated format.
	Refused uint64
	Jitter  float64 // seconds
	// Bitrate is what comes at present, in bytes per second.
	Bitrate float64
	// NACKs counts the packets that were asked for again, PLIs and FIRs the
	// key frames.
	NACKs, PLIs, FIRs uint64
}

// reception keeps the statistics of one track.
type reception struct {
	refused atomic.Uint64

	mu        sync.Mutex
	packets   uint64
	bytes     uint64
	recovered uint64
	last      time.Time

	window      time.Time // when the measurement of the bitrate began
	windowBytes uint64    // bytes before it
	bitrate     float64   // of the one before

	ssrc     uint32
	rate     uint32 // of the source's clock
	base     int64  // extended sequence number of the source's first packet
	highest  int64
	received int64 // of this source
	lost     int64 // of earlier sources

	// As of the last report.
	expectedBefore, receivedBefore int64
	reported                       uint32 // the sender's last report: the middle of its NTP time
	reportedAt                     time.Time

	start     time.Time // of the transit clock
	transit   float64   // seconds
	measuring bool
	jitter    float64 // seconds
}

// packet accounts for one RTP packet of at least rtpHeaderSize bytes. rate
// is the clock of its payload type, 0 if unknown.
func (r *reception) packet(b []byte, now time.Time, rate uint32, recovered bool) {
	seq := binary.BigEndian.Uint16(b[2:])
	timestamp := binary.BigEndian.Uint32(b[4:])
	ssrc := binary.BigEndian.Uint32(b[8:])

	r.mu.Lock()
	defer r.mu.Unlock()
	r.bytes += uint64(len(b))
	r.last = now
	r.measure(now)
	if recovered {
		r.recovered++
		if ssrc == r.ssrc {
			r.received++ // no longer lost
		}
		return
	}
	r.packets++
	switch {
	case r.received == 0 && r.highest == 0 || ssrc != r.ssrc:
		r.lost = r.lostSoFar()
		r.ssrc, r.base, r.highest, r.received = ssrc, int64(seq), int64(seq), 0
		r.measuring = false
		r.expectedBefore, r.receivedBefore, r.reportedAt = 0, 0, time.Time{}
	default:
		if ahead := int16(seq - uint16(r.highest)); ahead > 0 {
			r.highest += int64(ahead)
		}
	}
	r.received++

	if rate == 0 {
		return
	}
	r.rate = rate
	if r.start.IsZero() {
		r.start = now
	}
	// RFC 3550 A.8, in seconds. Only differences matter, so the wrap of the
	// time stamp is one outlier that is left out.
	transit := now.Sub(r.start).Seconds() - float64(timestamp)/float64(rate)
	if d := transit - r.transit; r.measuring && d < 10 && d > -10 {
		r.jitter += (max(d, -d) - r.jitter) / 16
	}
	r.transit, r.measuring = transit, true
}

// bitrateWindow is how long the bitrate is averaged over, at least.
const bitrateWindow = time.Second

func (r *reception) measure(now time.Time) {
	if elapsed := now.Sub(r.window); elapsed >= bitrateWindow {
		if r.bitrate = 0; !r.window.IsZero() {
			r.bitrate = float64(r.bytes-r.windowBytes) / elapsed.Seconds()
		}
		r.window, r.windowBytes = now, r.bytes
	}
}

func (r *reception) lostSoFar() int64 {
	if r.received == 0 {
		return r.lost
	}
	return r.lost + r.highest - r.base + 1 - r.received
}

func (r *reception) stats() TrackStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := TrackStats{
		Packets: r.packets, Bytes: r.bytes, Recovered: r.recovered, Lost: r.lostSoFar(),
		Refused: r.refused.Load(), Jitter: r.jitter, Bitrate: r.bitrate,
	}
	if time.Since(r.last) >= 2*bitrateWindow {
		s.Bitrate = 0
	}
	return s
}

func (t *Track) stats() TrackStats {
	s := t.reception.stats()
	s.ID, s.Kind = t.id, t.kind
	s.NACKs, s.PLIs, s.FIRs = t.nacks.Load(), t.plis.Load(), uint64(t.firSeq.Load())
	return s
}

// Stats returns a snapshot. It is meant for a collector that runs every few
// seconds and may be called from any goroutine.
func (p *Peer) Stats() PeerStats {
	p.mu.Lock()
	pc, tracks, s := p.pc, p.tracks, PeerStats{State: p.state}
	p.mu.Unlock()
	for _, t := range tracks {
		s.Tracks = append(s.Tracks, t.stats())
	}
	if pc == nil {
		return s
	}
	dtls := pc.SCTP().Transport()
	s.DTLS = dtls.State().String()
	ice := dtls.ICETransport()
	if pair, err := ice.GetSelectedCandidatePair(); err == nil && pair != nil {
		s.LocalCandidate, s.RemoteCandidate = pair.Local.Typ.String(), pair.Remote.Typ.String()
	}
	if pair, ok := ice.GetSelectedCandidatePairStats(); ok {
		s.RoundTripTime = pair.CurrentRoundTripTime
	}
	return s
}
