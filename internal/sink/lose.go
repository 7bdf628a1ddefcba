package sink

import (
	"time"

	"recorder/internal/container"
)

// loseAll notes that no file is left. mu is held.
func (rec *Recording) loseAll() {
	known := make(map[*ManifestTrack]bool)
	for _, t := range rec.tracks {
		known[t.manifest] = true
		var from time.Duration
		for _, m := range t.manifest.Parts {
			if _, ok := rec.files[m]; !ok { // of a recorder before this one
				frames := m.Frames
				rec.files[m] = mediaFile{track: t, from: from, sent: &frames}
			}
			from = m.Duration.Duration()
			rec.lose(m)
		}
	}
	for _, s := range rec.manifest.Streams {
		for _, t := range s.Tracks {
			if known[t] {
				continue
			}
			l := restoreLedger(t)
			l.lose(ReasonDisk, l.start, l.end)
			l.enter(t)
			for _, m := range t.Parts {
				m.vanish()
			}
		}
	}
	rec.changed()
}

// lose notes that a file is not what its name names any more: what it held is missing. mu is held.
func (rec *Recording) lose(m *ManifestPart) {
	f := rec.files[m]
	if f.lost {
		return
	}
	f.lost = true
	rec.files[m] = f
	if f.part != nil {
		f.part.abandon(errGone)
	}
	f.track.shorten(m, partResult{err: errGone, kept: new(container.Info)}, f.from, *f.sent)
	m.vanish()
	rec.refused = true
	rec.changed()
}

// vanish says that nothing is left of a file.
func (m *ManifestPart) vanish() {
	m.Size, m.SHA256, m.Final, m.HeldFirst, m.Error = 0, "", false, false, errGone.Error()
	m.Frames, m.KeyFrames, m.LastPTS, m.Duration = 0, 0, 0, 0
}
