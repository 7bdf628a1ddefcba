package main

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"recorder/internal/sink"
)

func newVerifyCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify DIR",
		Short: "Check recordings against their manifests",
		Long: `verify reads every file of a recording, or of all recordings in a directory or a channel's, and compares it with
the manifest: hash, size, counts, order, duration and headers. It changes nothing, and may run while
recordings are being written; one that a crash left unfinished is not good before it was repaired.

Exit codes: 0 every file is as its manifest says, 1 one is not or cannot be read or there is no
recording, 2 usage.`,
		Example: `  recorder verify ./recordings
  recorder verify ./recordings --json | jq '.recordings[] | select(.ok | not)'`,
		Args: oneDir,
		RunE: func(cmd *cobra.Command, args []string) error {
			out := newConsole(cmd.OutOrStdout())
			var progress func(sink.RecordingReport)
			if !asJSON {
				progress = func(r sink.RecordingReport) {
					r.Dir = shown(r.Dir, args[0])
					printRecording(out, r)
				}
			}
			report, err := sink.Verify(cmd.Context(), args[0], progress)
			if err != nil {
				return err
			}
			var none error
			if len(report.Recordings) == 0 && report.OK {
				none = noRecordings(args[0])
				report.OK = false
			}
			if asJSON {
				if err := printJSON(cmd.OutOrStdout(), report); err != nil {
					return err
				}
			} else if none == nil {
				printVerdict(out, report)
			}
			if none != nil {
				return none
			}
			if !report.OK {
				return errSilent
			}
			return nil
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}

// shown is what a recording below dir is called, which may be dir itself.
func shown(name, dir string) string {
	if name == "." {
		return dir
	}
	return name
}

// noRecordings is the error for a directory that is none of recordings.
func noRecordings(dir string) error {
	return fmt.Errorf("no recordings in %s: want the directory of all recordings, of a channel, or of one", dir)
}

// printRecording prints one recording as a table of its files.
func printRecording(out *console, r sink.RecordingReport) {
	state := string(r.State)
	if r.State == sink.StateRecording {
		state += ": unfinished"
	}
	printHeading(out, r.Dir, r.Channel, state)
	if state == "" {
		printProblems(out, r.Problems)
		return
	}
	rows := [][]string{{"FILE", "CODEC", "DURATION", "FRAMES", "BYTES", ""}}
	problems := slices.Clone(r.Problems)
	for _, p := range r.Parts {
		verdict := out.Good("ok")
		switch {
		case len(p.Problems) > 0:
			verdict = out.Bad("BAD")
		case p.Unwritten && p.Error != "":
			verdict = out.Bad("LOST: ") + plain(p.Error)
		case p.Unwritten && r.State == sink.StateRecording:
			verdict = "nothing is written yet"
		case p.Unwritten:
			verdict = "nothing was written"
		case p.Error != "":
			verdict = "ended early: " + plain(p.Error)
		case p.Unhashed:
			verdict = out.Good("ok, no hash yet")
		}
		for _, problem := range p.Problems {
			problems = append(problems, p.File+": "+problem)
		}
		rows = append(rows, []string{plain(p.File), plain(p.Codec), seconds(time.Duration(p.Duration)),
			strconv.FormatInt(p.Frames, 10), strconv.FormatInt(p.Size, 10), verdict})
	}
	if len(r.Parts) == 0 {
		rows = [][]string{{"no files"}}
	}
	out.Table(rows)
	if r.Completeness < 1 {
		out.Printf("  completeness %.4f: the manifest says what is missing, and why\n", r.Completeness)
	}
	printProblems(out, problems)
}

// printHeading prints which recording it is and its state, or that it is one of which nothing is known but its problems.
func printHeading(out *console, dir, channel, state string) {
	if state == "" {
		out.Printf("%s\n", plain(dir))
	} else {
		out.Printf("%s  channel %q, %s\n", plain(dir), channel, plain(state))
	}
}

func printVerdict(out *console, report sink.Report) {
	printProblems(out, report.Problems)
	files, badFiles, badRecordings := 0, 0, 0
	for _, r := range report.Recordings {
		files += len(r.Parts)
		if !r.OK {
			badRecordings++
		}
		for _, p := range r.Parts {
			if len(p.Problems) > 0 {
				badFiles++
			}
		}
	}
	if report.OK {
		out.Printf("recordings %d, files %d: %s\n", len(report.Recordings), files, out.Good("good"))
		return
	}
	bad := func(n int) string { return out.Bad(fmt.Sprintf("%d BAD", n)) }
	out.Printf("recordings %d (%s), files %d (%s)\n", len(report.Recordings), bad(badRecordings), files, bad(badFiles))
}

func printProblems(out *console, problems []string) {
	for _, problem := range problems {
		out.Printf("  %s %s\n", out.Bad("BAD"), plain(problem))
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
