package sink

import (
	"bytes"
	"time"

	"recorder/internal/depacket"

	"recorder/internal/timeline"

	"recorder/internal/container"
)

// videoWriter writes a track of pictures. A picture that lacks one before it is not written, and
// neither is any after it up to the next key picture.
type videoWriter struct {
	track    *Track
	part     *part
	manifest *ManifestPart
	width    int
	height   int
	sets     container.AVC // in the header of an H.264 file
	any      bool          // a picture came, written or not,
	due      int64         // and the next is due there on the stream's clock; what is before is accounted for, or in the gap at hand
	interval int64         // between the last two written, at most maxInterval
	pace     int64         // the longest of late between two with none missing
	gate     Reason        // why one was refused, until one is written; "" if none was
	retry    retry
	now      time.Duration

	missing bool // pictures are, since from
	reason  Reason
	from    int64
	lost    int // packets, since then
}

const (
	maxInterval = container.VideoClockRate / 10 // assumed for a picture when nothing follows it
	videoMute   = 2 * container.VideoClockRate  // a pause that is worth a line in the manifest
	atOnce      = container.VideoClockRate / 1000
)

func (w *videoWriter) reach(*Source, *depacket.Packet, time.Duration) bool { return true }

func (w *videoWriter) write(src *Source, p *depacket.Packet, lost int, now time.Duration) {
	w.now = now
	if c := src.formats[p.PayloadType].codec; len(p.Payload) > 0 && (src.asm == nil || c != src.codec) {
		src.codec = c
		src.asm = depacket.New(c, src.formats[p.PayloadType].fmtp,
			func(pic depacket.Frame) { w.picture(src, pic) },
			func(pic depacket.Frame) { w.dropped(src, pic) })
	}
	if len(p.Payload) > 0 {
		w.track.began(src, w.time(w.position(p.Position)))
	}
	if src.asm != nil {
		src.asm.Push(p, lost)
		if src.asm.NeedsKeyFrame() {
			src.keys.Need()
		}
	}
}

// position is a position of the recording's clock on the stream's.
func (w *videoWriter) position(pos int64) int64 {
	return max(pos-timeline.ToTicks(w.track.stream.origin, container.VideoClockRate), 0)
}

func (w *videoWriter) time(pos int64) time.Duration {
	return timeline.ToDuration(pos, container.VideoClockRate)
}

// current reports whether what src delivers is, or would be, written.
func (w *videoWriter) current(src *Source) bool {
	return w.track.active == src || w.track.active == nil
}

// dropped notes a picture that is not whole.
func (w *videoWriter) dropped(src *Source, pic depacket.Frame) {
	w.track.drop(dropIncomplete)
	if !w.current(src) {
		return
	}
	reason, pos := ReasonLoss, w.position(pic.Position)
	if !w.track.owns(src) || w.track.ends(pic.Arrival) {
		reason = ReasonKeyFrameWait // it began before anything could come, and could not be decoded if it were whole
	}
	w.explain(src, pic, pos)
	w.miss(reason, pos)
}

// miss says that the picture at pos is missing. A gap of pictures that are refused is accounted for as it grows:
// it may last, and its track with it.
func (w *videoWriter) miss(r Reason, pos int64) {
	if w.gate != "" {
		r = w.gate
	}
	switch {
	case !w.missing && w.any:
		w.begin(r, min(pos, w.due))
	case !w.missing:
		w.begin(r, pos)
	case (r.refusal() || w.reason == ReasonLoss && r == ReasonKeyFrameWait) && pos > w.from:
		w.close(pos)
		w.begin(r, pos)
	}
	w.any, w.due = true, max(w.due, pos+w.interval)
}

// begin begins a gap.
func (w *videoWriter) begin(r Reason, pos int64) { w.missing, w.reason, w.from = true, r, pos }

// close ends the gap at hand, if there is one.
func (w *videoWriter) close(pos int64) {
	switch {
	case !w.missing || pos <= w.from:
	case w.reason.outage():
		w.track.missed(w.reason, ReasonMute, w.time(w.from), w.time(pos), w.lost, "")
	default:
		w.track.gap(w.reason, w.time(w.from), w.time(pos), w.lost, "")
	}
	w.missing, w.lost = false, 0
}

