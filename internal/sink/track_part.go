package sink

import (
	"errors"
	"io/fs"
	"slices"
	"time"

	"recorder/internal/container"
	"recorder/internal/timeline"
)

// tags describes the track in a file that may be found without its manifest.
func (t *Track) tags() []container.Tag {
	m := t.stream.rec.manifest
	return []container.Tag{
		{Name: "CHANNEL", Value: m.Channel}, {Name: "PEER", Value: t.stream.info.PeerID},
		{Name: "STREAM", Value: t.stream.info.StreamID}, {Name: "TRACK", Value: t.manifest.ID},
		{Name: "DATE", Value: t.stream.manifest.Started.UTC.Format(time.RFC3339Nano)},
	}
}

// seal hands what p holds to its flusher when it is to be written, or synced.
func (t *Track) seal(p *part, now time.Duration) {
	switch {
	case p == nil:
	case now-p.synced >= t.stream.rec.root.options.SyncInterval:
		p.seal(now, true)
	case now-p.sealed >= writeInterval:
		p.seal(now, false)
	}
}

const (
	// A sender may change its codec with every picture. Each change makes a file, so there is one a
	// second on average, a few more at once, and an end to it.
	partInterval = time.Second
	partBurst    = 4
	maxParts     = 1000 // of a track
)

// mayBegin reports whether the track may have another file.
func (t *Track) mayBegin(now time.Duration) bool {
	return t.parted <= now+(partBurst-1)*partInterval && !t.spent()
}

// spent reports whether the track has had all its files. Those that the disk never took anything of
// do not count: it may be ill for long.
func (t *Track) spent() bool {
	parts := t.manifest.Parts
	if len(parts) < maxParts {
		return false
	}
	files := 0
	for _, p := range parts {
		if p.Error == "" || p.Size > 0 {
			files++
		}
	}
	return files >= maxParts
}

// newPart enters a file in the manifest and starts it. What the flusher finds out at its end goes
// there too.
func (t *Track) newPart(m *ManifestPart, a *container.Ogg, v container.Video) *part {
	rec := t.stream.rec
	t.parted = max(t.parted, rec.now()) + partInterval
	t.stream.files[t.kind]++
	m.File = rec.store.PartName(t.stream.manifest, t.kind, t.stream.files[t.kind], container.Codec(m.Codec).Extension())
	t.manifest.Parts = append(t.manifest.Parts, m)
	rec.changed()
	rec.parts.Add(1)
	name, version := m.File, rec.version
	var p *part
	h := rec.handle(m)
	h.made = false
	h.create = func() (File, error) {
		if gone := p.abandoned(); gone != nil {
			return nil, gone // it may have waited long for a descriptor
		}
		// The manifest names a file before it exists, so that nothing is ever found unexplained.
		var f File
		err := rec.writeManifest(version)
		if gone := p.abandoned(); gone != nil {
			return nil, gone
		}
		if err != nil {
			err = &manifestError{err}
		} else {
			done := rec.watch(workMedia)
			f, err = rec.create(name)
			done()
		}
		if f, err = rec.timed(f, err); err == nil {
			rec.made(m, f)
		}
		return f, err
	}
	p = startPart(container.Codec(m.Codec), a, v, h, rec.taken, t.partDone(m, t.ledger.end, 0))
	t.begun(m, p, nil)
	return p
}

// handle is that of a media file that was made.
func (rec *Recording) handle(m *ManifestPart) *handle {
	name := m.File
	return &handle{pool: rec.root.descriptors, made: true, reopen: func(was fs.FileInfo) (File, error) {
		done := rec.watch(workMedia)
		defer done()
		f, err := rec.timed(rec.reopen(name, was))
		if err == nil {
			rec.made(m, f) // its number may be another one now, see sameMedia
		}
		return f, err
	}}
}

