package sink

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"

	"recorder/internal/container"
)

// Report is what Verify found.
type Report struct {
	OK         bool              `json:"ok"` // no recording has a problem
	Recordings []RecordingReport `json:"recordings"`
	Problems   []string          `json:"problems,omitempty"` // outside of any recording
}

// RecordingReport is what Verify found in one recording.
type RecordingReport struct {
	Dir     string         `json:"dir"` // below the directory verified, slash-separated
	Channel string         `json:"channel,omitempty"`
	State   RecordingState `json:"state,omitempty"`
	OK      bool           `json:"ok"` // no problem here or in any part
	// Completeness is recorded / expected seconds of all tracks, as the manifest says; 1 without tracks.
	Completeness float64      `json:"completeness"`
	Parts        []PartReport `json:"parts"`
	Problems     []string     `json:"problems,omitempty"`
}

// PartReport is what Verify found in one file, by reading it.
type PartReport struct {
	File      string   `json:"file"` // below the recording
	Codec     string   `json:"codec"`
	Final     bool     `json:"final"`               // by the manifest; of others only the order is checked
	Unhashed  bool     `json:"unhashed,omitempty"`  // final, and its hash is still to be entered
	Unwritten bool     `json:"unwritten,omitempty"` // there is no file, or nothing in it, and the manifest claims no more
	Size      int64    `json:"size"`
	Frames    int64    `json:"frames"`
	KeyFrames int64    `json:"key_frames,omitempty"`
	Duration  Seconds  `json:"duration_seconds"`
	SHA256    string   `json:"sha256,omitempty"`
	Error     string   `json:"error,omitempty"` // why the manifest says that the file ended early, or is lost
	Problems  []string `json:"problems,omitempty"`
}

// Verify checks recordings against their manifests: hashes, sizes, counts, PTS order, durations
// and headers of every file, files without an entry and entries without a file. dir is the
// directory of all recordings, that of a channel or that of one. progress, which may be nil, is called
// after each recording. What it finds is in the Report; the error is for a directory that cannot be read,
// or ctx's, which ends it in the middle of a file: the Report holds the recordings before it then.
//
// A recording in StateRecording may be growing: its open files may end in the middle of a frame
// and their counts may lag. One that nobody writes is a problem. A final file may not have its hash
// yet. Verify changes nothing.
func Verify(ctx context.Context, dir string, progress func(RecordingReport)) (Report, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Report{}, fmt.Errorf("verify recordings: %w", err)
	}
	defer root.Close()
	report := Report{OK: true, Recordings: []RecordingReport{}}
	add := func(r RecordingReport) {
		report.OK = report.OK && r.OK
		report.Recordings = append(report.Recordings, r)
		if progress != nil {
			progress(r)
		}
	}
	for name, err := range located(root) {
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			report.OK = false
			report.Problems = append(report.Problems, err.Error())
			continue
		}
		recording, err := root.OpenRoot(name)
		if errors.Is(err, fs.ErrNotExist) { // it was removed since
			continue
		}
		if err != nil {
			add(RecordingReport{Dir: name, Parts: []PartReport{}, Problems: []string{err.Error()}})
			continue
		}
		verified := verifyRecording(ctx, recording, name)
		recording.Close()
		_, err = root.Lstat(name)
		if ctx.Err() == nil && !errors.Is(err, fs.ErrNotExist) { // or it was removed meanwhile
			add(verified)
		}
	}
	if ctx.Err() != nil {
		report.OK = false
		return report, fmt.Errorf("verify recordings: %w", context.Cause(ctx))
	}
	return report, nil
}

func verifyRecording(ctx context.Context, dir *os.Root, name string) RecordingReport {
	r := RecordingReport{Dir: name, Parts: []PartReport{}} // a list, not null, in JSON
	problem := func(format string, args ...any) {
		r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
	}
	m, err := readManifest(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		problem("no manifest")
		return r
	case err != nil:
		problem("%v", err)
		return r
	}
	abandoned := m.State == StateRecording && abandoned(dir)
	if abandoned { // since it was read, perhaps
		if m, err = readManifest(dir); err != nil {
			problem("%v", err)
			return r
		}
	}
	defer lockToRead(dir, m).Close()
	r.Channel, r.State = m.Channel, m.State
	ended := m.State != StateRecording
	switch {
	case ended && m.Ended == nil:
		problem("no end although %s", m.State)
	case !ended && abandoned:
		problem("cut short: nobody writes it, and it was not repaired")
	}
	sound := true
	var expected, recorded Seconds
	for _, s := range m.Streams {
		for _, t := range s.Tracks {
			expected, recorded = expected+t.Expected, recorded+t.Recorded
			if t.Recorded > t.Expected || t.Completeness < 0 || t.Completeness > 1 {
				problem("track %q: completeness %v of %v s recorded, %v s expected", t.ID, t.Completeness,
					t.Recorded.Duration().Seconds(), t.Expected.Duration().Seconds())
			}
			for _, p := range t.Parts {
				if ctx.Err() != nil {
					return r
				}
				part := verifyPart(ctx, dir, p)
				if ended && !p.Final && p.Error == "" {
					part.Problems = append(part.Problems, "not final although the recording is "+string(m.State))
				}
				sound = sound && len(part.Problems) == 0
				r.Parts = append(r.Parts, part)
			}
		}
	}
	r.Completeness = Completeness(recorded, expected)
	stray, err := strays(ctx, dir)
	if err != nil {
		problem("%v", err)
	}
	for _, file := range stray {
		problem("file %q is not in the manifest", file)
	}
	r.OK = sound && len(r.Problems) == 0
	return r
}

