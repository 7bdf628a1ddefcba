package sink

import (
	"testing"
	"time"

	"recorder/internal/depacket"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// bomb is a writer that panics.
type bomb struct {
	writer
	at string
}

func (b *bomb) blow(at string) {
	if b.at == at {
		panic("bomb: " + at)
	}
}

func (b *bomb) write(src *Source, p *depacket.Packet, lost int, now time.Duration) {
	b.blow("write")
	b.writer.write(src, p, lost, now)
}

func (b *bomb) seal(now time.Duration) {
	b.blow("seal")
	b.writer.seal(now)
}

func (b *bomb) end(now time.Duration, alive bool) {
	b.blow("end")
	if b.at == "write and end" {
		panic("bomb: again")
	}
	b.writer.end(now, alive)
}

func (b *bomb) reach(src *Source, p *depacket.Packet, now time.Duration) bool {
	if b.at == "write and end" {
		panic("bomb: once")
	}
	return b.writer.reach(src, p, now)
}

// TestAPanicAtATrackCostsWhatComesOfItAndNothingElse: the recording goes on, the track's file holds what
// came before, and what is missing is said.
func TestAPanicAtATrackCostsWhatComesOfItAndNothingElse(t *testing.T) {
	const before, after = 10 * time.Second, 7 * time.Second
	for name, arm := range map[string]func(c *call, v *leg){
		"write":         func(c *call, _ *leg) { c.arm("write") },
		"seal":          func(c *call, _ *leg) { c.arm("seal") },
		"write and end": func(c *call, _ *leg) { c.arm("write and end") },
		"receive":       func(_ *call, v *leg) { v.Source.inbox = append(v.Source.inbox, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			var panics float64
			r := inCall(t, Options{}, func(c *call) {
				a, v := c.audio(), c.video()
				c.talk(a, v, before)
				arm(c, v)
				c.talk(a, v, 40*ms)
				c.talk(a, v, after)
				later := c.video() // another connection brings it
				c.talk(a, later, after)
				panics = testutil.ToFloat64(c.root.metrics.panics)
			})
			if panics != 1 {
				t.Errorf("%v panics", panics)
			}
			sound, pictures := r.manifest.Streams[0].Tracks[0], r.manifest.Streams[0].Tracks[1]
			if sound.Completeness != 1 || len(sound.Gaps) != 0 {
				t.Errorf("sound: %v, %v", sound.Completeness, sound.Gaps)
			}
			if missing := pictures.Missing[ReasonFault].Duration(); missing < 2*after-time.Second || missing > 2*after+time.Second {
				t.Errorf("%v are missing: %v", missing, pictures.Missing)
			}
			if kept := pictures.Recorded.Duration(); kept < before-time.Second || len(pictures.Parts) != 1 || !pictures.Parts[0].Final {
				t.Errorf("%v were kept, parts %+v", kept, pictures.Parts)
			}
			if report, err := Verify(t.Context(), r.dir, nil); err != nil || !report.OK {
				t.Errorf("%+v: %v", report, err)
			}
		})
	}
}

// A track that fails as it ends has a file all the same, and the recording ends.
func TestATrackThatFailsAtItsEndIsFinished(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		c.talk(c.audio(), c.video(), 5*time.Second)
		c.arm("end")
	})
	for _, track := range r.manifest.Streams[0].Tracks {
		if len(track.Parts) != 1 || !track.Parts[0].Final || track.Recorded < 4 {
			t.Errorf("%s: %+v", track.Kind, track.Parts)
		}
	}
}

// arm has the writer of pictures panic.
func (c *call) arm(at string) {
	for _, t := range c.stream.tracks {
		if t.kind == video {
			t.writer = &bomb{t.writer, at}
		}
	}
}