// timed is a file that was opened, for the metrics. Without a descriptor nothing failed: it is tried again. What
// others deleted is counted for itself.
func (rec *Recording) timed(f File, err error) (File, error) {
	if err != nil {
		if !exhausted(err) && !errors.Is(err, errGone) {
			rec.root.metrics.failed(err)
		}
		return nil, err
	}
	return timedFile{f, rec.root.metrics, rec.root.watcher(rec.manifest.Channel, workMedia)}, nil
}

// resumePart goes on with a file that a stop or a repair finished.
func (t *Track) resumePart(m *ManifestPart, f *resumedFile) *part {
	rec := t.stream.rec
	m.Recovered = false
	rec.changed()
	rec.parts.Add(1)
	p := resumePart(container.Codec(m.Codec), f, rec.taken, t.partDone(m, t.before(m), m.Frames))
	t.begun(m, p, f.is)
	return p
}

// begun notes which part writes a file, and which file that is; nil if it is not made yet.
func (t *Track) begun(m *ManifestPart, p *part, is fs.FileInfo) {
	entry := t.stream.rec.files[m]
	entry.part, entry.is = p, is
	t.stream.rec.files[m] = entry
	t.part = p
}

// before is where the media of a part begins on the stream's clock: behind that of the part before it.
func (t *Track) before(m *ManifestPart) time.Duration {
	i := slices.Index(t.manifest.Parts, m)
	if i <= 0 {
		return 0
	}
	return t.manifest.Parts[i-1].Duration.Duration()
}

// partDone enters in the manifest what became of a file, whose media begins at from and which holds so many
// frames that are no stand-ins.
func (t *Track) partDone(m *ManifestPart, from time.Duration, frames int64) func(partResult) {
	rec, sent := t.stream.rec, &frames
	t.sent = sent
	rec.files[m] = mediaFile{track: t, from: from, sent: sent}
	return func(r partResult) {
		defer rec.parts.Done()
		rec.mu.Lock()
		defer rec.mu.Unlock()
		entry := rec.files[m]
		entry.part = nil
		rec.files[m] = entry
		if entry.lost {
			return // and said to be
		}
		if errors.Is(r.err, errGone) {
			rec.miss(m, r.err)
			return
		}
		m.Size, m.SHA256, m.Final = r.size, r.sha256, r.final
		if r.err != nil {
			m.Error = errorBelow(rec.store.root(), r.err)
			t.shorten(m, r, from, *sent)
			rec.refused = rec.complain("could not write media file", "file", m.File, "err", r.err) || rec.refused
		}
		if m.Final && m.SHA256 == "" {
			rec.hashSoon(m)
		}
		rec.changed()
	}
}

// taken is called when the disk has something of a file. The first one after trouble was logged tells
// that it is over.
func (rec *Recording) taken() {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if rec.refused {
		rec.refused = false
		rec.log.Info("media files are written again")
	}
}

// shorten corrects what was said of a file that lost its end to an error. Its media began at from;
// what it has before that stands in for files before it. Of its frames so many were sent.
func (t *Track) shorten(m *ManifestPart, r partResult, from time.Duration, sent int64) {
	kept, reason := r.kept, causeOf(r.err)
	if kept == nil {
		return
	}
	length := Seconds(kept.Duration + timeline.ToDuration(int64(kept.PreSkip), container.OpusRate))
	t.ledger.lose(reason, max(length.Duration(), from), m.Duration.Duration())
	if n := min(m.Frames-kept.Frames, sent); n > 0 {
		t.drops[reason.drop()] += uint64(n)
		t.manifest.Ledger.FramesDropped += uint64(n)
	}
	m.Frames, m.KeyFrames, m.LastPTS, m.Duration = kept.Frames, kept.KeyFrames, kept.LastPTS, length
	t.manifest.cutResolutions(m)
	t.account(t.stream.rec.now()) // which a stream that is over no longer does
}

// endSilence is how long before the end the last packet is when its sender was silent.
const endSilence = 500 * time.Millisecond
