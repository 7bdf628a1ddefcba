package sink

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"recorder/internal/container"
)

const (
	audioPart = "bob/cam/audio-1.ogg"
	videoPart = "bob/cam/video-1.ivf"
)

// verified is a sound recording of one second on disk, and the means to spoil it.
type verified struct {
	root     string
	dir      *os.Root
	store    *store
	manifest *Manifest
	audio    *ManifestPart
	video    *ManifestPart
}

func soundRecording(t *testing.T) *verified {
	t.Helper()
	root := tempRoot(t)
	m := newManifest("room-42")
	s := tempStore(t, root, m)
	ended := Instant{UTC: m.Started.UTC.Add(time.Second), MonotonicMS: 1000}
	m.State, m.Ended = StateComplete, &ended
	v := &verified{root: root.Name(), dir: s.root(), store: s, manifest: m}

	ogg, err := container.NewOgg(container.OggOptions{Serial: 1, Channels: 1, PreSkip: container.LibopusPreSkip})
	if err != nil {
		t.Fatal(err)
	}
	b := ogg.AppendHeader(nil)
	for range 50 {
		b = ogg.AppendPacket(b, []byte{0xf8, 0xff, 0xfe}, 960)
	}
	v.audio = v.put(t, audioPart, ogg.AppendEOS(b), nil)
	v.audio.Codec, v.audio.ClockRate, v.audio.Channels = "opus", 48000, 1
	v.audio.Duration, v.audio.Frames, v.audio.LastPTS = Seconds(time.Second), 50, 49*960

	ivf, err := container.NewIVF(container.VP8, 640, 360)
	if err != nil {
		t.Fatal(err)
	}
	b = ivf.AppendHeader(nil)
	for i := range int64(30) {
		b = ivf.AppendFrame(b, i*3000, i == 0, []byte{byte(min(i, 1)), 1, 2})
	}
	patch := ivf.Patch()
	v.video = v.put(t, videoPart, b, &patch)
	v.video.Codec, v.video.ClockRate, v.video.Width, v.video.Height = "vp8", 90000, 640, 360
	v.video.Duration, v.video.Frames, v.video.KeyFrames, v.video.LastPTS = Seconds(time.Second), 30, 1, 29*3000

	m.Streams = []*ManifestStream{{ID: "cam", PeerID: "bob", Dir: "bob/cam", Started: m.Started, Ended: &ended, Tracks: []*ManifestTrack{
		{ID: "a", Kind: "audio", Expected: Seconds(time.Second), Recorded: Seconds(time.Second), Completeness: 1, Parts: []*ManifestPart{v.audio}},
		{ID: "v", Kind: "video", Expected: Seconds(time.Second), Recorded: Seconds(time.Second), Completeness: 1, Parts: []*ManifestPart{v.video}},
	}}}
	v.save(t)
	return v
}

