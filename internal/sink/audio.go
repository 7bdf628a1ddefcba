package sink

import (
	"math/rand/v2"
	"time"

	"recorder/internal/depacket"

	"recorder/internal/timeline"

	"recorder/internal/container"
)

// audioWriter writes a track of Opus packets. An Ogg file has no time stamps, only lengths: what
// has no packet is filled with packets of our own, so that every sample is where it was.
type audioWriter struct {
	track    *Track
	part     *part
	manifest *ManifestPart
	written  int64  // position behind the last packet of the file
	ended    int64  // the same of the track, in whichever file
	any      bool   // a packet was written
	quiet    bool   // silence was, since
	expected uint32 // RTP time of the packet that follows without a gap
	toc      byte
	samples  int64 // of the last packet
	from     *Source
	lost     int // packets since the last one that came
	overlaps int // packets in a row whose time was taken
	retry    retry
}

const (
	// Drift is made up for in steps too short to hear: 10 ms of concealment, or a packet left out.
	audioBehind = container.OpusRate / 100
	// More than that is no drift: the sender's clock stood still.
	audioJump = container.OpusRate / 20
	// After that much concealment, a decoder is given silence. The comfort noise of a sender that
	// suppresses silence goes on longer.
	concealLoss = container.OpusRate / 10
	concealMute = container.OpusRate
	// fillStep is how much is filled between two ticks, which takes some milliseconds. A file that is
	// begun late in a stream of days takes many.
	fillStep = 30 * 60 * container.OpusRate
	// fillMost is how much is filled at once when nothing may be waited for, some 6 MB.
	fillMost = 12 * 60 * 60 * container.OpusRate
	// silenceLag is how far the file of a silent sender is behind, and twice that at most. It is more
	// than a packet may be late.
	silenceLag = 30 * container.OpusRate
)

func (w *audioWriter) reach(src *Source, p *depacket.Packet, now time.Duration) bool {
	pos := w.position(p)
	if w.part != nil && pos-w.written <= fillStep && (w.manifest.Channels == 2 || opusChannels(src, p) == 1) {
		return true
	}
	if !depacket.OpusValid(p.Payload) || !w.track.takeOver(src, now) || w.ready(src, p, now) != "" || pos-w.written <= fillStep {
		return true
	}
	if w.part.unwritten() < partWrite {
		w.quiet = true
		w.fill(w.written+fillStep, 0)
	}
	return false
}

func (w *audioWriter) position(p *depacket.Packet) int64 {
	return p.Position - timeline.ToTicks(w.track.stream.origin, container.OpusRate)
}

func (w *audioWriter) write(src *Source, p *depacket.Packet, lost int, now time.Duration) {
	if w.track.active != nil && w.track.active.number > src.number {
		return
	}
	l := &w.track.manifest.Ledger
	if len(p.Payload) == 0 {
		w.lost += lost
		return
	}
	if !depacket.OpusValid(p.Payload) {
		l.Malformed++
		w.lost += lost + 1
		return
	}
	if !w.track.takeOver(src, now) {
		return
	}
	w.lost += lost
	pos := w.position(p)
	w.track.began(src, samplesTime(pos))
	samples := int64(container.OpusSamples(p.Payload))
	reason := w.ready(src, p, now)
	if reason == "" && pos-w.written > fillMost {
		reason = ReasonCapacity
	}
	if reason != "" {
		w.refuse(reason, src, p, pos, samples)
		return
	}
	if !w.bridge(src, p, pos, samples) {
		w.overlap(src, p, pos, samples)
		return
	}
	if !w.part.writeAudio(p.Payload, int(samples), false) {
		w.refuse(w.part.refusal(len(p.Payload)), src, p, pos, samples)
		return
	}
	w.advance(samples)
	w.ended = w.written
	w.follow(src, p, samples)
	w.toc, w.samples = p.Payload[0], samples
	w.track.delivered(src, p.Arrival)
	w.track.frame(len(p.Payload))
	w.track.ledger.media(samplesTime(pos), samplesTime(w.written))
}

// follow notes which packet comes next without a gap.
func (w *audioWriter) follow(src *Source, p *depacket.Packet, samples int64) {
	w.any, w.quiet, w.expected, w.from = true, false, p.Timestamp+uint32(samples), src
	w.lost, w.overlaps = 0, 0
}

