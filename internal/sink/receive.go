package sink

import (
	"time"

	"recorder/internal/depacket"

	"recorder/internal/container"
)

// sort gives a packet to the window, or finds that the sender has begun anew.
func (src *Source) sort(p *depacket.Packet, now time.Duration) {
	switch {
	case !src.known:
		src.known, src.ssrc = true, p.SSRC
	case p.SSRC != src.ssrc:
		src.stray(p, now)
		return
	}
	if src.accept(p) == depacket.Astray {
		src.stray(p, now)
	}
}

// stray keeps a packet of another SSRC, or of a sequence number far from the others, until a
// second one confirms that the sender goes on from there (RFC 3550 appendix A.1).
func (src *Source) stray(p *depacket.Packet, now time.Duration) {
	const near = 16
	c := src.candidate
	if c == nil || c.SSRC != p.SSRC || p.SequenceNumber == c.SequenceNumber || p.SequenceNumber-c.SequenceNumber+near > 2*near {
		if c != nil {
			src.track.manifest.Ledger.Late++
			c.Free()
		}
		src.candidate = p
		return
	}
	src.candidate = nil
	lost := 0
	if c.SSRC == src.ssrc && src.clock.RunsOn(c.Timestamp, c.Arrival) { // it did not begin anew
		lost = src.window.Ahead(c.SequenceNumber)
	}
	src.release(now, true)
	src.window.Restart(lost)
	src.clock.Reset()
	src.ssrc, src.asm, src.codec = p.SSRC, nil, ""
	for _, p := range []*depacket.Packet{c, p} {
		if src.accept(p) == depacket.Astray {
			p.Free()
		}
	}
}

// accept gives a packet to the window and takes from RED what the window lacks. A packet that is
// astray is the caller's.
func (src *Source) accept(p *depacket.Packet) depacket.Outcome {
	var blocks []depacket.REDBlock
	switch f := src.formats[p.PayloadType]; {
	case f.red:
		var ok bool
		blocks, ok = depacket.ParseRED(src.blocks[:0], p.Payload)
		src.blocks = blocks
		if !ok {
			src.track.manifest.Ledger.Malformed++
			p.Payload = p.Payload[:0]
			break
		}
		primary := blocks[len(blocks)-1]
		p.PayloadType, p.Payload = primary.PayloadType, primary.Payload
		blocks = blocks[:len(blocks)-1]
		if src.formats[p.PayloadType].codec == "" {
			p.Payload = p.Payload[:0]
		}
	case f.codec == "":
		p.Payload = p.Payload[:0] // comfort noise and the like: it only has its place in sequence
	}

	l := &src.track.manifest.Ledger
	size := uint64(len(p.Raw))
	got, hole := src.window.Push(p)
	switch got {
	case depacket.InOrder:
		l.Received++
		l.Bytes += size
		if p.Late {
			l.Reordered++
		} else if len(p.Payload) > 0 {
			src.clock.Observe(p.Timestamp, p.Arrival)
		}
	case depacket.Filled:
		l.Received++
		l.Bytes += size
		if src.nacker.Answered(hole, p.Arrival) {
			l.Recovered++
		} else {
			l.Reordered++
		}
	case depacket.Duplicate:
		l.Duplicate++
	case depacket.TooLate:
		l.Late++
	case depacket.Astray:
		return got
	}
	for i := range blocks {
		src.restore(p, blocks[len(blocks)-1-i], uint16(i+1))
	}
	if got == depacket.Duplicate || got == depacket.TooLate {
		p.Free()
	}
	return got
}

// restore puts the packet that came back packets before p in its place, if it is missing: what RED
// carries is the very payload that was lost.
func (src *Source) restore(p *depacket.Packet, b depacket.REDBlock, back uint16) {
	seq, rtp := p.SequenceNumber-back, p.Timestamp-b.Offset
	if len(b.Payload) == 0 || src.formats[b.PayloadType].codec != container.Opus || !src.window.Wants(seq) {
		return
	}
	at := src.window.Unwrap(seq)
	if before := src.window.Held(at - 1); before != nil && int32(rtp-before.Timestamp) <= 0 {
		return
	}
	if after := src.window.Held(at + 1); after != nil && int32(after.Timestamp-rtp) <= 0 {
		return
	}
	r := depacket.NewPacket()
	r.Raw = append(r.Raw[:0], b.Payload...)
	r.Payload = r.Raw
	r.SSRC, r.SequenceNumber, r.Timestamp, r.PayloadType, r.Arrival = p.SSRC, seq, rtp, b.PayloadType, p.Arrival
	l := &src.track.manifest.Ledger
	switch got, _ := src.window.Push(r); got {
	case depacket.InOrder, depacket.Filled:
		l.Received++
		l.RED++
	default:
		r.Free()
	}
}

// release writes what is in sequence and whose position is known. With force nothing is waited for.
func (src *Source) release(now time.Duration, force bool) {
	t := src.track
	for {
		p := src.window.Front(now, force)
		if p == nil {
			return
		}
		if len(p.Payload) > 0 && !p.Placed {
			p.Position, p.Placed = src.clock.Admit(p.Timestamp, p.Arrival, now, p.Late, force)
			if !p.Placed {
				return
			}
			t.stream.begin()
		}
		if p.Placed && !src.superseded && !force && !t.writer.reach(src, p, now) {
			return
		}
		p, lost := src.window.Take()
		t.manifest.Ledger.Lost += uint64(lost)
		if !src.superseded {
			t.writer.write(src, p, lost, now)
		}
		p.Free()
	}
}

// ask decides what to ask the sender for.
func (src *Source) ask(now time.Duration) {
	if src.feedback == nil || src.over || src.superseded {
		return
	}
	if src.begins && src.known {
		src.begins = false
		src.keys.Expect(now)
	}
	o := order{to: src.feedback}
	if !src.begins {
		o.request = src.keys.Due(now)
	}
	if o.request == depacket.NoRequest && src.track.kind == video && src.urgent(now) {
		o.request, src.urged = depacket.PLI, now
	}
	l := &src.track.manifest.Ledger
	switch o.request {
	case depacket.PLI:
		l.PLIs++
	case depacket.FIR:
		l.FIRs++
	}
	// Audio, too: browsers do not offer to repeat it and do when asked (libwebrtc keeps what it sent,
	// whatever was negotiated). To a sender that does not, a request costs a few bytes.
	if src.window.Holes() > 0 {
		src.wanted = src.nacker.Due(now, &src.window, src.wanted[:0])
		o.nack = src.wanted
		l.NACKs += uint64(len(o.nack))
	}
	if o.request != depacket.NoRequest || len(o.nack) > 0 {
		src.track.stream.rec.orders = append(src.track.stream.rec.orders, o)
	}
}

// urgent reports whether a picture has been incomplete for so long that it may stay so. Asking for
// a key frame now makes the gap short in that case, and costs one key frame in the other.
func (src *Source) urgent(now time.Duration) bool {
	since, missing := src.window.Waiting()
	if src.keys.Awaited() || !missing || now-src.urged < urgeInterval {
		return false
	}
	return now-since > max(urgeAfter, 4*src.nacker.RTT())
}
