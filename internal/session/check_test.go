package session

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"recorder/internal/e2e"
	"recorder/internal/lab/tape"
	"recorder/internal/sink"
)

// outcome is what the files of a stream must show of what befell it.
type outcome struct {
	newCodec       bool          // the picture's, so that it has two parts
	minGap, maxGap time.Duration // in which nothing was captured that came through
	reason         sink.Reason   // of the gap; "": reconnect
	drops          int           // times that media was interrupted; 0: once at most
	calls          int           // the tracks were sent in as many streams, alike; 0: one
	path           bool          // packets were lost on the way, so that not all that was sent is recorded
}

const (
	gapAccuracy = 100 * time.Millisecond // of the length of a gap
	lipSync     = 40 * time.Millisecond  // between the sound and the picture of one instant
	keyInterval = time.Second            // of the clip: how long decoding may have to wait for a key frame
)

// checkOneStream wants one stream of picture and sound with that outcome.
func (r *rig) checkOneStream(m sink.Manifest, want outcome) {
	r.t.Helper()
	if len(m.Streams) != 1 {
		r.t.Errorf("want 1 stream, have %d", len(m.Streams))
	}
	for _, s := range m.Streams {
		r.check(s, want)
	}
}

// check holds a stream's files and its manifest against what was captured.
func (r *rig) check(s *sink.ManifestStream, want outcome) {
	r.t.Helper()
	if len(s.Tracks) != 2 {
		r.t.Errorf("stream %q: want 2 tracks, have %d", s.ID, len(s.Tracks))
	}
	takes := make(map[string][]tape.Take)
	for _, track := range s.Tracks {
		parts := 1
		if want.newCodec && track.Kind == "video" {
			parts = 2
		}
		if len(track.Parts) != parts {
			r.t.Errorf("%s: want %d parts, have %d", track.Kind, parts, len(track.Parts))
		}
		var files []string
		for _, part := range track.Parts {
			files = append(files, filepath.Join(r.recording, filepath.FromSlash(part.File)))
		}
		all, err := r.tape.Takes(files...)
		r.must(err)
		takes[track.Kind] = all
		r.checkGaps(track, all, want)
		var recorded time.Duration
		for _, f := range all {
			recorded += f.Length
		}
		if sent := r.tape.Played(track.ID) / time.Duration(max(want.calls, 1)); !want.path && sent-recorded > time.Duration(max(want.drops, 1))*gapAccuracy {
			r.t.Errorf("%s: %v were sent, %v are in the file", track.Kind, sent, recorded)
		}
	}
	checkLipSync(r.t, takes["audio"], takes["video"])
}

// checkGaps wants what is missing to be as long in the file and in the
// manifest as in truth, and to be explained.
func (r *rig) checkGaps(track *sink.ManifestTrack, takes []tape.Take, want outcome) {
	r.t.Helper()
	reasons := []sink.Reason{want.reason}
	if want.reason == "" {
		reasons[0] = sink.ReasonReconnect
	}
	minGap, maxGap := want.minGap, want.maxGap
	if track.Kind == "video" && maxGap > 0 {
		reasons, maxGap = append(reasons, sink.ReasonKeyFrameWait), maxGap+keyInterval
		minGap = 0 // a sender keeps pictures for as long as its memory of packets goes
	}
	var away, missing time.Duration
	for i := 1; i < len(takes); i++ {
		a, b := takes[i-1], takes[i]
		captured, shown := b.At.Sub(a.At), b.Position-a.Position
		if (captured - shown).Abs() > gapAccuracy {
			r.t.Errorf("%s: %v between two captures are %v in the file, at %v", track.Kind, captured, shown, a.Position)
		}
		if hole := captured - a.Length; hole > a.Length/2 {
			away += hole
		}
	}
	for _, gap := range track.Gaps {
		missing += gap.Duration.Duration()
		r.t.Logf("%s: gap of %v at %v: %s", track.Kind, gap.Duration.Duration(), gap.Start.Duration(), gap.Reason)
		if !slices.Contains(reasons, gap.Reason) {
			r.t.Errorf("%s: gap of %v at %v because of %q", track.Kind, gap.Duration.Duration(), gap.Start.Duration(), gap.Reason)
		}
	}
	if (missing - away).Abs() > gapAccuracy {
		r.t.Errorf("%s: nothing was captured and recorded for %v, the manifest says %v", track.Kind, away, missing)
	}
	if away > maxGap+gapAccuracy || away < minGap-gapAccuracy {
		r.t.Errorf("%s: nothing was captured and recorded for %v, want %v to %v", track.Kind, away, minGap, maxGap)
	}
}

// checkLipSync wants each picture beside the sound of the same instant.
func checkLipSync(t *testing.T, audio, video []tape.Take) {
	t.Helper()
	apart := tape.Apart(audio, video)
	if len(apart) == 0 || len(apart) < len(audio)/5 { // there are 50 packets to 15 pictures
		t.Errorf("%d packets of sound, %d of %d pictures beside them", len(audio), len(apart), len(video))
		return
	}
	least, most := apart[0], apart[len(apart)-1]
	t.Logf("%d pictures %v to %v behind their sound", len(apart), least, most)
	if least < -lipSync || most > lipSync {
		t.Errorf("pictures are %v to %v behind their sound", least, most)
	}
}

// checkFiles holds every file against its manifest, and has ffmpeg, where
// there is one, decode it.
func checkFiles(t *testing.T, dir string) {
	report, err := sink.Verify(t.Context(), dir, nil)
	if err != nil || !report.OK {
		t.Errorf("verify: %v %+v", err, report)
	}
	if !ffmpegIsThere() {
		return
	}
	for _, pattern := range []string{"*.ogg", "*.ivf"} {
		files, _ := filepath.Glob(filepath.Join(dir, "*", "*", "*", "*", pattern))
		for _, file := range files {
			e2e.DecodesCleanly(t, file)
		}
	}
}

// ffmpegIsThere is true as well where it has to be. The e2e package says what
// is missing.
func ffmpegIsThere() bool {
	_, err := exec.LookPath("ffmpeg")
	return err == nil || os.Getenv("RECORDER_E2E") == "required"
}
