package sink

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"recorder/internal/depacket"
)

// wantGaps compares the gaps of a track, to 25 ms.
func (r recorded) wantGaps(t *testing.T, want ...ManifestGap) {
	t.Helper()
	if len(r.track.Gaps) != len(want) {
		t.Fatalf("%s gaps %s, want %d", r.track.Kind, r.gaps(), len(want))
	}
	for i, g := range r.track.Gaps {
		w := want[i]
		if g.Reason != w.Reason || !near(g.Start.Duration(), w.Start.Duration(), 25*ms) || !near(g.Duration.Duration(), w.Duration.Duration(), 25*ms) {
			t.Errorf("%s gaps %s, want %s %v+%v at %d", r.track.Kind, r.gaps(), w.Reason, w.Start.Duration(), w.Duration.Duration(), i)
		}
	}
}

// step sends 40 ms of sound and picture. Either may be nil.
func (c *call) step(a, v *leg, key bool) {
	if v != nil {
		v.put(vp8Payload([]byte{0x10}, testPicture(key)...))
		v.rtp += 3600
	}
	for range 2 {
		if a != nil {
			a.put(tone(a.seq))
			a.rtp += 960
		}
		c.wait(20 * ms)
	}
}

func gapOf(r Reason, start, duration time.Duration) ManifestGap {
	return ManifestGap{Reason: r, Start: Seconds(start), Duration: Seconds(duration)}
}

// A muted microphone or camera that sends nothing for 10 s leaves 10 s, in the file and the
// manifest; the gap costs no completeness.
func TestMuteKeepsItsLength(t *testing.T) {
	for name, stalled := range map[string]bool{"clocks go on": false, "clocks stand still": true} {
		t.Run(name, func(t *testing.T) {
			r := inCall(t, Options{}, func(c *call) {
				a := c.audio()
				a.speak(100)
				c.wait(10 * time.Second)
				if !stalled {
					a.rtp += 480_000
				}
				a.speak(100)
				c.wait(2 * time.Second)
				a.Close()
			})
			length, packets := r.audioFile(t)
			if !near(length, 14*time.Second, 20*ms) {
				t.Errorf("file lasts %v, want 14 s", length)
			}
			r.wantGaps(t, gapOf(ReasonMute, 2*time.Second, 10*time.Second))
			if r.track.Completeness != 1 || r.track.Gaps[0].Fill != FillSilence {
				t.Errorf("completeness %v, fill %q", r.track.Completeness, r.track.Gaps[0].Fill)
			}
			if !slices.ContainsFunc(packets, func(p []byte) bool { return strings.HasPrefix(string(p), "\xfb\x06\xff\xfe") }) {
				t.Error("no encoded silence in the gap")
			}
			decode(t, r.file)
			opusInfo(t, r.file)
		})
	}
}

func TestMutedCameraKeepsItsLength(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		v := c.video()
		v.film(50, true)
		c.wait(10 * time.Second)
		v.rtp += 900_000
		v.film(50, true)
		c.wait(2 * time.Second)
		v.Close()
	})
	_, pts := pictures(t, r.file)
	if pts[49] != 49*3600 || pts[50] != 300*3600 {
		t.Errorf("the picture after the pause is at %d, the one before at %d", pts[50], pts[49])
	}
	r.wantGaps(t, gapOf(ReasonMute, 2*time.Second, 10*time.Second))
	decode(t, r.file)
}

// Silence suppression: a packet each 400 ms. Its gaps are one in the manifest, and comfort noise
// goes on in the file.
func TestSilenceSuppressionIsOneGap(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		a := c.audio()
		a.speak(50)
		for range 20 {
			c.wait(380 * ms)
			a.rtp += 380 * 48
			a.speak(1)
		}
		a.speak(50)
		a.Close()
		c.wait(time.Second)
	})
	length, packets := r.audioFile(t)
	if !near(length, 10*time.Second, 20*ms) {
		t.Errorf("file lasts %v, want 10 s", length)
	}
	r.wantGaps(t, gapOf(ReasonMute, time.Second, 8*time.Second-20*ms))
	if fill := r.track.Gaps[0].Fill; fill != FillConcealment {
		t.Errorf("filled with %s", fill)
	}
	if i := slices.IndexFunc(packets, func(p []byte) bool { return len(p) == 2 }); i != 50 || string(packets[i]) != "\xfb\x06" {
		t.Errorf("packet %d stands for the first gap, not 50", i)
	}
	decode(t, r.file)
	opusInfo(t, r.file)
}