// overlap notes a packet whose time is taken in the file. After a change of connection both may send
// the same, and leaving out a packet now and then makes up for a sender's clock that is fast. More in a
// row are audio that is missing: the sender was held up, and then made up for it at once.
func (w *audioWriter) overlap(src *Source, p *depacket.Packet, pos, samples int64) {
	w.track.drop(dropOverlap)
	if w.from != src {
		return
	}
	w.expected = p.Timestamp + uint32(samples)
	w.overlaps++
	switch from, until := samplesTime(max(pos, 0)), samplesTime(pos+samples); {
	case w.overlaps == 2:
		w.track.gap(ReasonLoss, from-samplesTime(samples), until, 2, "")
	case w.overlaps > 2:
		w.track.gap(ReasonLoss, from, until, 1, "")
	}
}

// refuse notes a packet that is not written, and why: a gap, one with those of the packets before.
func (w *audioWriter) refuse(r Reason, src *Source, p *depacket.Packet, pos, samples int64) {
	w.track.drop(r.drop())
	switch gap := pos - w.ended; {
	case !w.any:
		w.ended = pos
	case gap >= audioJump || gap >= depacket.OpusUnit && w.lost > 0:
		w.explain(src, p, pos)
		w.ended = pos
	}
	if end := pos + samples; end > w.ended {
		w.track.gap(r, samplesTime(w.ended), samplesTime(end), 0, FillSilence)
		w.ended = end
	}
	w.follow(src, p, samples)
}

// ready has a file open that takes a packet like p. Otherwise it says why there is none.
func (w *audioWriter) ready(src *Source, p *depacket.Packet, now time.Duration) Reason {
	if w.track.pressed() == pressureFull {
		return ReasonDisk
	}
	channels := opusChannels(src, p)
	if w.part != nil && w.part.failed() != nil {
		w.retry.failed(w.track, w.part.failed(), now)
		w.finish()
	}
	if w.part != nil && channels > w.manifest.Channels && w.track.mayBegin(now) {
		w.finish() // a player would mix the second channel into the first
	}
	switch {
	case w.part != nil && w.part.hasRoom(len(p.Payload)):
		return ""
	case w.part != nil:
		return w.part.refusal(len(p.Payload))
	case !w.retry.due(now):
		return w.retry.reason
	case !w.track.mayBegin(now):
		return ReasonCapacity
	case !w.begin(channels):
		return ReasonCapacity // for the tags, there is nothing else to refuse
	}
	return ""
}

// opusChannels is how many a file needs for p.
func opusChannels(src *Source, p *depacket.Packet) uint8 {
	if len(p.Payload) > 0 && depacket.OpusStereo(p.Payload[0]) || src.formats[p.PayloadType].stereo {
		return 2
	}
	return 1
}

// begin opens a file. It holds silence up to the current position.
func (w *audioWriter) begin(channels uint8) bool {
	ogg, err := container.NewOgg(container.OggOptions{
		Serial: rand.Uint32(), Channels: channels, PreSkip: container.LibopusPreSkip, Tags: w.track.tags(),
	})
	if err != nil {
		return false
	}
	w.manifest = &ManifestPart{Codec: string(container.Opus), ClockRate: container.OpusRate, Channels: channels}
	w.part = w.track.newPart(w.manifest, ogg, nil)
	w.written = 0
	return true
}

// bridge fills what lies between the file's end and a packet at pos. It is false when the packet
// does not belong in the file, as its time is taken.
func (w *audioWriter) bridge(src *Source, p *depacket.Packet, pos, samples int64) bool {
	gap := pos - w.ended
	switch {
	case !w.any || gap < depacket.OpusUnit:
		w.fill(pos, 0)
		return pos-w.written > -samples*3/4
	case w.from == src && w.lost == 0 && w.written >= w.ended && p.Timestamp == w.expected && gap < audioJump:
		if gap >= audioBehind {
			w.fill(w.written+audioBehind, audioBehind)
		}
		return true
	}
	w.fill(pos, w.explain(src, p, pos))
	return true
}

