package remote

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"

	"recorder/internal/guard"
)

const (
	// congestionInterval is how often a sender is told what arrived when
	// (see [congestion]), as browsers do it.
	congestionInterval = 100 * time.Millisecond
	// reportEvery is after how many of these it gets a receiver report.
	reportEvery = 10
	// maxRequests may wait to be sent to the sender of a connection.
	maxRequests = 64
	// maxReports fit a receiver report (RFC 3550 §6.4.2).
	maxReports = 31
)

var errTooManyRequests = errors.New("too many requests wait to be sent")

// feedback tells the sender of a connection how its packets arrive, so that
// it can adapt to the path, and what is asked of it.
type feedback struct {
	extension atomic.Uint32 // id of the transport-wide sequence number, 0: none
	requests  chan rtcp.Packet
	done      chan struct{}

	mu         sync.Mutex
	congestion congestion
	start      time.Time
}

// negotiated tells of the header extensions in use.
func (f *feedback) negotiated(pc *webrtc.PeerConnection) {
	for _, t := range pc.GetTransceivers() {
		for _, e := range t.Receiver().GetParameters().HeaderExtensions {
			if e.URI == sdp.TransportCCURI {
				f.extension.Store(uint32(e.ID))
			}
		}
	}
}

// packet notes the arrival of an RTP packet of any kind.
func (f *feedback) packet(p []byte, now time.Time) {
	id := f.extension.Load()
	if id == 0 {
		return
	}
	number := headerExtension(p, uint8(id))
	if len(number) < 2 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.congestion.arrived(binary.BigEndian.Uint32(p[8:]), binary.BigEndian.Uint16(number), now.Sub(f.start))
}

// request has a packet sent. It does not wait: the path may be a stalled TCP
// connection to a TURN server. A packet that is refused may be asked for again.
func (f *feedback) request(p rtcp.Packet) error {
	select {
	case f.requests <- p:
		return nil
	default:
		return errTooManyRequests
	}
}

// run sends feedback and requests until close. reports appends what is to be
// reported.
func (f *feedback) run(sender uint32, fault onFault, reports func([]rtcp.ReceptionReport, time.Time) []rtcp.ReceptionReport,
	send func([]rtcp.Packet) error,
) {
	f.mu.Lock()
	f.congestion.sender, f.start = sender, time.Now()
	f.done = make(chan struct{})
	done := f.done
	f.mu.Unlock()
	go func() {
		defer guard.Recover(fault)
		var raw rtcp.RawPacket
		var report rtcp.ReceiverReport
		var due []rtcp.ReceptionReport
		rawPackets, reportPackets, request := []rtcp.Packet{&raw}, []rtcp.Packet{&report}, make([]rtcp.Packet, 1)
		tick := time.NewTimer(untilBeat(congestionInterval))
		defer tick.Stop()
		for n := 1; ; {
			select {
			case <-done:
				return
			case request[0] = <-f.requests:
				_ = send(request)
			case now := <-tick.C:
				tick.Reset(untilBeat(congestionInterval))
				// What cannot be sent is not sent again: the next one says how things are then.
				if n%reportEvery == 0 {
					due = reports(due[:0], now)
					for some := range slices.Chunk(due, maxReports) {
						report = rtcp.ReceiverReport{SSRC: sender, Reports: some}
						_ = send(reportPackets)
					}
				}
				for {
					raw = f.due(raw[:0])
					if len(raw) == 0 {
						break
					}
					_ = send(rawPackets)
				}
				n++
			}
		}
	}()
}

// due appends the feedback that is due to b.
func (f *feedback) due(b []byte) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append(b, f.congestion.feedback()...)
}

func (f *feedback) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done != nil {
		close(f.done)
		f.done = nil
	}
}

// reports appends those due on what is received at present.
func (in *inlet) reports(all []rtcp.ReceptionReport, now time.Time) []rtcp.ReceptionReport {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, r := range in.routes {
		if report, ok := r.track.reception.report(r.ssrc, now); ok {
			all = append(all, report)
		}
	}
	return all
}

// senderReport notes the sender's clock for the next report.
func (r *reception) senderReport(ntp uint64, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reported, r.reportedAt = uint32(ntp>>16), now
}

// report is the reception report on a source since the last one (RFC 3550
// §6.4.1), false if nothing of it came yet.
func (r *reception) report(ssrc uint32, now time.Time) (rtcp.ReceptionReport, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.received == 0 || r.ssrc != ssrc {
		return rtcp.ReceptionReport{}, false
	}
	expected, received := r.highest-r.base+1, r.received
	report := rtcp.ReceptionReport{
		SSRC:               ssrc,
		LastSequenceNumber: uint32(r.highest),
		TotalLost:          uint32(min(max(expected-received, 0), 1<<23-1)),
		Jitter:             uint32(min(r.jitter*float64(r.rate), math.MaxUint32)),
	}
	if due := expected - r.expectedBefore; due > 0 {
		lost := due - (received - r.receivedBefore)
		report.FractionLost = uint8(min(max(lost, 0)*256/due, 255))
	}
	r.expectedBefore, r.receivedBefore = expected, received
	if !r.reportedAt.IsZero() {
		report.LastSenderReport = r.reported
		report.Delay = uint32(now.Sub(r.reportedAt).Seconds() * 65536)
	}
	return report, true
}

// headerExtension returns an RTP header extension (RFC 8285), nil if the
// packet has none with that id.
func headerExtension(p []byte, id uint8) []byte {
	if len(p) < rtpHeaderSize || p[0]&0x10 == 0 {
		return nil
	}
	start := rtpHeaderSize + 4*int(p[0]&0x0f)
	if len(p) < start+4 {
		return nil
	}
	profile := binary.BigEndian.Uint16(p[start:])
	end := start + 4 + 4*int(binary.BigEndian.Uint16(p[start+2:]))
	if end > len(p) {
		return nil
	}
	rest := p[start+4 : end]
	for len(rest) > 0 {
		var have uint8
		var length, header int
		switch {
		case rest[0] == 0: // padding
			rest = rest[1:]
			continue
		case profile == 0xbede:
			have, length, header = rest[0]>>4, int(rest[0]&0x0f)+1, 1
			if have == 15 {
				return nil
			}
		case profile>>4 == 0x100 && len(rest) > 1:
			have, length, header = rest[0], int(rest[1]), 2
		default:
			return nil
		}
		if len(rest) < header+length {
			return nil
		}
		if have == id {
			return rest[header : header+length]
		}
		rest = rest[header+length:]
	}
	return nil
}
