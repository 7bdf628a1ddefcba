package sink

import (
	"time"

	"recorder/internal/depacket"
	"recorder/internal/guard"
)

// faultyWriter takes the place of the writer of a track at which the recorder
// failed: its files are finished, and from then on all of it is missing.
type faultyWriter struct {
	track  *Track
	booked time.Duration // when the gap was last accounted for
}

func (w *faultyWriter) reach(*Source, *depacket.Packet, time.Duration) bool { return true }
func (w *faultyWriter) write(*Source, *depacket.Packet, int, time.Duration) {}
func (w *faultyWriter) resume(time.Duration, *ManifestPart, *resumedFile)   {}
func (w *faultyWriter) missed() time.Duration                               { return 0 }
func (w *faultyWriter) unwritten() int                                      { return 0 }
func (w *faultyWriter) end(now time.Duration, _ bool)                       { w.book(now) }
func (w *faultyWriter) seal(now time.Duration) {
	if now-w.booked >= awaitInterval {
		w.book(now)
	}
}

// book accounts for what is missing so far. While the stream is away, or the
// track is not wanted, nothing is.
func (w *faultyWriter) book(now time.Duration) {
	t := w.track
	if t.stream.begun && !t.stream.out && t.outage != ReasonMute {
		w.booked = now
		t.gap(ReasonFault, t.ledger.end, now-t.stream.origin, 0, "")
	}
}

// faulty reports whether the recorder failed at the track.
func (t *Track) faulty() bool {
	_, faulty := t.writer.(*faultyWriter)
	return faulty
}

// do does some work for the track. Should it panic that is the end of the
// track, and of nothing else.
func (t *Track) do(work func(*Track, time.Duration), now time.Duration) {
	defer guard.Recover(t.fault)
	work(t, now)
}

// fail is what becomes of a track after a panic. What its files have of it is
// kept, and what comes is missing. mu is held.
func (t *Track) fail(reason any, stack []byte) {
	rec := t.stream.rec
	rec.root.metrics.panics.Inc()
	now := rec.now()
	if rec.faulted == 0 || now-rec.faulted >= errorLogPeriod {
		rec.faulted = now
		rec.log.Error("recovered from a panic, the track is recorded no more", "peer", t.stream.info.PeerID, "stream", t.stream.info.StreamID,
			"track", t.manifest.ID, "err", reason, "stack", string(stack))
	}
	for _, src := range t.sources {
		src.Close()
	}
	t.sources, t.active = nil, nil
	if !t.faulty() && t.writer != nil {
		t.finishFile(now)
		t.writer = &faultyWriter{track: t}
	}
	rec.changed()
}

// finishFile ends the file at hand: in the way of its writer, or else with
// what is laid out already.
func (t *Track) finishFile(now time.Duration) {
	attempt := func(end func()) {
		defer guard.Recover(func(any, []byte) {}) // of what has failed once
		end()
	}
	attempt(func() { t.writer.end(now, false) })
	if t.part != nil {
		attempt(t.part.close)
		attempt(t.part.leave)
	}
}

// leave has the flusher finish the file as it is.
func (p *part) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closing = true
	p.poke()
}