// strays is the files of a recording that its manifest does not know. The manifest names a file
// before it exists, so it is read after the files, which may be growing in number.
func strays(ctx context.Context, dir *os.Root) (files []string, err error) {
	err = fs.WalkDir(dir.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil && !d.IsDir() && name != ManifestName && path.Base(name) != probeName && (path.Dir(name) != "." || !ours(d)) {
			files = append(files, name)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	m, err := readManifest(dir)
	if err != nil {
		return nil, err
	}
	for _, s := range m.Streams {
		for _, t := range s.Tracks {
			for _, p := range t.Parts {
				files = slices.DeleteFunc(files, func(f string) bool { return f == p.File })
			}
		}
	}
	return files, nil
}

func verifyPart(ctx context.Context, dir *os.Root, p *ManifestPart) PartReport {
	r := PartReport{File: p.File, Codec: p.Codec, Final: p.Final, Error: p.Error, Unhashed: p.Final && p.SHA256 == ""}
	f, err := openRegular(dir, p.File)
	if errors.Is(err, fs.ErrNotExist) {
		// The manifest names a file before it exists, and says if it never came to.
		if p.Final || p.Size > 0 {
			r.Problems = []string{"file is missing"}
		}
		r.Unwritten = len(r.Problems) == 0
		return r
	}
	if err != nil {
		r.Problems = []string{err.Error()}
		return r
	}
	defer f.Close()
	info, size, hash, err := scanPart(p, contextReader{ctx, f})
	r.Size, r.Frames, r.KeyFrames, r.Duration, r.SHA256 = size, info.Frames, info.KeyFrames, Seconds(info.Duration), hash
	switch {
	case err != nil && (p.Final || !errors.Is(err, container.ErrFormat)):
		r.Problems = []string{err.Error()}
	case err != nil: // opened, and its header not yet flushed
		r.Unwritten = size == 0 && p.Size == 0
	case p.Final:
		r.Problems = append(info.Faults(), differences(p, info, size, hash)...)
	case info.OutOfOrder > 0:
		r.Problems = []string{fmt.Sprintf("%d out of order", info.OutOfOrder)}
	}
	return r
}

// scanPart reads the file of a part once, for its layout and its hash.
func scanPart(p *ManifestPart, f io.Reader) (info container.Info, size int64, hash string, err error) {
	sum := sha256.New()
	counted := &countingReader{r: io.TeeReader(f, sum)}
	info, err = container.Scan(container.Codec(p.Codec), counted)
	if err == nil || errors.Is(err, container.ErrFormat) {
		// A scan that gave up has not read to the end, which the hash needs.
		if _, drained := io.Copy(io.Discard, counted); drained != nil {
			err = errors.Join(err, drained)
		}
	}
	return info, counted.n, hex.EncodeToString(sum.Sum(nil)), err
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

// lastFrame is how much longer than up to its last frame's PTS a video may claim to be.
const lastFrame = Seconds(2 * time.Second)

// differences is what a manifest says of a final part that the file does not bear out.
func differences(p *ManifestPart, info container.Info, size int64, hash string) (problems []string) {
	differs := func(what string, says, is any) {
		if says != is {
			problems = append(problems, fmt.Sprintf("%s is %v, the manifest says %v", what, is, says))
		}
	}
	differs("size", p.Size, size)
	if p.SHA256 != "" {
		differs("sha256", p.SHA256, hash)
	}
	differs("codec", p.Codec, string(info.Codec))
	differs("clock rate", p.ClockRate, info.ClockRate)
	differs("frame count", p.Frames, info.Frames)
	differs("key frame count", p.KeyFrames, info.KeyFrames)
	differs("first PTS", p.FirstPTS, info.FirstPTS)
	differs("last PTS", p.LastPTS, info.LastPTS)
	differs("channel count", p.Channels, info.Channels)
	differs("width", p.Width, info.Width)
	differs("height", p.Height, info.Height)
	length, slack := Seconds(info.Duration), lastFrame
	if info.Codec == container.Opus {
		// with or without the pre-skip
		slack = Seconds(time.Duration(info.PreSkip) * time.Second / container.OpusRate)
	}
	if over := p.Duration - length; over < -Seconds(time.Millisecond) || over > slack+Seconds(time.Millisecond) {
		differs("duration", p.Duration.Duration(), length.Duration())
	}
	return problems
}