// RTP clocks wrap after 13 h 15 min at 90 kHz, after 24 h 51 min at 48 kHz; so does nothing else.
func TestFilesOutlastTheRTPClock(t *testing.T) {
	const minutes = 26 * 60
	r := inCall(t, Options{SyncInterval: time.Hour}, func(c *call) {
		a, v := c.audio(), c.video()
		for i := range minutes {
			v.put(vp8Payload([]byte{0x10}, testPicture(true)...))
			a.put(tone(uint16(i)))
			c.skip(time.Minute)
			v.rtp += 90000 * 60
			a.rtp += 48000 * 60
		}
		a.Close()
		v.Close()
		c.skip(time.Second)
	})
	_, pts := pictures(t, r.of(video).file)
	for i, p := range pts {
		if p != int64(i)*90000*60 {
			t.Fatalf("picture %d at %d", i, p)
		}
	}
	if length, _ := r.audioFile(t); len(pts) != minutes || !near(length, (minutes-1)*time.Minute, 40*ms) {
		t.Errorf("%d pictures, sound of %v", len(pts), length)
	}
}

// A sender that begins anew, with another SSRC or the same, goes on in the file where it is due.
func TestSenderBeginsAnew(t *testing.T) {
	tests := []struct {
		name  string
		begin func(l *leg)
	}{
		{"another SSRC and random bases", func(l *leg) { l.ssrc, l.seq, l.rtp = 99, 33333, 0x12345678 }},
		{"the same SSRC and random bases", func(l *leg) { l.seq, l.rtp = 33333, 0x12345678 }},
		{"the same SSRC, clock ahead by 30 s", func(l *leg) { l.rtp += 30 * 48000 }},
		{"the same SSRC, clock back by an hour", func(l *leg) { l.rtp -= 3600 * 48000 }},
		{"the same SSRC, clock at random", func(l *leg) { l.rtp += 0x7fff0000 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := inCall(t, Options{}, func(c *call) {
				a, v := c.audio(), c.video()
				for range 50 {
					c.step(a, v, true)
				}
				tt.begin(a)
				tt.begin(v)
				for range 50 {
					c.step(a, v, true)
				}
				c.wait(3 * time.Second)
				a.Close()
				v.Close()
			})
			length, packets := r.audioFile(t)
			if !near(length, 4*time.Second, 20*ms) || len(packets) < 199 || len(packets) > 201 {
				t.Errorf("%d packets of %v, want 4 s", len(packets), length)
			}
			frames, pts := pictures(t, r.of(video).file)
			if last := pts[len(pts)-1]; len(frames) != 100 || last < 3800*90 || last > 4100*90 {
				t.Errorf("%d pictures up to %d", len(frames), last)
			}
			decode(t, r.of(video).file)
		})
	}
}

// All files of a stream begin at its beginning: late sound with silence, a late picture held.
func TestLateTracksBeginWithTheStream(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		v := c.video()
		v.film(75, true)
		a := c.audio()
		a.speak(100)
		a.Close()
		c.wait(100 * ms)
	})
	if length, _ := r.audioFile(t); !near(length, 5*time.Second, 20*ms) {
		t.Errorf("sound lasts %v, want 3 s of silence and 2 s", length)
	}
	if start := r.of(audio).track.Start; !near(start.Position.Duration(), 3*time.Second, ms) {
		t.Errorf("sound starts at %v by the manifest", start.Position)
	}
	if len(r.of(audio).track.Gaps) != 0 {
		t.Errorf("gaps %s", r.of(audio).gaps())
	}
	r = inCall(t, Options{}, func(c *call) {
		a := c.audio()
		a.speak(150)
		v := c.video()
		v.film(50, true)
		c.wait(time.Second)
	})
	frames, pts := pictures(t, r.of(video).file)
	part := r.of(video).track.Parts[0]
	if pts[0] != 0 || !slices.Equal(frames[0], frames[1]) || !part.HeldFirst || pts[1] != 270_000 || pts[2] != 273_600 {
		t.Errorf("pictures at %v, held %v", pts[:3], part.HeldFirst)
	}
	if part.Frames != 51 || r.of(video).track.Ledger.FramesWritten != 50 {
		t.Errorf("%d frames in the file, %d counted", part.Frames, r.of(video).track.Ledger.FramesWritten)
	}
}

