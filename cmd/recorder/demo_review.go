package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"recorder/internal/sink"
)

// shownMetrics are those that the demo prints.
var shownMetrics = []string{
	"recorder_session_state",
	"recorder_remote_peer_state",
	"recorder_remote_peer_rtp_packets_received_total",
	"recorder_sink_frames_written_total",
	"recorder_sink_completeness_ratio",
}

// demoTolerance is how far a file may be from the length of what was sent.
const demoTolerance = 100 * time.Millisecond

// scrape returns the lines of shownMetrics that are not zero.
func scrape(ctx context.Context, addr net.Addr) ([]string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr.String()+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var lines []string
	for in := bufio.NewScanner(resp.Body); in.Scan(); {
		name, _, _ := strings.Cut(in.Text(), "{")
		if slices.Contains(shownMetrics, name) && !strings.HasSuffix(in.Text(), " 0") {
			lines = append(lines, in.Text())
		}
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("%s shows none of the recorder's metrics", req.URL)
	}
	return lines, nil
}

// review compares the files with what was sent, and prints both.
func (d *demo) review(metrics []string) error {
	manifest, dir, err := d.manifest()
	if err != nil {
		return err
	}
	report, err := sink.Verify(context.Background(), dir, nil)
	if err != nil {
		return err
	}
	problems := report.Problems
	for _, r := range report.Recordings {
		problems = append(problems, r.Problems...)
		for _, p := range r.Parts {
			for _, problem := range p.Problems {
				problems = append(problems, p.File+": "+problem)
			}
		}
	}

	rows := [][]string{{"FILE", "DURATION", "SENT", "RECORDED", "IN FILE", ""}}
	files := []row{}
	for _, s := range d.sent {
		track := findTrack(manifest, s.member, s.TrackID)
		r, faults := compare(track, s)
		files = append(files, r)
		verdict := d.out.Good("as sent")
		if len(faults) > 0 {
			verdict = d.out.Bad("NOT AS SENT")
			problems = append(problems, faults...)
		}
		rows = append(rows, []string{r.File, seconds(r.Duration.Duration()), strconv.Itoa(r.Sent), strconv.FormatUint(r.Recorded, 10), strconv.FormatUint(r.InFile, 10), verdict})
	}
	if len(d.sent) == 0 {
		problems = append(problems, "nothing was sent")
	}

	if d.json != nil {
		return d.printJSON(dir, files, problems)
	}
	d.out.Printf("\nrecorded in %s:\n", dir)
	d.out.Table(rows)
	d.out.Printf("  frames and packets; those in the file, which recorder verify counts, are more by what fills gaps\n")
	d.out.Printf("  and the moment before the first: silence, and a picture that is held\n")
	d.out.Printf("\nhttp://%s/metrics, while everyone was there:\n  %s\n", d.app.Addr(), strings.Join(metrics, "\n  "))
	if len(problems) > 0 {
		d.out.Printf("\n")
		printProblems(d.out, problems)
		return errSilent
	}
	d.out.Printf("\nplay one file, or join the two of a stream:\n")
	stream := filepath.Join(dir, filepath.FromSlash(manifest.Streams[0].Dir))
	d.out.Printf("  ffplay %s\n", filepath.Join(stream, "video-1.ivf"))
	d.out.Printf("  ffmpeg -i %s -i %s -c copy %s.webm\n",
		filepath.Join(stream, "audio-1.ogg"), filepath.Join(stream, "video-1.ivf"), d.sent[0].member)
	d.out.Printf("\nThe files stay in %s until you delete them.\n", d.dir)
	return nil
}

// printJSON prints what review found for programs.
func (d *demo) printJSON(dir string, files []row, problems []string) error {
	result := struct {
		OK       bool     `json:"ok"`
		Dir      string   `json:"dir"` // of the recording
		Files    []row    `json:"files"`
		Problems []string `json:"problems"`
	}{len(problems) == 0, dir, files, append([]string{}, problems...)}
	err := printJSON(d.json, result)
	if err == nil && !result.OK {
		err = errSilent
	}
	return err
}

// manifest returns that of the latest recording, and the recording's directory.
func (d *demo) manifest() (*sink.Manifest, string, error) {
	found, err := filepath.Glob(filepath.Join(d.dir, "*", "*", sink.ManifestName))
	if err != nil || len(found) == 0 {
		return nil, "", errors.Join(errors.New("there is no recording in "+d.dir), err)
	}
	path := slices.Max(found) // directories are named for the time
	f, err := os.Open(path)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	m, err := sink.DecodeManifest(f)
	return m, filepath.Dir(path), err
}

func findTrack(m *sink.Manifest, peer, id string) *sink.ManifestTrack {
	for _, s := range m.Streams {
		if s.PeerID != peer {
			continue
		}
		for _, t := range s.Tracks {
			if t.ID == id {
				return t
			}
		}
	}
	return nil
}

// row is how one track was recorded.
type row struct {
	File     string       `json:"file"`
	Duration sink.Seconds `json:"duration_seconds"` // of the file: from the start of the stream
	Sent     int          `json:"sent"`             // frames and packets
	Recorded uint64       `json:"recorded"`         // as they were sent, without what fills gaps
	InFile   uint64       `json:"in_file"`          // with it
}

// compare says what of a track is not as it was sent.
func compare(t *sink.ManifestTrack, s delivery) (r row, faults []string) {
	name := s.member + "'s " + s.TrackID
	if t == nil || len(t.Parts) == 0 {
		return row{File: "none", Sent: s.Frames}, []string{name + " was not recorded"}
	}
	part := t.Parts[0]
	r = row{File: part.File, Duration: part.Duration, Sent: s.Frames, Recorded: t.Ledger.FramesWritten, InFile: uint64(part.Frames)}
	fault := func(format string, args ...any) { faults = append(faults, name+": "+fmt.Sprintf(format, args...)) }
	if len(t.Parts) > 1 {
		fault("in %d files instead of one", len(t.Parts))
	}
	if r.Recorded != uint64(s.Frames) {
		fault("%d frames recorded of %d sent", r.Recorded, s.Frames)
	}
	var began time.Duration
	if t.Start != nil {
		began = t.Start.Position.Duration()
	}
	if off := r.Duration.Duration() - began - s.Played; off.Abs() > demoTolerance {
		fault("%s recorded of %s sent", seconds(r.Duration.Duration()-began), seconds(s.Played))
	}
	return r, faults
}