// explain notes the gap before a packet at pos, and says how many samples of it are to be concealed.
func (w *audioWriter) explain(src *Source, p *depacket.Packet, pos int64) (conceal int64) {
	reason, kind, gap := w.track.gapReason(src, p.Arrival, w.lost), FillConcealment, pos-w.ended
	from, until := samplesTime(w.ended), samplesTime(pos)
	if silent := gap - int64(w.lost)*w.samples; reason == ReasonLoss && silent >= depacket.OpusUnit {
		// More time passed than packets were lost: the sender was silent, too.
		w.track.gap(reason, from, until-samplesTime(silent), w.lost, kind)
		reason, from = ReasonMute, until-samplesTime(silent)
	}
	conceal = concealLoss
	if reason == ReasonMute {
		conceal = concealMute
	}
	switch {
	case w.manifest == nil || w.manifest.Frames == 0 || w.samples == 0 || w.quiet: // there is nothing to go on from
		conceal, kind = 0, FillSilence
	case gap > conceal:
		kind = FillSilence
	case reason == ReasonLoss && depacket.OpusHasFEC(p.Payload):
		kind = FillFEC
	}
	if reason.outage() {
		w.track.missed(reason, ReasonMute, from, until, w.lost, kind)
	} else {
		w.track.gap(reason, from, until, w.lost, kind)
	}
	w.track.manifest.Ledger.Concealed += uint64(w.lost)
	return conceal
}

// fill writes stand-ins up to pos: concealment at first, as many samples as given, then silence.
// What is left, shorter than any packet, is made up for by a later fill (RFC 7845 §4.1).
func (w *audioWriter) fill(pos, conceal int64) {
	for {
		rest := pos - w.written
		var f depacket.OpusFill
		var ok bool
		if conceal >= depacket.OpusUnit {
			f, ok = depacket.OpusConcealment(w.toc, int(min(rest, conceal)))
			conceal -= int64(f.Samples)
		} else {
			f, ok = depacket.OpusSilence(w.manifest.Channels == 2, int(min(rest, depacket.OpusLongest)))
		}
		if !ok || !w.part.writeAudio(f.Bytes(), f.Samples, true) {
			return
		}
		w.advance(int64(f.Samples))
	}
}

// advance notes a packet in the file.
func (w *audioWriter) advance(samples int64) {
	m := w.manifest
	m.Frames++
	m.LastPTS = w.written
	w.written += samples
	m.Duration = Seconds(samplesTime(w.written))
}

func (w *audioWriter) resume(end time.Duration, m *ManifestPart, f *resumedFile) {
	w.any, w.ended = true, timeline.ToTicks(end, container.OpusRate)
	if f != nil {
		w.part, w.manifest, w.written = w.track.resumePart(m, f), m, f.audio.Granule()
		w.ended = max(w.ended, w.written)
	}
}

func (w *audioWriter) missed() time.Duration { return 0 }

func (w *audioWriter) seal(now time.Duration) {
	if w.part != nil && w.track.pressed() == pressureFull {
		w.finish()
	}
	if until := w.clock(now) - silenceLag; w.part != nil && w.any && until-w.ended > silenceLag &&
		w.track.alive() && w.part.unwritten() < partWrite {
		w.silent(min(until, w.written+fillStep))
	}
	w.track.seal(w.part, now)
}

// clock is now on the stream's clock.
func (w *audioWriter) clock(now time.Duration) int64 {
	return timeline.ToTicks(now-w.track.stream.origin, container.OpusRate)
}

// silent accounts for a sender that sends nothing up to a position.
func (w *audioWriter) silent(until int64) {
	w.track.missed(ReasonMute, ReasonMute, samplesTime(w.ended), samplesTime(until), 0, FillSilence)
	w.track.outage = "" // it is accounted for
	if w.quiet {
		w.fill(until, 0)
	} else {
		w.fill(until, concealMute)
	}
	w.quiet, w.ended = true, max(w.ended, until)
}

func (w *audioWriter) end(now time.Duration, alive bool) {
	if w.part == nil {
		return
	}
	until := w.clock(now)
	if alive && until-w.ended > container.OpusRate*int64(endSilence)/int64(time.Second) {
		w.silent(min(until, w.written+fillStep))
	}
	w.finish()
}

func (w *audioWriter) finish() {
	w.part.close()
	w.part = nil
}

func samplesTime(n int64) time.Duration { return timeline.ToDuration(n, container.OpusRate) }
