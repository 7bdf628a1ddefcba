package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"recorder/internal/sink"
)

// recover finishes, beside all else and until Stop, the recordings that a crash left unfinished. Those whose channel is joined
// again within its reconnect_window are continued, as are those that a stop finished.
func (a *App) recover() {
	ctx, cancel := context.WithCancel(context.Background())
	done := a.root.Recover(ctx)
	a.onStop(func(ctx context.Context) error {
		cancel()
		return wait(ctx, done)
	})
}

func newRepairCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "repair DIR",
		Short: "Finish recordings that a crash left unfinished",
		Long: `repair makes what a killed recorder or a power cut left of a recording, or of all recordings in a
directory or a channel's, into files that are whole: it cuts the frame that was being written, completes headers,
and enters hashes, counts and gaps in the manifest, which says "recovered" from then on. run does the
same whenever it starts. Finished recordings are not touched, nor are those that a live recorder
writes, so it may be used at any time and any number of times.

Exit codes: 0 nothing is left to repair, 1 something could not be repaired or there is no recording,
2 usage.`,
		Example: `  recorder repair ./recordings
  recorder repair ./recordings --json | jq '.recordings[].parts[] | select(.error)'`,
		Args: oneDir,
		RunE: func(cmd *cobra.Command, args []string) error {
			out := newConsole(cmd.OutOrStdout())
			var progress func(sink.RepairedRecording)
			if !asJSON {
				progress = func(r sink.RepairedRecording) {
					r.Dir = shown(r.Dir, args[0])
					printRepaired(out, r)
				}
			}
			report, err := sink.Repair(cmd.Context(), args[0], progress)
			if err != nil {
				return err
			}
			var none error
			if report.Found == 0 && report.OK {
				none = noRecordings(args[0])
				report.OK = false
			}
			if asJSON {
				if err := printJSON(cmd.OutOrStdout(), report); err != nil {
					return err
				}
			} else if none == nil {
				printProblems(out, report.Problems)
				out.Printf("recordings repaired: %d\n", repaired(report))
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

// repaired counts the recordings that were unfinished and are not any more.
func repaired(report sink.RepairReport) (n int) {
	for _, r := range report.Recordings {
		if r.State == sink.StateRecovered {
			n++
		}
	}
	return n
}

// printRepaired prints what became of one recording as a table of the files that were not final.
func printRepaired(out *console, r sink.RepairedRecording) {
	state := string(r.State)
	if r.Busy {
		state = "being written, left alone"
	}
	printHeading(out, r.Dir, r.Channel, state)
	if r.Hashed > 0 {
		out.Printf("  files that had no hash yet: %d\n", r.Hashed)
	}
	if len(r.Parts) > 0 {
		rows := [][]string{{"FILE", "DURATION", "FRAMES", "BYTES CUT", ""}}
		for _, p := range r.Parts {
			verdict := out.Good("repaired")
			if p.Error != "" {
				verdict = out.Bad("EMPTY: ") + plain(p.Error)
			}
			rows = append(rows, []string{plain(p.File), fmt.Sprintf("%.2f s", p.Duration.Duration().Seconds()),
				strconv.FormatInt(p.Frames, 10), strconv.FormatInt(p.Cut, 10), verdict})
		}
		out.Table(rows)
	}
	printProblems(out, r.Problems)
}
