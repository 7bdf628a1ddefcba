package sink

import (
	"time"

	"recorder/internal/container"
)

// sort gives a packet to the window, or finds that the sender has begun anew.
func (src *Source) sort(p *packet, now time.Duration) {
	switch {
	case !src.known:
		src.known, src.ssrc = true, p.ssrc
	case p.ssrc != src.ssrc:
		src.stray(p, now)
		return
	}
	if src.accept(p) == astray {
		src.stray(p, now)
	}
}

// stray keeps a packet of another SSRC, or of a sequence number far from the others, until a
// second one confirms that the sender goes on from there (RFC 3550 appendix A.1).
func (src *Source) stray(p *packet, now time.Duration) {
	const near = 16
	c := src.candidate
	if c == nil || c.ssrc != p.ssrc || p.seq16 == c.seq16 || p.seq16-c.seq16+near > 2*near {
		if c != nil {
			src.track.manifest.Ledger.Late++
			c.free()
		}
		src.candidate = p
		return
	}
	src.candidate = nil
	lost := 0
	if c.ssrc == src.ssrc && src.clock.RunsOn(c.rtp, c.arrival) { // it did not begin anew
		lost = src.window.ahead(c.seq16)
	}
	src.release(now, true)
	src.window.clear()
	src.window.lost = lost
	src.clock.Reset()
	src.ssrc, src.asm, src.codec = p.ssrc, nil, ""
	for _, p := range []*packet{c, p} {
		if src.accept(p) == astray {
			p.free()
		}
	}
}

// accept gives a packet to the window and takes from RED what the window lacks. A packet that is
// astray is the caller's.
func (src *Source) accept(p *packet) arrived {
	var blocks []redBlock
	switch f := src.formats[p.pt]; {
	case f.red:
		var ok bool
		blocks, ok = parseRED(src.blocks[:0], p.payload)
		src.blocks = blocks
		if !ok {
			src.track.manifest.Ledger.Malformed++
			p.payload = p.payload[:0]
			break
		}
		primary := blocks[len(blocks)-1]
		p.pt, p.payload = primary.pt, primary.payload
		blocks = blocks[:len(blocks)-1]
		if src.formats[p.pt].codec == "" {
			p.payload = p.payload[:0]
		}
	case f.codec == "":
		p.payload = p.payload[:0] // comfort noise and the like: it only has its place in sequence
	}

	l := &src.track.manifest.Ledger
	size := uint64(len(p.buf))
	got, hole := src.window.push(p)
	switch got {
	case inOrder:
		l.Received++
		l.Bytes += size
		if p.late {
			l.Reordered++
		} else if len(p.payload) > 0 {
			src.clock.Observe(p.rtp, p.arrival)
		}
	case filled:
		l.Received++
		l.Bytes += size
		if src.nacker.answered(hole, p.arrival) {
			l.Recovered++
		} else {
			l.Reordered++
		}
	case duplicate:
		l.Duplicate++
	case tooLate:
		l.Late++
	case astray:
		return got
	}
	for i := range blocks {
		src.restore(p, blocks[len(blocks)-1-i], uint16(i+1))
	}
	if got == duplicate || got == tooLate {
		p.free()
	}
	return got
}

// restore puts the packet that came back packets before p in its place, if it is missing: what RED
// carries is the very payload that was lost.
func (src *Source) restore(p *packet, b redBlock, back uint16) {
	seq, rtp := p.seq16-back, p.rtp-b.offset
	if len(b.payload) == 0 || src.formats[b.pt].codec != container.Opus || !src.window.wants(seq) {
		return
	}
	at := src.window.unwrap(seq)
	if before := src.window.held(at - 1); before != nil && int32(rtp-before.rtp) <= 0 {
		return
	}
	if after := src.window.held(at + 1); after != nil && int32(after.rtp-rtp) <= 0 {
		return
	}
	r := newPacket()
	r.buf = append(r.buf[:0], b.payload...)
	r.payload = r.buf
	r.ssrc, r.seq16, r.rtp, r.pt, r.arrival = p.ssrc, seq, rtp, b.pt, p.arrival
	l := &src.track.manifest.Ledger
	switch got, _ := src.window.push(r); got {
	case inOrder, filled:
		l.Received++
		l.RED++
	default:
		r.free()
	}
}

// release writes what is in sequence and whose position is known. With force nothing is waited for.
func (src *Source) release(now time.Duration, force bool) {
	t := src.track
	for {
		p := src.window.front(now, force)
		if p == nil {
			return
		}
		if len(p.payload) > 0 && !p.placed {
			p.pos, p.placed = src.clock.Admit(p.rtp, p.arrival, now, p.late, force)
			if !p.placed {
				return
			}
			t.stream.begin()
		}
		if p.placed && !src.superseded && !force && !t.writer.reach(src, p, now) {
			return
		}
		p, lost := src.window.take()
		t.manifest.Ledger.Lost += uint64(lost)
		if !src.superseded {
			t.writer.write(src, p, lost, now)
		}
		p.free()
	}
}

// ask decides what to ask the sender for.
func (src *Source) ask(now time.Duration) {
	if src.feedback == nil || src.over || src.superseded {
		return
	}
	if src.begins && src.known {
		src.begins = false
		src.keys.expect(now)
	}
	o := order{to: src.feedback}
	if !src.begins {
		o.request = src.keys.due(now)
	}
	if o.request == noRequest && src.track.kind == video && src.urgent(now) {
		o.request, src.urged = pli, now
	}
	l := &src.track.manifest.Ledger
	switch o.request {
	case pli:
		l.PLIs++
	case fir:
		l.FIRs++
	}
	// Audio, too: browsers do not offer to repeat it and do when asked (libwebrtc keeps what it sent,
	// whatever was negotiated). To a sender that does not, a request costs a few bytes.
	if len(src.window.missing) > 0 {
		src.wanted = src.nacker.due(now, src.window.window, src.window.missing, src.wanted[:0])
		o.nack = src.wanted
		l.NACKs += uint64(len(o.nack))
	}
	if o.request != noRequest || len(o.nack) > 0 {
		src.track.stream.rec.orders = append(src.track.stream.rec.orders, o)
	}
}

// urgent reports whether a picture has been incomplete for so long that it may stay so. Asking for
// a key frame now makes the gap short in that case, and costs one key frame in the other.
func (src *Source) urgent(now time.Duration) bool {
	if src.keys.needed || len(src.window.missing) == 0 || now-src.urged < urgeInterval {
		return false
	}
	return now-src.window.missing[0].since > max(urgeAfter, 4*src.nacker.rtt)
}