// picture takes a whole picture.
func (w *videoWriter) picture(src *Source, pic depacket.Frame) {
	pos := w.position(pic.Position)
	if pic.Key {
		src.keys.Came()
	}
	if w.track.pressed() >= pressureHigh {
		w.explain(src, pic, pos)
		w.refuse(ReasonDisk, pos)
		return
	}
	if !pic.Key && (pic.Broken || w.gate != "" || !w.track.owns(src) || !w.fits(src)) {
		w.track.drop(dropUndecodable)
		if w.current(src) {
			w.explain(src, pic, pos)
			w.miss(ReasonKeyFrameWait, pos)
		}
		return
	}
	if !w.track.takeOver(src, w.now) {
		return
	}
	w.explain(src, pic, pos)
	reason := w.ready(src, pic)
	if reason == "" {
		reason = w.put(pic, pos)
	}
	if reason != "" {
		w.refuse(reason, pos)
		return
	}
	w.close(pos)
	if pic.Key {
		w.track.keyed = w.now
	}
	w.gate = ""
}

// explain accounts for the time from when a picture was due to pos, where pic is the next that came,
// be it written or not.
func (w *videoWriter) explain(src *Source, pic depacket.Frame, pos int64) {
	late := pos - w.due
	silent := late - int64(pic.Lost)*w.pace // what is lost was sent in no more than the rest
	switch t := w.track; {
	case !w.any || late <= w.interval/2:
		w.lost += pic.Lost
	case t.fresh(src) || t.ends(pic.Arrival):
		w.close(w.due)
		w.begin(t.gapReason(src, pic.Arrival, 0), w.due)
		w.lost, w.due = pic.Lost, pos
		w.close(pos)
	case silent > videoMute:
		if !w.missing && pic.Lost > 0 {
			w.begin(ReasonLoss, w.due)
		}
		w.lost += pic.Lost
		w.close(pos - silent)
		if pic.Broken { // it may be that something was sent, in an outage
			t.missed(ReasonMute, ReasonMute, w.time(pos-silent), w.time(pos), 0, "")
		} else {
			t.gap(ReasonMute, w.time(pos-silent), w.time(pos), 0, "")
		}
		w.due = pos
	default:
		anew := !src.delivered && src.number > 1 // it was taken away, and is sent again
		if pic.Broken && !w.missing && !anew {
			w.begin(ReasonLoss, w.due)
		}
		w.lost += pic.Lost
	}
	w.track.delivered(src, pic.Arrival)
}

// ready has a file open that takes pic. Otherwise it says why there is none.
func (w *videoWriter) ready(src *Source, pic depacket.Frame) Reason {
	if w.part != nil && w.part.failed() != nil {
		w.retry.failed(w.track, w.part.failed(), w.now)
		w.finish()
	}
	switch {
	case w.part != nil && w.fits(src) && !(pic.Key && w.otherSets(pic)):
		return ""
	case !w.retry.due(w.now):
		return w.retry.reason
	case !w.track.mayBegin(w.now):
		return ReasonCapacity
	case !pic.Key:
		return ReasonDisk // which ended the file before
	}
	if w.part != nil {
		w.finish()
	}
	encoder, err := newEncoder(src.codec, pic)
	if err != nil {
		return ReasonKeyFrameWait // no file can hold what it says of itself, nor a decoder take it
	}
	w.sets = container.AVC{SPS: bytes.Clone(pic.ParameterSets.SPS), PPS: bytes.Clone(pic.ParameterSets.PPS)}
	w.manifest = &ManifestPart{Codec: string(src.codec), ClockRate: container.VideoClockRate, Width: pic.Width, Height: pic.Height}
	w.part = w.track.newPart(w.manifest, nil, encoder)
	w.width, w.height = 0, 0
	return ""
}

// otherSets reports whether pic is H.264 with other parameter sets than stand in the file's header.
func (w *videoWriter) otherSets(pic depacket.Frame) bool {
	return !bytes.Equal(w.sets.SPS, pic.ParameterSets.SPS) || !bytes.Equal(w.sets.PPS, pic.ParameterSets.PPS)
}

func newEncoder(c container.Codec, pic depacket.Frame) (container.Video, error) {
	if c == container.H264 {
		return container.NewMatroska(pic.ParameterSets)
	}
	return container.NewIVF(c, pic.Width, pic.Height)
}

