package sink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"recorder/internal/container"
)

// sleeper is a stream of a continued recording that has not come back so far.
type sleeper struct {
	stream *ManifestStream
	until  time.Duration // when it is too late
}

// Asleep lists the peers that last sent the streams of an id which Reopen has go on, one for each.
func (rec *Recording) Asleep(streamID string) (peers []string) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.dismiss(rec.now())
	for _, s := range rec.asleep {
		if s.stream.ID == streamID {
			peer, _ := s.stream.sender()
			peers = append(peers, peer)
		}
	}
	return peers
}

// Reopen has the stream go on that owner sent last, under the id that info names, with its files, its
// clock and its ledger, and a gap from where the files ended. These may be long, so they are read in the
// background. The result is called when that is done, on a goroutine of its own, with the open stream, or
// with nil if the recording has ended meanwhile. Reopen is false when there is no such stream.
func (rec *Recording) Reopen(owner string, info StreamInfo, result func(*Stream)) bool {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if rec.closing {
		return false
	}
	m := rec.takeSleeper(owner, info.StreamID)
	if m == nil {
		return false
	}
	rec.parts.Add(1) // Close waits
	go func() {
		defer rec.parts.Done()
		result(rec.resumeStream(m, info))
	}()
	return true
}

// resumeStream does the work of Reopen.
func (rec *Recording) resumeStream(m *ManifestStream, info StreamInfo) *Stream {
	defer rec.watch(workResume)()
	files := rec.openFiles(m)

	rec.mu.Lock()
	lost := *m.Ended
	rec.peer(info.PeerID, info.PeerMetadata, false)
	m.Ended, m.EndReason = nil, ""
	for p := range files {
		p.Final, p.SHA256 = false, ""
	}
	rec.mu.Unlock()
	// From here on a crash finds the files unfinished, as they will be.
	if err := rec.writeManifest(0); err != nil {
		rec.log.Error("could not write manifest", "err", err)
	}
	for p, f := range files {
		rec.resumeFile(f, *p)
	}

	rec.mu.Lock()
	defer rec.mu.Unlock()
	back := rec.now()
	now := rec.instant(back)
	m.Reconnects = append(m.Reconnects, &ManifestReconnect{Reason: ReasonRestart, Lost: lost, Resumed: &now, PeerID: info.PeerID})
	s := &Stream{rec: rec, info: info, manifest: m, files: make(map[string]int), begun: true, origin: rec.manifest.position(m.Started)}
	s.noteOutage(outage{ReasonRestart, rec.manifest.position(lost), back})
	for _, t := range m.Tracks {
		s.files[t.Kind] += len(t.Parts)
		s.restore(t, files)
	}
	rec.hashAll(m) // of its files those that do not go on
	if rec.closing {
		s.end(rec.now(), rec.endReason())
		return nil
	}
	rec.streams = append(rec.streams, s)
	return s
}

// takeSleeper takes off the list the latest stream of that id which that peer sent. mu is held.
func (rec *Recording) takeSleeper(owner, streamID string) *ManifestStream {
	rec.dismiss(rec.now())
	for i, s := range slices.Backward(rec.asleep) {
		if peer, _ := s.stream.sender(); peer == owner && s.stream.ID == streamID {
			rec.asleep = slices.Delete(rec.asleep, i, i+1)
			return s.stream
		}
	}
	return nil
}

// dismiss takes off the list the streams it is too late for. Their files are final for good. mu is held.
func (rec *Recording) dismiss(now time.Duration) {
	rec.asleep = slices.DeleteFunc(rec.asleep, func(s sleeper) bool {
		late := now > s.until
		if late {
			rec.hashAll(s.stream)
		}
		return late
	})
}

// last is the file that more media of the track could go to, nil if there is none.
func (t *ManifestTrack) last() *ManifestPart {
	if len(t.Parts) == 0 {
		return nil
	}
	if p := t.Parts[len(t.Parts)-1]; p.Error == "" && p.Frames > 0 {
		return p
	}
	return nil
}

