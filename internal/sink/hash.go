package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"
)

// The hash of a file that is only appended to is made on the way. Other files have headers that
// change until the end, so theirs takes reading the file again, as long as it may have grown. Nobody
// waits for that: a file is final without its hash, which is entered once it is known. What there is
// no time for before the process ends is made up for by the next one, or by Repair.

// hashSoon has a final file hashed in the background. mu is held.
func (rec *Recording) hashSoon(p *ManifestPart) {
	rec.unhashed = append(rec.unhashed, p)
	if len(rec.unhashed) == 1 {
		rec.hashers.Go(rec.hash)
	}
}

// hashAll has those files of a stream hashed that lack it. mu is held.
func (rec *Recording) hashAll(s *ManifestStream) {
	for _, p := range s.unhashed() {
		rec.hashSoon(p)
	}
}

// hash enters the hashes of the files that wait for one, until there are none left or the root is
// closed. Of all recordings one file is read at a time: those who record come first.
func (rec *Recording) hash() {
	ctx := rec.root.life
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for len(rec.unhashed) > 0 && ctx.Err() == nil {
		p := rec.unhashed[0]
		says := *p
		rec.mu.Unlock()
		sum, err := says.hash(ctx, rec.open, rec.root.hashing)
		rec.mu.Lock()
		rec.unhashed = rec.unhashed[1:]
		if err == nil && p.Final { // and was not deleted meanwhile
			p.SHA256 = sum
			rec.changed()
		} else if err != nil && p.Final && ctx.Err() == nil {
			rec.complain("could not hash media file", "file", says.File, "err", err)
		}
	}
}

// turn is had by one at a time.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) give() { <-t }

// hashLeft enters the hashes that earlier processes had no time for in the recordings of these names.
// One that may be continued is not read before that is out of question: it would be in vain.
func (r *Root) hashLeft(names []string) {
	var later []interrupted
	for _, name := range names {
		if c, ok := r.consider(name); ok {
			later = append(later, c)
		} else {
			r.hashLeftIn(name)
		}
	}
	for _, c := range later {
		select {
		case <-time.After(time.Until(c.until)):
			r.hashLeftIn(c.dir)
		case <-r.life.Done():
			return
		}
	}
}

// hashLeftIn does the work of hashLeft for one recording.
func (r *Root) hashLeftIn(name string) {
	switch n, err := hashRecording(r.life, r.dir(), name, r.channels, r.hashing); {
	case r.life.Err() != nil:
	case err != nil:
		r.options.Logger.Error("could not hash all media files", "dir", name, "err", err)
	case n > 0:
		r.options.Logger.Info("media files hashed", "dir", name, "files", n)
	}
}

// hashBatch is how many bytes are read before the hashes found are entered.
const hashBatch = 1 << 30

// hashRecording enters the hashes that a finished recording lacks, until ctx ends, and returns how
// many. Nobody else works in its channel while the recording is locked. The error is of files that are not as the
// manifest says.
func hashRecording(ctx context.Context, root *os.Root, name string, channels *keyed, hashing turn) (n int, err error) {
	dir, err := root.OpenRoot(name)
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	m, err := readManifest(dir)
	if err != nil {
		return 0, err
	}
	var errs []error
	var read int64
	sums := make(map[ManifestPart]string)
	parts := m.unhashed()
	for i, p := range parts {
		sum, err := p.hash(ctx, openIn(dir), hashing)
		if ctx.Err() != nil {
			return n, ctx.Err()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("file %q: %w", p.File, err))
		} else {
			sums[*p] = sum
		}
		if read += p.Size; read < hashBatch && i < len(parts)-1 {
			continue
		}
		entered, err := enterHashes(root, name, channels, sums)
		if errors.Is(err, ErrLocked) {
			return n, nil // it goes on, or its recorder is about to do the same
		}
		if n += entered; err != nil {
			return n, err
		}
		clear(sums)
		read = 0
	}
	return n, errors.Join(errs...)
}

// opener opens a media file for reading.
type opener func(name string) (io.ReadCloser, error)

func openIn(dir *os.Root) opener {
	return func(name string) (io.ReadCloser, error) { return openRegular(dir, name) }
}

// opener is openIn for a recording, wherever it lies by then, of a process that may have all its descriptors in use.
func (r *Root) opener(s *store) opener {
	return func(name string) (f io.ReadCloser, err error) {
		err = r.descriptors.need(func() error {
			f, err = openRegular(s.root(), name)
			return err
		})
		return f, err
	}
}

// hash reads a final file for its hash, when its turn comes.
func (p *ManifestPart) hash(ctx context.Context, open opener, hashing turn) (string, error) {
	if err := hashing.take(ctx); err != nil {
		return "", err
	}
	defer hashing.give()
	f, err := open(p.File)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return p.sum(ctx, f)
}

// enterHashes enters hashes in the manifest of a finished recording, as far as it is unchanged.
func enterHashes(root *os.Root, name string, channels *keyed, sums map[ManifestPart]string) (n int, err error) {
	defer channels.enter(path.Dir(name))()
	st, m, err := reopenStore(root, name)
	if err != nil {
		return 0, err
	}
	for _, p := range m.unhashed() {
		if sum, ok := sums[*p]; ok {
			p.SHA256 = sum
			n++
		}
	}
	if n > 0 {
		err = st.SaveManifest(m)
	}
	return n, errors.Join(err, st.Close())
}

// unhashed is the final files that have no hash yet. While files are open there are none to be had.
func (m *Manifest) unhashed() (parts []*ManifestPart) {
	if m.State == StateRecording {
		return nil
	}
	for _, s := range m.Streams {
		parts = append(parts, s.unhashed()...)
	}
	return parts
}

// unhashed is those of the stream.
func (s *ManifestStream) unhashed() (parts []*ManifestPart) {
	for _, t := range s.Tracks {
		for _, p := range t.Parts {
			if p.Final && p.SHA256 == "" {
				parts = append(parts, p)
			}
		}
	}
	return parts
}

// sum reads a final file for its hash. A file that is not as p says has none.
func (p *ManifestPart) sum(ctx context.Context, f io.Reader) (string, error) {
	info, size, sum, err := scanPart(p, contextReader{ctx, f})
	if err != nil {
		return "", fmt.Errorf("read back: %w", err)
	}
	if problems := append(info.Faults(), differences(p, info, size, sum)...); len(problems) > 0 {
		return "", fmt.Errorf("read back: %s", strings.Join(problems, ", "))
	}
	return sum, nil
}

// contextReader is a reader that ends with a context.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(b)
}
