package sink

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "rewrite golden files")

// fullManifest has a value in every field.
func fullManifest() *Manifest {
	start := time.Date(2026, 3, 29, 1, 59, 59, 120_000_000, time.FixedZone("CET", 3600))
	at := func(d time.Duration) Instant { return At(start, start.Add(d)) }
	ptr := func(i Instant) *Instant { return &i }
	return &Manifest{
		Version: ManifestVersion, ID: "k3vq7a2c", Channel: "../../etc/Räume", Bot: "recorder", State: StateRecovered,
		Started: at(0), Updated: at(61 * time.Second), Ended: ptr(at(61*time.Second + 1)),
		ReconnectWindow: Seconds(90 * time.Second), ContinuableUntil: ptr(at(151*time.Second + 1)),
		Peers: []*ManifestPeer{
			{ID: "Anna", Metadata: json.RawMessage(`{"name":"Anna"}`), Joined: at(time.Second), Left: ptr(at(time.Minute))},
			{ID: "bob", Joined: at(2 * time.Second)},
		},
		Streams: []*ManifestStream{{
			ID: "{camera}", PeerID: "Anna", Dir: "anna-aaaaaaaaaaaaa/camera-bbbbbbbbbbbbb", Previous: "anna-aaaaaaaaaaaaa/camera", Metadata: json.RawMessage(`["camera"]`),
			Started: at(1500 * time.Millisecond), Ended: ptr(at(time.Minute)), EndReason: "peer left",
			Reconnects: []*ManifestReconnect{{Reason: ReasonReconnect, Lost: at(20 * time.Second), Resumed: ptr(at(25 * time.Second)), PeerID: "Anna-2"}},
			Waited:     &ManifestWait{Reason: ReasonCapacity, From: at(time.Second), Until: ptr(at(1500 * time.Millisecond))},
			Tracks: []*ManifestTrack{
				{
					ID: "a0", Kind: "audio", Metadata: json.RawMessage(`{"source":"microphone"}`),
					Start: &TrackStart{At: at(1500 * time.Millisecond), Error: Seconds(40 * time.Millisecond), Source: StartFromSenderReport, Drift: -12.5},
					Parts: []*ManifestPart{{
						File: "anna-aaaaaaaaaaaaa/camera-bbbbbbbbbbbbb/audio-1.ogg", Codec: "opus", ClockRate: 48000, Channels: 2, Size: 123456,
						Duration: Seconds(58 * time.Second), Frames: 2900, LastPTS: 2783040, Final: true, SHA256: strings.Repeat("0123456789abcdef", 4), Recovered: true,
					}},
					Gaps: []*ManifestGap{
						{Reason: ReasonLoss, Start: Seconds(3*time.Second + 1), Duration: Seconds(20 * time.Millisecond), Packets: 1, Fill: FillFEC},
						{Reason: ReasonReconnect, Start: Seconds(18500 * time.Millisecond), Duration: Seconds(5 * time.Second), Fill: FillSilence},
						{Reason: ReasonMute, Start: Seconds(30 * time.Second), Duration: Seconds(400 * time.Millisecond), Fill: FillConcealment},
					},
					Expected: Seconds(58 * time.Second), Recorded: Seconds(52580 * time.Millisecond), Completeness: Completeness(52580, 58000),
					Waited: Seconds(500 * time.Millisecond), End: Seconds(58400 * time.Millisecond),
					Missing: map[Reason]Seconds{ReasonLoss: Seconds(20 * time.Millisecond), ReasonReconnect: Seconds(5 * time.Second), ReasonMute: Seconds(400 * time.Millisecond)},
					Ledger:  Ledger{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17},
				},
				{
					ID: "v0", Kind: "video",
					Start: &TrackStart{At: at(1800 * time.Millisecond), Position: Seconds(300 * time.Millisecond), Error: Seconds(80 * time.Millisecond), Source: StartFromArrival},
					Parts: []*ManifestPart{{
						File: "anna-aaaaaaaaaaaaa/camera-bbbbbbbbbbbbb/video-1.ivf", Codec: "vp8", ClockRate: 90000, Width: 640, Height: 360, Size: 7 << 32,
						Duration: Seconds(57 * time.Second), Frames: 1700, KeyFrames: 3, LastPTS: 5_130_000, HeldFirst: true, Error: "no space left on device",
					}},
					Gaps:        []*ManifestGap{{Reason: ReasonKeyFrameWait, Start: Seconds(40 * time.Second), Duration: Seconds(time.Second)}},
					Resolutions: []*ManifestResolution{{"anna-aaaaaaaaaaaaa/camera-bbbbbbbbbbbbb/video-1.ivf", 27000, 640, 360}, {"anna-aaaaaaaaaaaaa/camera-bbbbbbbbbbbbb/video-1.ivf", 900000, 320, 180}},
					Expected:    Seconds(57 * time.Second), Recorded: Seconds(56 * time.Second), Completeness: Completeness(56, 57), GapsOmitted: 3,
				},
				{ID: "never decodable", Kind: "video", Completeness: 1},
			},
		}},
	}
}