// Before its first key frame a picture cannot be decoded, and one is asked for at once.
func TestNothingIsWrittenBeforeAKeyFrame(t *testing.T) {
	var v *leg
	r := inCall(t, Options{}, func(c *call) {
		v = c.video()
		c.wait(20 * ms)
		if v.plis != 1 {
			t.Errorf("%d requests after one tick", v.plis)
		}
		v.film(100, false)
		if v.plis != 4 || v.firs < 3 {
			t.Errorf("%d PLIs and %d FIRs in 4 s", v.plis, v.firs)
		}
		v.film(25, true)
		v.Close()
		c.wait(time.Second)
	})
	r.wantGaps(t, gapOf(ReasonKeyFrameWait, 0, 4*time.Second))
	if frames, pts := pictures(t, r.file); len(frames) != 26 || pts[1] != 360_000 {
		t.Errorf("%d pictures, at %v", len(frames), pts)
	}

	r = inCall(t, Options{}, func(c *call) {
		v := c.video()
		v.film(50, false)
		v.Close()
		c.wait(time.Second)
	})
	if len(r.track.Parts) != 0 || r.track.Start == nil || r.track.Completeness != 0 {
		t.Errorf("a track without a key frame: %d parts, start %v, completeness %v", len(r.track.Parts), r.track.Start, r.track.Completeness)
	}
}

// One file for one codec: another begins another. A change of size stays in the file.
func TestCodecAndSizeChanges(t *testing.T) {
	vp9, _ := ivfFrames(t, load(t, "vp9.ivf"))
	small := slices.Clone(testPicture(true))
	large := slices.Clone(small)
	large[6], large[7], large[8], large[9] = 0, 2, 0, 2 // 512×512; no decoder will see it
	r := inCall(t, Options{}, func(c *call) {
		v := c.video()
		for _, frame := range [][]byte{small, large, small} {
			v.put(vp8Payload([]byte{0x10}, frame...))
			v.rtp += 3600
			v.wait(40 * ms)
		}
		v.pt = ptVP9
		for _, frame := range vp9[:15] {
			const descriptor = 0x08 | 0x04
			v.put(append([]byte{descriptor}, frame...))
			v.rtp += 3600
			v.wait(40 * ms)
		}
		c.wait(time.Second)
		v.Close()
	})
	if len(r.track.Parts) != 2 || r.track.Parts[0].Codec != "vp8" || r.track.Parts[1].Codec != "vp9" || !r.track.Parts[1].HeldFirst {
		t.Fatalf("parts %+v", r.track.Parts)
	}
	if names := r.track.Parts[0].File + " " + r.track.Parts[1].File; names != "alice/camera/video-1.ivf alice/camera/video-2.ivf" {
		t.Errorf("files %s", names)
	}
	var sizes []int
	for _, s := range r.track.Resolutions {
		sizes = append(sizes, s.Width)
	}
	if want := []int{320, 512, 320, 240}; !slices.Equal(sizes, want) {
		t.Errorf("widths %v, want %v", sizes, want)
	}
	second := filepath.Join(r.dir, r.track.Parts[1].File)
	decode(t, second)
	if _, pts := pictures(t, second); pts[1] != 3*3600 {
		t.Errorf("second file goes on at %d", pts[1])
	}
}