// put writes pic at pos, or right behind the last one if that is later. Otherwise it says why it did not.
func (w *videoWriter) put(pic depacket.Frame, pos int64) Reason {
	m := w.manifest
	if m.Frames == 0 && pos < atOnce {
		pos = 0
	}
	pts, step, size := pos, int64(0), len(pic.Data)
	switch {
	case m.Frames > 0:
		pts = max(pts, m.LastPTS+1)
		step = pts - m.LastPTS
	case pos > 0:
		// Players begin a file with its first picture. Held from 0 it keeps all others in their
		// places.
		size *= 2
		if !w.part.writeVideo(0, true, pic.Data) {
			return w.part.refusal(size)
		}
		m.HeldFirst = true
		m.Frames, m.KeyFrames = 1, 1
	}
	if !w.part.writeVideo(pts, pic.Key, pic.Data) {
		return w.part.refusal(size)
	}
	if step > 0 {
		w.interval = min(step, maxInterval)
	}
	if step > 0 && step <= videoMute && !w.missing && pic.Lost == 0 {
		w.pace = max(step, w.pace*7/8)
	}
	w.any, w.due = true, pts+w.interval
	m.Frames++
	if pic.Key {
		m.KeyFrames++
	}
	if pic.Width > 0 && (pic.Width != w.width || pic.Height != w.height) {
		w.resized(pic, pts)
	}
	m.LastPTS, m.Duration = pts, Seconds(w.time(pts))
	w.track.frame(len(pic.Data))
	w.track.ledger.media(w.time(pts), w.time(w.due))
	return ""
}

// resolutionLimit bounds the sizes listed for a track. A member can send another one in each picture.
const resolutionLimit = 500

// resized notes that pictures are of another size from pts on.
func (w *videoWriter) resized(pic depacket.Frame, pts int64) {
	w.width, w.height = pic.Width, pic.Height
	m := w.track.manifest
	if len(m.Resolutions) >= resolutionLimit {
		m.ResolutionsOmitted++
		return
	}
	m.Resolutions = append(m.Resolutions, &ManifestResolution{File: w.manifest.File, PTS: pts, Width: pic.Width, Height: pic.Height})
	w.track.stream.rec.changed()
}

func (w *videoWriter) resume(end time.Duration, m *ManifestPart, f *resumedFile) {
	w.any, w.due = true, timeline.ToTicks(end, container.VideoClockRate)
	if f != nil {
		w.part, w.manifest, w.sets = w.track.resumePart(m, f), m, f.sets
		if all := w.track.manifest.Resolutions; len(all) > 0 {
			w.width, w.height = all[len(all)-1].Width, all[len(all)-1].Height
		}
	}
}

func (w *videoWriter) missed() time.Duration {
	if !w.missing {
		return 0
	}
	return w.time(max(w.due-w.from, 0))
}

func (w *videoWriter) seal(now time.Duration) {
	if w.part != nil && w.track.pressed() == pressureFull {
		w.finish()
	}
	w.track.seal(w.part, now)
	if w.gate == "" {
		return
	}
	for _, src := range w.track.sources {
		if w.takes(src, now) {
			src.keys.NeedAnother()
		}
	}
}

// takes reports whether it looks as if a key picture of src would be written.
func (w *videoWriter) takes(src *Source, now time.Duration) bool {
	switch {
	case w.track.pressed() >= pressureHigh:
		return false
	case w.part != nil && w.part.failed() == nil && w.fits(src):
		return w.part.hasRoom(partQueue / 2)
	}
	return w.retry.due(now) && w.track.mayBegin(now)
}

func (w *videoWriter) end(now time.Duration, alive bool) {
	w.close(w.due)
	until := timeline.ToTicks(now-w.track.stream.origin, container.VideoClockRate)
	if w.any && alive && w.time(until-w.due) > endSilence {
		w.begin(ReasonMute, w.due)
		if r := w.track.outage; r.outage() {
			w.reason = r
		}
		w.close(until)
	}
	if w.part != nil {
		w.finish()
	}
}

func (w *videoWriter) finish() {
	w.part.close()
	w.part = nil
}