func goldenManifests() map[string]*Manifest {
	start := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	return map[string]*Manifest{
		"full":  fullManifest(),
		"empty": {Version: ManifestVersion, ID: "abcdefgh", Channel: "room-42", Bot: "recorder", State: StateRecording, Started: At(start, start), Updated: At(start, start)},
	}
}

func compiledSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(ManifestSchema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("recording.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("recording.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// fitsSchema holds a manifest on the disk against the schema.
func fitsSchema(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if err := compiledSchema(t).Validate(doc); err != nil {
		t.Errorf("%s: %v", path, err)
	}
}

// What is being encoded is the manifest of one moment, whatever happens to the recording meanwhile.
func TestACopyOfAManifestStaysAsItIs(t *testing.T) {
	m := fullManifest()
	m.Streams[0].Tracks[0].Start.Drift = 1
	c := m.copy()
	want, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	later := At(m.Started.UTC, m.Started.UTC.Add(time.Hour))
	m.State, m.Updated, m.Ended = StateComplete, later, &later
	m.Peers[0].Left, m.Peers[1].Metadata = nil, json.RawMessage(`{}`)
	s := m.Streams[0]
	s.Ended, s.EndReason, s.Reconnects[0].Resumed = &later, "another", &later
	for _, track := range s.Tracks[:2] {
		track.Start.Drift, track.Start.Source = 2, "another"
		track.Parts[0].Size, track.Parts[0].Final, track.Parts[0].SHA256 = 1, false, ""
		track.Gaps[0].Duration, track.Gaps[0].Fill = 1, FillSilence
		track.Expected, track.Ledger = 1, Ledger{}
		track.Gaps = append(track.Gaps[:0], track.Gaps[len(track.Gaps)-1])
		track.Parts = append(track.Parts, track.Parts[0])
	}
	for i := range s.Tracks[1].Resolutions {
		s.Tracks[1].Resolutions[i] = &ManifestResolution{}
	}
	s.Tracks = append(s.Tracks[:0], s.Tracks[1:]...)
	m.Peers, m.Streams = m.Peers[:1], nil
	if got, err := c.Encode(); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the copy changed: %v\n%s", err, got)
	}
}

// Nothing is stored that could not be read back, and what is large takes no spaces.
func TestManifestsThatCannotBeReadAreNotWritten(t *testing.T) {
	m := fullManifest()
	track := m.Streams[0].Tracks[0]
	track.Gaps = slices.Repeat(track.Gaps[:1], 20_000)
	b, err := m.Encode()
	if err != nil || bytes.Contains(b, []byte("\n  ")) {
		t.Errorf("a large manifest is indented, or %v", err)
	}
	if _, err := DecodeManifest(bytes.NewReader(b)); err != nil {
		t.Errorf("a large manifest is not read back: %v", err)
	}
	m.Peers[0].Metadata = json.RawMessage(`{"x":"` + strings.Repeat("x", maxManifest) + `"}`)
	if _, err := m.Encode(); !errors.Is(err, ErrManifest) || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("a manifest that is too large: %v", err)
	}
	m = fullManifest()
	m.Streams[0].Dir = "../elsewhere"
	if _, err := m.Encode(); !errors.Is(err, ErrManifest) {
		t.Errorf("a manifest whose files are elsewhere: %v", err)
	}
}

