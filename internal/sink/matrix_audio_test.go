package sink

import (
	"math"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtp"
)

// redPayloader sends Opus as browsers do when RED was negotiated: each packet with the one, or two,
// before it.
type redPayloader struct {
	distance int
	before   [][]byte
}

func (r *redPayloader) Payload(_ uint16, primary []byte) [][]byte {
	var payload []byte
	for i, b := range r.before {
		offset := uint32(len(r.before)-i) * 960
		payload = append(payload, 0x80|111, byte(offset>>6), byte(offset<<2)|byte(len(b)>>8), byte(len(b)))
	}
	payload = append(payload, 111)
	for _, b := range r.before {
		payload = append(payload, b...)
	}
	r.before = append(r.before, primary)
	if len(r.before) > r.distance {
		r.before = r.before[1:]
	}
	return [][]byte{append(payload, primary...)}
}

// audioLength is how long FFmpeg plays a file. It must have nothing to say about it.
func audioLength(t *testing.T, file string) time.Duration {
	t.Helper()
	var complaints strings.Builder
	c := exec.Command(tool(t, "ffmpeg"), "-v", "error", "-i", file, "-f", "s16le", "-ac", "1", "-")
	c.Stderr = &complaints
	out, err := c.Output()
	if err != nil || complaints.Len() > 0 {
		t.Errorf("ffmpeg: %v %.500s", err, complaints.String())
	}
	return samplesTime(int64(len(out) / 2))
}

// Whatever the network does, an audio file is as long as the call was, each packet in it stands as
// it was sent and where it was, and it plays without a complaint.
func TestAudioSurvivesTheNetwork(t *testing.T) {
	const rounds = 4
	for _, m := range []media{opusMedia(), voiceMedia(t)} {
		for _, red := range []int{0, 1, 2} {
			for _, w := range weathers {
				if (w.answered || w.loss == 0) && red > 0 || m.name == "voice" && w.loss < 0.05 {
					continue
				}
				name := m.name + "/RED " + strconv.Itoa(red) + "/" + w.name
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					m := m
					var l *link
					formats := map[uint8]Format{96: m.format}
					if red > 0 {
						formats = map[uint8]Format{96: {MimeType: "audio/red", ClockRate: 48000}, 111: m.format}
						m.payloads = func() rtp.Payloader { return &redPayloader{distance: red} }
					}
					r := record(t, m, Options{}, func(_ *Stream, track *Track) {
						l = newLink(w, 7)
						l.to = newSource(track, SourceInfo{Feedback: l}, formats)
						go l.run()
						m.play(l, rounds)
						time.Sleep(time.Second / 10)
						close(l.stop)
					})
					sent := repeat(m.want, rounds)
					want := m.every * time.Duration(len(sent))
					if d := audioLength(t, r.file) - want; max(d, -d) > 20*time.Millisecond {
						t.Errorf("plays %v too long", d)
					}
					file, err := os.ReadFile(r.file)
					if err != nil {
						t.Fatal(err)
					}
					missing := checkPlaces(t, sent, file)
					ledger := r.track.Ledger
					t.Logf("%d of %d packets missing; %d lost on the way, %d for good, %d by RED; completeness %.4f; %d gaps",
						missing, len(sent), l.lost, ledger.Lost, ledger.RED, r.track.Completeness, len(r.track.Gaps))
					if ledger.Concealed != ledger.Lost {
						t.Errorf("%d packets lost, something stands in for %d", ledger.Lost, ledger.Concealed)
					}
					if m.name == "voice" && red == 0 && !w.answered && !slices.ContainsFunc(r.track.Gaps, func(g *ManifestGap) bool { return g.Fill == FillFEC }) {
						t.Errorf("no gap is known to be before in-band FEC: %s", r.gaps())
					}
					if !w.answered && red == 0 {
						if missing != l.lost {
							t.Errorf("%d packets missing, %d were lost", missing, l.lost)
						}
					} else if w.burst == 0 && w.loss <= 0.05 && float64(missing) > 1+3*w.loss*w.loss*float64(len(sent)) {
						t.Errorf("%d packets missing, isolated losses come back", missing)
					}
					lost := 1 - float64(missing)/float64(len(sent))
					if math.Abs(r.track.Completeness-lost) > 0.003 {
						t.Errorf("completeness %v, want %v: %s", r.track.Completeness, lost, r.gaps())
					}
				})
			}
		}
	}
}

// checkPlaces finds each packet that was sent, one every 20 ms, at its place in the file, and
// returns how many are not there.
func checkPlaces(t *testing.T, sent [][]byte, file []byte) (missing int) {
	t.Helper()
	places := make(map[int64]string)
	var at int64
	for _, packet := range oggAll(t, file) {
		places[at] = string(packet)
		at += int64(opusSamples(packet))
	}
	for i, packet := range sent {
		if places[int64(i)*960] != string(packet) {
			missing++
		}
	}
	return missing
}

// opusInfo runs opusinfo, which knows the rules of Ogg Opus better than FFmpeg.
func opusInfo(t *testing.T, file string) {
	t.Helper()
	out, err := exec.Command(tool(t, "opusinfo"), file).CombinedOutput()
	if err != nil {
		t.Errorf("opusinfo: %v\n%s", err, out)
	}
}