// put makes a file and its entry, as far as bytes go.
func (v *verified) put(t *testing.T, name string, b []byte, patch *container.Patch) *ManifestPart {
	t.Helper()
	f, err := v.store.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if patch != nil {
		if err := patch.Apply(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	p := &ManifestPart{File: name, Final: true}
	v.rehash(t, p)
	return p
}

// rehash makes size and hash those of the file, so that only what lies deeper differs.
func (v *verified) rehash(t *testing.T, p *ManifestPart) {
	t.Helper()
	b, err := v.dir.ReadFile(p.File)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	p.Size, p.SHA256 = int64(len(b)), hex.EncodeToString(sum[:])
}

func (v *verified) save(t *testing.T) {
	t.Helper()
	b, err := v.manifest.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := v.store.Save(b); err != nil {
		t.Fatal(err)
	}
}

func (v *verified) edit(t *testing.T, p *ManifestPart, change func(b []byte) []byte) {
	t.Helper()
	b, err := v.dir.ReadFile(p.File)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.dir.WriteFile(p.File, change(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

// problems is everything a report complains of, in order.
func (r RecordingReport) problems() []string {
	all := slices.Clone(r.Problems)
	for _, p := range r.Parts {
		for _, text := range p.Problems {
			all = append(all, p.File+": "+text)
		}
	}
	return all
}

func TestVerifyAcceptsASoundRecording(t *testing.T) {
	v := soundRecording(t)
	var seen []string
	report, err := Verify(t.Context(), v.root, func(r RecordingReport) { seen = append(seen, r.Dir) })
	if err != nil || !report.OK || len(report.Recordings) != 1 {
		t.Fatalf("%+v %v", report, err)
	}
	r := report.Recordings[0]
	if r.Dir != v.store.Dir() || !slices.Equal(seen, []string{r.Dir}) || r.Channel != "room-42" || r.State != StateComplete {
		t.Errorf("%+v, progress %q", r, seen)
	}
	if a := r.Parts[0]; a.File != audioPart || a.Frames != 50 || a.Size != v.audio.Size || a.SHA256 != v.audio.SHA256 {
		t.Errorf("%+v", a)
	}
	if one, err := Verify(t.Context(), filepath.Join(v.root, v.store.Dir()), nil); err != nil || !one.OK || one.Recordings[0].Dir != "." {
		t.Errorf("one recording alone: %+v %v", one, err)
	}
	if b, err := json.Marshal(report); err != nil || !strings.Contains(string(b), `"duration_seconds":0.9935`) {
		t.Errorf("%s %v", b, err)
	}
}

func TestVerifyFinds(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(t *testing.T, v *verified)
		want  []string // problems contain these, in order
	}{
		"a flipped bit": {func(t *testing.T, v *verified) {
			v.edit(t, v.video, func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
		}, []string{"video-1.ivf: sha256 is"}},
		"a cut tail": {func(t *testing.T, v *verified) {
			v.edit(t, v.audio, func(b []byte) []byte { return b[:len(b)-1] })
		}, []string{"torn bytes", "no end of stream", "size is", "sha256 is", "frame count is", "last PTS is", "duration is"}},
		"a torn tail that is hashed": {func(t *testing.T, v *verified) {
			v.edit(t, v.video, func(b []byte) []byte { return append(b, 9) })
			v.rehash(t, v.video)
		}, []string{"1 torn bytes"}},
		"a wrong count in the header": {func(t *testing.T, v *verified) {
			v.edit(t, v.video, func(b []byte) []byte { b[24]++; return b })
			v.rehash(t, v.video)
		}, []string{"header does not match"}},
		"PTS out of order": {func(t *testing.T, v *verified) {
			v.edit(t, v.video, func(b []byte) []byte { b[32+15+4] = 0; b[32+15+5] = 0; return b }) // the second frame's
			v.rehash(t, v.video)
		}, []string{"1 out of order"}},
		"another size of picture": {func(t *testing.T, v *verified) { v.video.Width = 320 }, []string{"width is 640, the manifest says 320"}},
		"other counts": {func(t *testing.T, v *verified) { v.video.Frames, v.video.KeyFrames = 31, 2 },
			[]string{"frame count is 30, the manifest says 31", "key frame count is 1, the manifest says 2"}},
		"a duration too long": {func(t *testing.T, v *verified) { v.audio.Duration = Seconds(1100 * time.Millisecond) },
			[]string{"audio-1.ogg: duration is 993.5ms, the manifest says 1.1s"}},
		"a duration too short": {func(t *testing.T, v *verified) { v.video.Duration = Seconds(900 * time.Millisecond) },
			[]string{"video-1.ivf: duration is"}},
		"garbage": {func(t *testing.T, v *verified) {
			v.edit(t, v.audio, func([]byte) []byte { return []byte("no media") })
		}, []string{"unusable header"}},
		"the wrong codec":    {func(t *testing.T, v *verified) { v.video.Codec = "vp9" }, []string{"codec is vp8, the manifest says vp9"}},
		"an unknown codec":   {func(t *testing.T, v *verified) { v.video.Codec = "gif" }, []string{`unknown codec "gif"`}},
		"a file gone":        {func(t *testing.T, v *verified) { v.remove(t, audioPart) }, []string{"audio-1.ogg: file is missing"}},
		"a file of no entry": {func(t *testing.T, v *verified) { v.manifest.Streams[0].Tracks = nil }, []string{audioPart, videoPart}},
		"a link for a file": {func(t *testing.T, v *verified) {
			v.remove(t, audioPart)
			if err := v.dir.Symlink("/dev/zero", audioPart); err != nil {
				t.Fatal(err)
			}
		}, []string{"not a regular file"}},
		"an open file in a closed recording": {func(t *testing.T, v *verified) { v.audio.Final = false }, []string{"not final"}},
		"no end":                             {func(t *testing.T, v *verified) { v.manifest.Ended = nil }, []string{"no end although complete"}},
		"more than is possible":              {func(t *testing.T, v *verified) { v.manifest.Streams[0].Tracks[0].Recorded++ }, []string{"completeness"}},
	} {
		t.Run(name, func(t *testing.T) {
			v := soundRecording(t)
			test.spoil(t, v)
			v.save(t)
			report, err := Verify(t.Context(), v.root, nil)
			if err != nil || report.OK {
				t.Fatalf("%+v %v", report, err)
			}
			got := report.Recordings[0].problems()
			if len(got) != len(test.want) {
				t.Fatalf("problems %q, want %q", got, test.want)
			}
			for i, want := range test.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("problem %q, want %q", got[i], want)
				}
			}
		})
	}
}

func (v *verified) remove(t *testing.T, name string) {
	t.Helper()
	if err := v.dir.Remove(name); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyLeavesAGrowingRecordingInPeace(t *testing.T) {
	v := soundRecording(t)
	v.manifest.State, v.manifest.Ended = StateRecording, nil
	for _, p := range []*ManifestPart{v.audio, v.video} {
		p.Final, p.Size, p.SHA256, p.Frames = false, 0, "", 3
		v.edit(t, p, func(b []byte) []byte { return b[:len(b)-2] })
	}
	v.manifest.Streams[0].Tracks[0].Parts = append(v.manifest.Streams[0].Tracks[0].Parts,
		&ManifestPart{File: "bob/cam/audio-2.ogg", Codec: "opus", ClockRate: 48000}) // not yet made
	v.save(t)
	report, err := Verify(t.Context(), v.root, nil)
	if err != nil || !report.OK {
		t.Errorf("%q %v", report.Recordings[0].problems(), err)
	}
}

func TestVerifyReportsWhatHasNoManifest(t *testing.T) {
	v := soundRecording(t)
	v.remove(t, ManifestName)
	report, err := Verify(t.Context(), v.root, nil)
	if err != nil || report.OK || !slices.Equal(report.Recordings[0].problems(), []string{"no manifest"}) {
		t.Errorf("%+v %v", report, err)
	}
	if err := v.dir.WriteFile(ManifestName, []byte(`{"version":1,"x":2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	report, err = Verify(t.Context(), v.root, nil)
	if err != nil || report.OK || !strings.Contains(report.Recordings[0].problems()[0], "invalid manifest") {
		t.Errorf("%+v %v", report, err)
	}
	if _, err := Verify(t.Context(), filepath.Join(v.root, "none"), nil); err == nil {
		t.Error("a directory that does not exist was verified")
	}
}

// Who asks whether a recording is being written is in nobody's way.
func TestLockOutlastsWhoOnlyAsks(t *testing.T) {
	dir, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	asking, err := dir.Open(".")
	if err != nil {
		t.Fatal(err)
	}
	if err := flock(asking, syscall.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(lockPause/2, func() { asking.Close() })
	held, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if abandoned(dir) {
		t.Error("what is locked is abandoned")
	}
	held.Close()
	if !abandoned(dir) {
		t.Error("what was let go is not abandoned")
	}
}
