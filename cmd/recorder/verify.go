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
		Long: `verify reads every file of a recording, or of all recordings below a directory, and compares it with
the manifest: hash, size, counts, order, duration and headers. It changes nothing, and may run while
recordings are being written.

Exit codes: 0 every file is as its manifest says, 1 one is not or cannot be read, 2 usage.`,
		Example: `  recorder verify ./recordings
  recorder verify ./recordings --json | jq '.recordings[] | select(.ok | not)'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			out := newConsole(cmd.OutOrStdout())
			var progress func(sink.RecordingReport)
			if !asJSON {
				progress = func(r sink.RecordingReport) { printRecording(out, r) }
			}
			report, err := sink.Verify(args[0], progress)
			if err != nil {
				return err
			}
			if asJSON {
				if err := printJSON(cmd.OutOrStdout(), report); err != nil {
					return err
				}
			} else {
				printVerdict(out, report)
			}
			if !report.OK {
				return errSilent
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	return cmd
}

// printRecording prints one recording as a table of its files.
func printRecording(out *console, r sink.RecordingReport) {
	out.Printf("%s  channel %q, %s\n", plain(r.Dir), r.Channel, plain(string(r.State)))
	rows := [][]string{{"FILE", "CODEC", "DURATION", "FRAMES", "BYTES", ""}}
	problems := slices.Clone(r.Problems)
	for _, p := range r.Parts {
		verdict := out.Good("ok")
		if len(p.Problems) > 0 {
			verdict = out.Bad("BAD")
		}
		for _, problem := range p.Problems {
			problems = append(problems, p.File+": "+problem)
		}
		rows = append(rows, []string{plain(p.File), plain(p.Codec), seconds(time.Duration(p.Duration)),
			strconv.FormatInt(p.Frames, 10), strconv.FormatInt(p.Size, 10), verdict})
	}
	out.Table(rows)
	printProblems(out, problems)
}

func printVerdict(out *console, report sink.Report) {
	printProblems(out, report.Problems)
	files, bad := 0, 0
	for _, r := range report.Recordings {
		files += len(r.Parts)
		if !r.OK {
			bad++
		}
	}
	verdict := out.Good("good")
	if !report.OK {
		verdict = out.Bad(fmt.Sprintf("%d BAD", bad+len(report.Problems)))
	}
	out.Printf("recordings %d, files %d: %s\n", len(report.Recordings), files, verdict)
}

func printProblems(out *console, problems []string) {
	for _, problem := range problems {
		out.Printf("  %s %s\n", out.Bad("BAD"), plain(problem))
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
