package sink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"recorder/internal/timeline"

	"recorder/internal/container"
)

// RepairReport is what Repair did.
type RepairReport struct {
	OK         bool                `json:"ok"`    // nothing unfinished is left, but what is being recorded now
	Found      int                 `json:"found"` // recordings, whether they had been finished or not
	Recordings []RepairedRecording `json:"recordings"`
	Problems   []string            `json:"problems,omitempty"` // outside of any recording
}

// RepairedRecording is a recording that had not been finished, or not all of whose files had their
// hash.
type RepairedRecording struct {
	Dir      string         `json:"dir"` // below the directory repaired, slash-separated
	Channel  string         `json:"channel,omitempty"`
	State    RecordingState `json:"state,omitempty"`
	Busy     bool           `json:"busy,omitempty"` // a live recorder writes it, so it was left alone
	Ended    *Instant       `json:"ended,omitempty"`
	Parts    []RepairedPart `json:"parts"`                  // those that were not final
	Hashed   int            `json:"hashed_files,omitempty"` // read for their hash
	Problems []string       `json:"problems,omitempty"`

	unhashed bool // final files have no hash yet
}

// RepairedPart is a file that had not been finished.
type RepairedPart struct {
	File     string  `json:"file"` // below the recording
	Frames   int64   `json:"frames"`
	Duration Seconds `json:"duration_seconds"`
	Cut      int64   `json:"cut_bytes"`       // of a frame that was not whole
	Error    string  `json:"error,omitempty"` // why nothing could be kept
}

// Repair finishes the recordings that a crash left unfinished, as the recorder does when it
// starts: torn tails are cut, headers and ends of stream set, hashes, counts, gaps and states
// entered in the manifest. dir is the directory of all recordings, that of a channel or that of one. A file that is
// final is not touched, and only read if it has no hash yet, so a second Repair does nothing.
// progress, which may be nil, is called after each recording that was unfinished. The error is for a
// directory that cannot be opened, or ctx's: another Repair goes on from there.
func Repair(ctx context.Context, dir string, progress func(RepairedRecording)) (RepairReport, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return RepairReport{}, fmt.Errorf("repair recordings: %w", err)
	}
	defer root.Close()
	report := RepairReport{OK: true, Recordings: []RepairedRecording{}}
	for name, err := range located(root) {
		if err != nil {
			report.OK = false
			report.Problems = append(report.Problems, err.Error())
			continue
		}
		report.Found++
		r, unfinished := repairRecording(ctx, root, name)
		if r.unhashed {
			hashed, err := hashRecording(ctx, root, name, newKeyed(), newTurn())
			if err != nil {
				r.Problems = append(r.Problems, err.Error())
			}
			r.Hashed, unfinished = hashed, unfinished || hashed > 0 || err != nil
		}
		if ctx.Err() != nil {
			return report, fmt.Errorf("repair recordings: %w", context.Cause(ctx))
		}
		if !unfinished {
			continue
		}
		report.OK = report.OK && len(r.Problems) == 0
		report.Recordings = append(report.Recordings, r)
		if progress != nil {
			progress(r)
		}
	}
	return report, nil
}

// repairRecording repairs the recording in a directory. It is false when there was nothing to do.
// When ctx ends first the manifest stays as it was.
func repairRecording(ctx context.Context, root *os.Root, name string) (r RepairedRecording, unfinished bool) {
	r.Dir, r.Parts = name, []RepairedPart{} // a list, not null, in JSON
	problem := func(err error) (RepairedRecording, bool) {
		r.Problems = append(r.Problems, err.Error())
		return r, true
	}
	dir, err := root.OpenRoot(name)
	if err != nil {
		return problem(err)
	}
	m, err := readManifest(dir)
	dir.Close()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := removeLeftover(root, name); err != nil {
			return problem(err)
		}
		return r, false
	case err != nil:
		return problem(err)
	}
	if r.of(m); m.State != StateRecording {
		return r, false
	}
	st, m, err := reopenStore(root, name) // the manifest again: its writer may have finished meanwhile
	switch {
	case errors.Is(err, ErrLocked):
		r.Busy = true
		return r, true
	case err != nil:
		return problem(err)
	}
	defer st.Close()
	if r.of(m); m.State != StateRecording {
		return r, false
	}
	parts, err := m.repair(ctx, st.root())
	if err != nil {
		return problem(err)
	}
	r.Parts = append(r.Parts, parts...)
	if err := st.SaveManifest(m); err != nil {
		return problem(err) // of the disk: the next attempt may fare better
	}
	r.of(m)
	return r, true
}

// of says what is known of the recording by its manifest.
func (r *RepairedRecording) of(m *Manifest) {
	r.Channel, r.State, r.Ended, r.unhashed = m.Channel, m.State, m.Ended, len(m.unhashed()) > 0
}

// removeLeftover removes the directory of a recording whose recorder died before it had a manifest.
// It is called as a recording is, and holds nothing but a manifest that is not whole; any other directory
// is somebody else's.
func removeLeftover(root *os.Root, name string) error {
	if !hasOurName(name) {
		return nil
	}
	dir, err := root.OpenRoot(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	held, err := lock(dir)
	if err != nil {
		return nil // it is about to have one
	}
	defer held.Close()
	entries, err := fs.ReadDir(dir.FS(), ".")
	if err != nil || slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return !ours(e) }) {
		return err
	}
	if file, ok := held.(*fileLock); ok { // of the directory
		err = file.Close()
	}
	for _, e := range entries {
		err = errors.Join(err, ignoreMissing(dir.Remove(e.Name())))
	}
	removed := root.Remove(name)
	if errors.Is(removed, syscall.EBUSY) || errors.Is(removed, syscall.ENOTEMPTY) { // a mount, or it begins now
		return err
	}
	return errors.Join(err, removed)
}

