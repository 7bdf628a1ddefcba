package sink

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrManifest is wrapped by every error for a manifest that is not one of ours.
var ErrManifest = errors.New("invalid manifest")

// maxManifest bounds what DecodeManifest reads: a day of a busy call stays far below it.
const maxManifest = 64 << 20

// instantLayout always shows nine digits, so that manifests line up and compare as text.
const instantLayout = "2006-01-02T15:04:05.000000000Z"

type instantJSON struct {
	UTC         string `json:"utc"`
	MonotonicMS int64  `json:"monotonic_ms"`
}

// At is the Instant of now in a recording that started at start. Both should carry Go's monotonic
// reading, as time.Now's results do.
func At(start, now time.Time) Instant {
	return Instant{UTC: now.UTC().Round(0), MonotonicMS: now.Sub(start).Milliseconds()}
}

// MarshalJSON implements json.Marshaler.
func (i Instant) MarshalJSON() ([]byte, error) {
	return json.Marshal(instantJSON{i.UTC.UTC().Format(instantLayout), i.MonotonicMS})
}

// UnmarshalJSON implements json.Unmarshaler.
func (i *Instant) UnmarshalJSON(b []byte) error {
	var v instantJSON
	if err := unmarshalStrict(bytes.NewReader(b), &v); err != nil {
		return err
	}
	t, err := time.Parse(instantLayout, v.UTC)
	if err != nil {
		return err
	}
	*i = Instant{UTC: t, MonotonicMS: v.MonotonicMS}
	return nil
}

// Duration is s as a time.Duration.
func (s Seconds) Duration() time.Duration { return time.Duration(s) }

// MarshalJSON implements json.Marshaler.
func (s Seconds) MarshalJSON() ([]byte, error) {
	sign, n := "", uint64(s)
	if s < 0 {
		sign, n = "-", -n
	}
	text := fmt.Sprintf("%s%d.%09d", sign, n/1e9, n%1e9)
	return []byte(strings.TrimSuffix(strings.TrimRight(text, "0"), ".")), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *Seconds) UnmarshalJSON(b []byte) error {
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil || math.Abs(f) >= math.MaxInt64/1e9 {
		return fmt.Errorf("%.40q is not a number of seconds", b)
	}
	*s = Seconds(math.Round(f * 1e9))
	return nil
}

// indentLimit is up to what size a manifest is laid out for people to read.
const indentLimit = 1 << 20

// Encode writes m as JSON with a final newline, indented unless it is large. What DecodeManifest
// would not read back is an error that wraps ErrManifest.
func (m *Manifest) Encode() ([]byte, error) {
	if err := m.validate(); err != nil {
		return nil, fmt.Errorf("encode manifest: %w: %w", ErrManifest, err)
	}
	m.list()
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	if len(b) <= indentLimit {
		var indented bytes.Buffer
		if err := json.Indent(&indented, b, "", "  "); err != nil {
			return nil, fmt.Errorf("encode manifest: %w", err)
		}
		b = indented.Bytes()
	}
	b = append(b, '\n')
	if len(b) >= maxManifest {
		return nil, fmt.Errorf("encode manifest: %w: %d bytes", ErrManifest, len(b))
	}
	return b, nil
}

// list makes lists of the absent ones that are always written.
func (m *Manifest) list() {
	if m.Peers == nil {
		m.Peers = []*ManifestPeer{}
	}
	if m.Streams == nil {
		m.Streams = []*ManifestStream{}
	}
	for _, s := range m.Streams {
		if s.Tracks == nil {
			s.Tracks = []*ManifestTrack{}
		}
		for _, t := range s.Tracks {
			if t.Parts == nil {
				t.Parts = []*ManifestPart{}
			}
		}
	}
}

// DecodeManifest reads one manifest and nothing else: unknown fields, another version, trailing
// data, values outside their sets and file names that leave the recording's directory are errors
// that wrap ErrManifest.
func DecodeManifest(r io.Reader) (*Manifest, error) {
	limited := &io.LimitedReader{R: r, N: maxManifest}
	b, err := io.ReadAll(limited)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if limited.N == 0 {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrManifest, maxManifest)
	}
	// The version decides whether the rest can be understood, so it is looked at first.
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	if head.Version != ManifestVersion {
		return nil, fmt.Errorf("%w: version %d, want %d", ErrManifest, head.Version, ManifestVersion)
	}
	m := new(Manifest)
	if err := unmarshalStrict(bytes.NewReader(b), m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	if err := m.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return m, nil
}

func unmarshalStrict(r io.Reader, v any) error {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("data after the end")
	}
	return nil
}

func (m *Manifest) validate() error {
	states := []RecordingState{StateRecording, StateComplete, StateRecovered}
	if !slices.Contains(states, m.State) {
		return fmt.Errorf("state %q", m.State)
	}
	for _, name := range []string{m.Previous, m.Next} {
		if name != "" && (!localPath(name) || strings.Contains(name, "/")) {
			return fmt.Errorf("directory %q is not beside this one", name)
		}
	}
	if slices.Contains(m.Peers, nil) || slices.Contains(m.Streams, nil) {
		return errors.New("null in a list")
	}
	files := make(map[string]bool)
	for _, s := range m.Streams {
		if !localPath(s.Dir) {
			return fmt.Errorf("stream directory %q leaves the recording", s.Dir)
		}
		if slices.Contains(s.Tracks, nil) || slices.Contains(s.Reconnects, nil) {
			return errors.New("null in a list")
		}
		for _, t := range s.Tracks {
			if err := t.validate(files); err != nil {
				return fmt.Errorf("track %q: %w", t.ID, err)
			}
		}
	}
	return nil
}

func (t *ManifestTrack) validate(files map[string]bool) error {
	if t.Kind != "audio" && t.Kind != "video" {
		return fmt.Errorf("kind %q", t.Kind)
	}
	if slices.Contains(t.Parts, nil) || slices.Contains(t.Gaps, nil) || slices.Contains(t.Resolutions, nil) {
		return errors.New("null in a list")
	}
	for _, p := range t.Parts {
		switch {
		case !localPath(p.File):
			return fmt.Errorf("file %q leaves the recording", p.File)
		case files[p.File]:
			return fmt.Errorf("file %q is listed twice", p.File)
		case p.ClockRate == 0:
			return fmt.Errorf("file %q: clock_rate 0", p.File)
		}
		files[p.File] = true
	}
	for r := range t.Missing {
		if !slices.Contains(Reasons, r) {
			return fmt.Errorf("missing for reason %q", r)
		}
	}
	for _, g := range t.Gaps {
		if !slices.Contains(Reasons, g.Reason) {
			return fmt.Errorf("gap reason %q", g.Reason)
		}
	}
	return nil
}

// localPath reports whether a slash-separated name stays below the directory it is relative to.
func localPath(name string) bool {
	return name != "." && !strings.Contains(name, `\`) && filepath.IsLocal(filepath.FromSlash(name))
}