func TestManifestsAreTheGoldenOnesAndFitTheSchema(t *testing.T) {
	schema := compiledSchema(t)
	for name, m := range goldenManifests() {
		path := filepath.Join("testdata", name+".golden.json")
		got, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what is encoded now (-update rewrites it):\n%s", path, got)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(want))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(doc); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		back, err := DecodeManifest(bytes.NewReader(want))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if again, err := back.Encode(); err != nil || !bytes.Equal(again, want) {
			t.Errorf("%s changes when it is read and written: %v\n%s", path, err, again)
		}
	}
}

// The schema and the types name the same fields and agree on which may be absent.
func TestSchemaListsTheFieldsOfTheTypes(t *testing.T) {
	var doc struct {
		Defs map[string]struct {
			Required   []string                   `json:"required"`
			Properties map[string]json.RawMessage `json:"properties"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal(ManifestSchema, &doc); err != nil {
		t.Fatal(err)
	}
	for def, v := range map[string]any{
		"manifest": Manifest{}, "peer": ManifestPeer{}, "stream": ManifestStream{}, "reconnect": ManifestReconnect{}, "wait": ManifestWait{}, "track": ManifestTrack{},
		"start": TrackStart{}, "part": ManifestPart{}, "gap": ManifestGap{}, "resolution": ManifestResolution{}, "ledger": Ledger{}, "instant": instantJSON{},
	} {
		var all, required, listed []string
		for f := range reflect.TypeOf(v).Fields() {
			name, option, _ := strings.Cut(f.Tag.Get("json"), ",")
			all = append(all, name)
			if option != "omitempty" {
				required = append(required, name)
			}
		}
		for name := range doc.Defs[def].Properties {
			listed = append(listed, name)
		}
		slices.Sort(all)
		slices.Sort(listed)
		slices.Sort(required)
		slices.Sort(doc.Defs[def].Required)
		if !slices.Equal(all, listed) {
			t.Errorf("%s: schema lists %q, the type %q", def, listed, all)
		}
		if !slices.Equal(required, doc.Defs[def].Required) {
			t.Errorf("%s: schema requires %q, the type %q", def, doc.Defs[def].Required, required)
		}
	}
}

// Who reads a manifest need not ask whether the lists that lead to the files are there. In those of former
// releases they are not where they are empty, and such a manifest is read all the same.
func TestTheListsThatLeadToFilesAreAlwaysWritten(t *testing.T) {
	m := newManifest("room")
	m.Streams = []*ManifestStream{{ID: "cam", PeerID: "bob", Dir: "bob/cam", Tracks: []*ManifestTrack{{ID: "a", Kind: audio}}}, {ID: "mic", PeerID: "bob", Dir: "bob/mic"}}
	for _, test := range []struct {
		m     *Manifest
		lists []string
	}{
		{newManifest("room"), []string{`"peers": []`, `"streams": []`}},
		{m, []string{`"peers": []`, `"tracks": []`, `"parts": []`}},
		{m.copy(), []string{`"peers": []`, `"tracks": []`, `"parts": []`}},
	} {
		b, err := test.m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		former := string(b)
		for _, list := range test.lists {
			if strings.Count(former, list) != 1 {
				t.Errorf("no %s in %s", list, b)
			}
			former = regexp.MustCompile(`,?\s*`+regexp.QuoteMeta(list)).ReplaceAllString(former, "")
		}
		back, err := DecodeManifest(strings.NewReader(former))
		if err != nil {
			t.Fatalf("%v: %s", err, former)
		}
		if again, err := back.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%v: %s", err, again)
		}
	}
}

func TestDecodeManifestRefuses(t *testing.T) {
	good, err := os.ReadFile(filepath.Join("testdata", "full.golden.json"))
	if err != nil {
		t.Fatal(err)
	}
	replace := func(old, new string) string {
		if !bytes.Contains(good, []byte(old)) {
			t.Fatalf("the golden manifest has no %s", old)
		}
		return strings.Replace(string(good), old, new, 1)
	}
	for name, doc := range map[string]string{
		"nothing":               "",
		"something else":        `[]`,
		"a newer version":       replace(`"version": 1`, `"version": 2`),
		"an unknown field":      replace(`"bot":`, `"robot":`),
		"a nested unknown":      replace(`"utc":`, `"local": 1, "utc":`),
		"data behind":           string(good) + "{}",
		"a cut":                 string(good[:len(good)/2]),
		"an unknown state":      replace(`"state": "recovered"`, `"state": "failed"`),
		"an unknown reason":     replace(`"reason": "loss"`, `"reason": "bad luck"`),
		"an unknown kind":       replace(`"kind": "audio"`, `"kind": "text"`),
		"a local time":          replace(`000Z"`, `000+01:00"`),
		"a path out":            replace(`"file": "anna-aaaaaaaaaaaaa/`, `"file": "../`),
		"an absolute path":      replace(`"file": "anna-aaaaaaaaaaaaa/`, `"file": "/`),
		"a backslash":           replace(`"file": "anna-aaaaaaaaaaaaa/`, `"file": "a\\`),
		"a directory out":       replace(`"dir": "anna-aaaaaaaaaaaaa/`, `"dir": "../`),
		"a recording elsewhere": replace(`"bot":`, `"previous": "../hall", "bot":`),
		"one beyond":            replace(`"bot":`, `"next": "hall/1", "bot":`),
		"one file twice":        replace(`video-1.ivf`, `audio-1.ogg`),
		"null in a list":        replace(`"streams": [`, `"streams": [null,`),
		"null among the gaps":   replace(`"gaps": [`, `"gaps": [null,`),
		"no clock":              replace(`"clock_rate": 48000`, `"clock_rate": 0`),
		"seconds as text":       replace(`"expected_seconds": 58`, `"expected_seconds": "58"`),
		"seconds out of range":  replace(`"expected_seconds": 58`, `"expected_seconds": 1e10`),
	} {
		if _, err := DecodeManifest(strings.NewReader(doc)); !errors.Is(err, ErrManifest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInstantsAreUTCAndKeepTheirNanoseconds(t *testing.T) {
	start := time.Date(2026, 10, 25, 2, 30, 0, 100, time.FixedZone("CEST", 7200))
	b, err := json.Marshal(At(start, start.Add(1500*time.Millisecond)))
	if want := `{"utc":"2026-10-25T00:30:01.500000100Z","monotonic_ms":1500}`; err != nil || string(b) != want {
		t.Errorf("%s %v, want %s", b, err, want)
	}
}

func TestSecondsAreExact(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0", 1: "0.000000001", -1: "-0.000000001", time.Second: "1", 10 * time.Second: "10", 1500 * time.Millisecond: "1.5",
		-90 * time.Minute: "-5400", 100*time.Hour + 7: "360000.000000007",
	} {
		b, err := json.Marshal(Seconds(d))
		if err != nil || string(b) != want {
			t.Errorf("%v is %s %v, want %s", d, b, err, want)
		}
		var back Seconds
		if err := json.Unmarshal(b, &back); err != nil || back.Duration() != d {
			t.Errorf("%s came back as %v %v", b, back.Duration(), err)
		}
	}
}

func TestCompletenessStaysBetweenZeroAndOne(t *testing.T) {
	for _, test := range []struct {
		recorded, expected Seconds
		want               float64
	}{{0, 0, 1}, {5, 0, 1}, {0, 5, 0}, {1, 4, 0.25}, {6, 5, 1}, {-1, 5, 0}} {
		if got := Completeness(test.recorded, test.expected); got != test.want {
			t.Errorf("%d of %d: %v", test.recorded, test.expected, got)
		}
	}
}

func FuzzDecodeManifest(f *testing.F) {
	for _, m := range goldenManifests() {
		b, err := m.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeManifest(bytes.NewReader(b))
		if err != nil {
			return
		}
		b, err = m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeManifest(bytes.NewReader(b)); err != nil {
			t.Fatalf("does not read what it wrote: %v\n%s", err, b)
		}
	})
}

// A member that is back stands in the manifest as there, though nothing else happens.
func TestAMemberThatIsBackIsSoInTheManifest(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := startCall(t, Options{Dir: dir})
		for _, there := range []bool{false, true} {
			if there {
				c.rec.PeerJoined("alice", nil)
			} else {
				c.rec.PeerLeft("alice")
			}
			time.Sleep(2 * saveInterval)
			synctest.Wait()
			peers := readRoom(t, dir).manifest.Peers
			if left := peers[len(peers)-1].Left; (left == nil) != there {
				t.Errorf("there %v, left %v", there, left)
			}
		}
		c.end()
	})
}