// ours reports whether an entry of a recording's directory is neither media nor a manifest but what we make beside.
func ours(e fs.DirEntry) bool {
	return e.Type().IsRegular() && (e.Name() == manifestTemp || strings.HasPrefix(e.Name(), lockName))
}

// repair makes every file of the recording final and the manifest true of them. One that cannot be
// repaired holds up no other: the manifest says why. The error is ctx's.
func (m *Manifest) repair(ctx context.Context, dir *os.Root) (parts []RepairedPart, err error) {
	died := m.position(m.Updated)
	for _, s := range m.Streams {
		for _, t := range s.Tracks {
			unsure := s.Ended == nil
			for _, p := range t.Parts {
				if p.Final || p.Error != "" {
					continue
				}
				r, err := p.repair(ctx, dir)
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
				if err != nil {
					p.nothing("could not be repaired: "+errorBelow(dir, err), p.Size)
					r.Error = p.Error
				}
				parts = append(parts, r)
				t.cutResolutions(p)
				unsure = true
			}
			if !unsure || t.Start == nil {
				continue
			}
			if end := m.position(s.Started) + t.recount(); s.Ended == nil {
				died = max(died, end)
			}
		}
	}
	at := m.instant(died)
	for _, s := range m.Streams {
		if s.Ended == nil {
			m.end(s, at, Interrupted)
		}
	}
	m.finish(StateRecovered, at)
	m.Updated = At(m.Started.UTC, time.Now())
	return parts, nil
}

// finish says that the recording ended, and until when it may be continued. Who was there to the last
// is seen no longer, unless another recording follows.
func (m *Manifest) finish(state RecordingState, at Instant) {
	m.State, m.Ended, m.ContinuableUntil = state, &at, nil
	for _, p := range m.Peers {
		if p.Left == nil && m.Next == "" {
			p.Left = &at
		}
	}
	if m.ReconnectWindow > 0 {
		until := m.instant(m.position(at) + m.ReconnectWindow.Duration())
		m.ContinuableUntil = &until
	}
}

// position is an instant on the recording's clock, which the wall clock of a manifest is as well:
// it was read once, when the recording began.
func (m *Manifest) position(i Instant) time.Duration { return i.UTC.Sub(m.Started.UTC) }

// instant is the inverse of position.
func (m *Manifest) instant(at time.Duration) Instant {
	return Instant{UTC: m.Started.UTC.Add(at), MonotonicMS: at.Milliseconds()}
}

// repair makes the file final, but for its hash. The error is one of the disk; a file that holds nothing
// is none.
func (p *ManifestPart) repair(ctx context.Context, dir *os.Root) (RepairedPart, error) {
	r := RepairedPart{File: p.File}
	opened, err := openRegularAs(dir, p.File, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		p.nothing("the recorder stopped before the file was made", 0)
		r.Error = p.Error
		return r, nil
	}
	if err != nil {
		return r, err
	}
	defer opened.Close()
	f := cancelable{opened, ctx}
	repaired, err := container.Repair(container.Codec(p.Codec), f)
	if errors.Is(err, container.ErrFormat) {
		info, err := f.Stat()
		if err != nil {
			return r, err
		}
		p.nothing("the recorder stopped before the file held any media", info.Size())
		r.Error = p.Error
		return r, nil
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return r, err
	}
	p.holds(&repaired.Info)
	p.Final, p.Recovered = true, true
	r.Frames, r.Duration, r.Cut = p.Frames, p.Duration, repaired.Cut
	return r, nil
}

// cancelable is a file that is not read any more once ctx ends.
type cancelable struct {
	*os.File
	ctx context.Context
}

func (f cancelable) ReadAt(b []byte, at int64) (int, error) {
	if err := f.ctx.Err(); err != nil {
		return 0, err
	}
	return f.File.ReadAt(b, at)
}

// nothing says that the file came to hold no media.
func (p *ManifestPart) nothing(why string, size int64) {
	*p = ManifestPart{File: p.File, Codec: p.Codec, ClockRate: p.ClockRate, Channels: p.Channels, Width: p.Width, Height: p.Height,
		Size: size, Error: why}
}

// holds says what the file holds.
func (p *ManifestPart) holds(info *container.Info) {
	p.Size, p.Frames, p.KeyFrames, p.FirstPTS, p.LastPTS = info.End, info.Frames, info.KeyFrames, info.FirstPTS, info.LastPTS
	p.Duration = Seconds(info.Duration + timeline.ToDuration(int64(info.PreSkip), container.OpusRate))
}

// cutResolutions drops the pictures of a part that did not reach the disk.
func (t *ManifestTrack) cutResolutions(p *ManifestPart) {
	kept := t.Resolutions[:0]
	for _, r := range t.Resolutions {
		if r.File != p.File || p.Frames > 0 && r.PTS <= p.LastPTS {
			kept = append(kept, r)
		}
	}
	t.Resolutions = kept
}

// recount brings the sums of a track up to what its files hold, and returns its end on the
// stream's clock. What was accounted for and is in no file is a gap.
func (t *ManifestTrack) recount() time.Duration {
	l := restoreLedger(t)
	var media time.Duration
	for _, p := range t.Parts {
		media = max(media, p.Duration.Duration())
	}
	if t.Kind == video && l.end-media <= maxInterval*time.Second/container.VideoClockRate {
		media = max(media, l.end) // the last picture lasts that long
	}
	l.lose(ReasonRestart, media, l.end)
	l.end = max(l.end, media)
	l.enter(t)
	return l.end
}