// restore makes a track of what the manifest has of it. Its media goes on in its last file, if that
// was opened.
func (s *Stream) restore(m *ManifestTrack, files map[*ManifestPart]*resumedFile) {
	t := s.newTrack(m)
	t.counter, t.outage = 1, ReasonRestart
	t.ledger = restoreLedger(m)
	if m.Start == nil && len(m.Gaps) == 0 {
		return
	}
	p := m.last()
	f := files[p]
	if f != nil && f.err != nil {
		*p, f = f.kept, nil
	}
	t.writer.resume(t.ledger.end, p, f)
}

// openFiles opens the files that the stream's tracks go on with. Those that are not any more as the
// manifest has them are not touched: others will follow them.
func (rec *Recording) openFiles(m *ManifestStream) map[*ManifestPart]*resumedFile {
	files := make(map[*ManifestPart]*resumedFile)
	for _, t := range m.Tracks {
		p := t.last()
		if p == nil || !p.Final {
			continue
		}
		h := rec.handle(p)
		is, err := unchanged(h, p)
		if err != nil {
			rec.log.Warn("a file was changed since the recorder stopped, another one follows it", "file", p.File, "err", err)
			_ = h.end() // nothing was written
			continue
		}
		files[p] = &resumedFile{handle: h, is: is, untouched: !is.ModTime().After(rec.left)}
	}
	return files
}

// unchanged opens the file of a part, and tells which it is.
func unchanged(h *handle, p *ManifestPart) (is fs.FileInfo, err error) {
	f, err := h.await(func(bool) {})
	if err != nil {
		return nil, err
	}
	defer h.give()
	if is, err = f.Stat(); err != nil {
		return nil, err
	}
	if is.Size() != p.Size {
		return nil, fmt.Errorf("it has %d bytes, not %d", is.Size(), p.Size)
	}
	return is, nil
}

// resumedFile is a file that goes on behind its last whole frame.
type resumedFile struct {
	handle    *handle
	is        fs.FileInfo
	untouched bool // since the manifest was written
	info      container.Info
	audio     *container.Ogg
	video     container.Video
	sets      container.AVC

	err  error        // it cannot go on,
	kept ManifestPart // and is what it was
}

// resumeFile makes the file of a part ready to go on. When it cannot another will follow it.
func (rec *Recording) resumeFile(r *resumedFile, p ManifestPart) {
	if r.err = r.resume(p); r.err == nil {
		return
	}
	rec.log.Error("could not go on with a file, another one follows it", "file", p.File, "err", r.err)
	if _, err := p.repair(context.Background(), rec.store.root()); err != nil {
		p.Error = errorBelow(rec.store.root(), err)
	}
	r.kept = p
}

// resume does not read pictures again of a file that is as the manifest has it: they may take longer
// than what comes of them meanwhile can wait. Sound is little, and is.
func (r *resumedFile) resume(p ManifestPart) error {
	f, err := r.handle.await(func(bool) {})
	if err != nil {
		return err
	}
	r.handle.unsynced = true
	err = r.read(f, p)
	r.handle.give()
	if err != nil {
		return errors.Join(err, r.handle.end())
	}
	return nil
}

// read is resume's work on the file.
func (r *resumedFile) read(f File, p ManifestPart) (err error) {
	known := container.Info{Frames: p.Frames, LastPTS: p.LastPTS, End: p.Size}
	switch codec := container.Codec(p.Codec); {
	case codec == container.Opus:
		r.audio, r.info, err = container.ResumeOgg(f, 0)
	case codec == container.H264 && r.untouched:
		r.info = known
		r.video, r.sets, err = container.ContinueMatroska(f, known)
	case codec == container.H264:
		var m *container.Matroska
		m, r.sets, r.info, err = container.ResumeMatroska(f)
		r.video = m
	case r.untouched:
		r.info = known
		r.video, err = container.ContinueIVF(f, known)
	default:
		var v *container.IVF
		v, r.info, err = container.ResumeIVF(f)
		r.video = v
	}
	if err == nil && r.info.Frames != p.Frames {
		err = errors.New("it was changed since it was repaired")
	}
	return err
}