// In VP9 a picture may be of another size than those it refers to.
func TestSizeChangesWithoutAKeyFrame(t *testing.T) {
	larger := []byte{0x87, 0x01, 0, 0, 0, 0x3e, 0, 0x3e, 0, 0} // refers to the first, 32×32
	same := []byte{0x87, 0x01, 0, 0x08, 0, 0}                  // as large as that
	r := inCall(t, Options{}, func(c *call) {
		v := c.video()
		v.pt = ptVP9
		for _, frame := range [][]byte{vp9Key16, larger, same, vp9Key16} {
			const descriptor = 0x08 | 0x04
			v.put(append([]byte{descriptor}, frame...))
			v.rtp += 3600
			v.wait(40 * ms)
		}
		v.Close()
	})
	var sizes []int
	for _, s := range r.track.Resolutions {
		sizes = append(sizes, s.Width)
	}
	if want := []int{16, 32, 16}; !slices.Equal(sizes, want) {
		t.Errorf("widths %v, want %v", sizes, want)
	}
}

// The frames of Opus may be of any size, and packets hold any number of them.
func TestOpusPacketsOfAnyLength(t *testing.T) {
	lengths := []int{960, 120, 240, 480, 480, 1920, 2880, 5760, 960}
	var want []string
	r := inCall(t, Options{}, func(c *call) {
		a := c.audio()
		for range 10 {
			for _, samples := range lengths {
				f, ok := depacket.OpusSilence(false, samples)
				if !ok || f.Samples != samples {
					t.Fatalf("no packet of %d samples", samples)
				}
				want = append(want, string(f.Bytes()))
				a.put(f.Bytes())
				a.rtp += uint32(samples)
				c.wait(samplesTime(int64(samples)))
			}
		}
		c.wait(400 * ms)
		a.Close()
	})
	length, packets := r.audioFile(t)
	if want := 10 * 13800 * time.Second / 48000; length != want {
		t.Errorf("file lasts %v, want %v", length, want)
	}
	if !slices.EqualFunc(packets, want, func(a []byte, b string) bool { return string(a) == b }) {
		t.Errorf("%d packets, want the %d that were sent", len(packets), len(want))
	}
	r.wantGaps(t)
	decode(t, r.file)
	opusInfo(t, r.file)
}

// Mono that turns stereo does not lose a channel.
func TestStereoBeginsAnotherPart(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		a := c.audio()
		a.speak(50)
		for range 50 {
			a.put([]byte{0xfc, 0xff, 0xfe})
			a.rtp += 960
			a.wait(20 * ms)
		}
		a.Close()
		c.wait(time.Second)
	})
	if p := r.track.Parts; len(p) != 2 || p[0].Channels != 1 || p[1].Channels != 2 {
		t.Fatalf("parts %+v", p)
	}
	if length, _ := r.audioFile(t); !near(length, 2*time.Second, 20*ms) {
		t.Errorf("second part lasts %v: it begins with the stream, too", length)
	}
	for _, p := range r.track.Parts {
		opusInfo(t, filepath.Join(r.dir, p.File))
	}
}

// A sender that announces stereo gets a file of two channels though it begins with a packet of one.
func TestAnnouncedStereoIsOneFileOfTwoChannels(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		a := c.audio()
		a.SetFormats(map[uint8]Format{a.pt: {MimeType: "audio/opus", ClockRate: 48000, Fmtp: "useinbandfec=1;sprop-stereo=1"}})
		a.speak(50)
		for range 50 {
			a.put([]byte{0xfc, 0xff, 0xfe})
			a.rtp += 960
			a.wait(20 * ms)
		}
		a.Close()
		c.wait(time.Second)
	})
	if p := r.track.Parts; len(p) != 1 || p[0].Channels != 2 {
		t.Fatalf("parts %+v", p)
	}
}

// compact is JSON without the white space of a manifest.
func compact(t *testing.T, m json.RawMessage) json.RawMessage {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, m); err != nil {
		t.Error(err)
	}
	return b.Bytes()
}

// What a member says of itself, of a stream and of a track is kept as long as it is within what one may
// say, and what is beyond that does not take the place of what was said before.
func TestAMembersMetadataOf16KBIsKept(t *testing.T) {
	text := func(size int) json.RawMessage {
		return json.RawMessage(`{"x":"` + strings.Repeat("x", size-len(`{"x":""}`)) + `"}`)
	}
	for _, size := range []int{20, 8 << 10, 8<<10 + 1, 12 << 10, 16 << 10} {
		r := inCall(t, Options{}, func(c *call) {
			a := c.audio()
			for _, m := range []json.RawMessage{text(size), text(16<<10 + 1), json.RawMessage("{"), json.RawMessage(strings.Repeat("[", 17) + strings.Repeat("]", 17))} {
				c.rec.PeerJoined("alice", m)
				c.stream.SetMetadata(m)
				a.track.SetMetadata(m)
			}
			a.speak(10)
		})
		for what, m := range map[string]json.RawMessage{"peer": r.manifest.Peers[0].Metadata, "stream": r.manifest.Streams[0].Metadata, "track": r.track.Metadata} {
			m = compact(t, m)
			if string(m) != string(text(size)) {
				t.Errorf("of %d bytes of a %s's metadata %d are kept", size, what, len(m))
			}
		}
	}
}

// A recording is findable, and what it says of itself is there, from before the first media byte.
func TestManifestComesFirst(t *testing.T) {
	inCall(t, Options{}, func(c *call) {
		manifest := filepath.Join(c.root.options.Dir, c.rec.Dir(), ManifestName)
		if b, err := os.ReadFile(manifest); err != nil || !strings.Contains(string(b), `"state": "recording"`) {
			t.Errorf("manifest: %v %s", err, b)
		}
		create := c.rec.create
		c.rec.create = func(name string) (File, error) {
			if b, err := os.ReadFile(manifest); err != nil || !strings.Contains(string(b), name) {
				t.Errorf("%s is made before the manifest names it: %v", name, err)
			}
			return create(name)
		}
		a := c.audio()
		a.speak(50)
	})
}

// A picture that comes a moment after the stream's zero is its first, and stands there once.
func TestAPictureThatComesAtOnceStandsOnce(t *testing.T) {
	r := inCall(t, Options{}, func(c *call) {
		a, v := c.audio(), c.video()
		a.put(tone(0))
		time.Sleep(500 * time.Microsecond)
		v.film(50, true)
		c.wait(time.Second)
		v.Close()
		a.Close()
	})
	_, pts := pictures(t, r.of(video).file)
	if len(pts) != 50 || pts[0] != 0 || r.of(video).track.Parts[0].HeldFirst {
		t.Errorf("%d pictures from %d", len(pts), pts[:2])
	}
}

// Who comes back has an entry for each stay, with what it said of itself then; who was there all the
// time has one, however often that is said. However many there are, another recording takes over in time.
func TestWhoWasThereAndWhen(t *testing.T) {
	var stays string
	r := inCall(t, Options{}, func(c *call) {
		c.rec.PeerJoined("alice", nil)
		for i := range 3 {
			c.rec.PeerJoined("bob", json.RawMessage(strconv.Itoa(i)))
			c.rec.PeerJoined("alice", nil)
			c.wait(time.Second)
			c.rec.PeerLeft("bob")
			c.wait(time.Second)
		}
		c.rec.PeerJoined("bob", nil)
		for _, p := range c.rec.manifest.Peers {
			left := "…"
			if p.Left != nil {
				left = c.rec.manifest.position(*p.Left).String()
			}
			stays += fmt.Sprintln(p.ID, string(p.Metadata), c.rec.manifest.position(p.Joined), left)
		}
		if _, err := c.rec.NewStream(StreamInfo{PeerID: "bob", StreamID: "phone"}); err != nil { // or he is only counted
			t.Error(err)
		}
		for i := 0; i < maxEver && !c.rec.Full(); i++ {
			c.rec.PeerLeft("bob")
			c.rec.PeerJoined("bob", nil)
		}
		if !c.rec.Full() {
			t.Error("it never is full")
		}
		c.rec.PeerLeft("bob")
		c.rec.PeerJoined("bob", nil)
	})
	if want := "alice  0s …\nbob 0 0s 1s\nbob 1 2s 3s\nbob 2 4s 5s\nbob  6s …\n"; stays != want {
		t.Errorf("there were\n%swant\n%s", stays, want)
	}
	if n := len(r.manifest.Peers); n != maxEver {
		t.Errorf("%d entries, want %d", n, maxEver)
	}
}
