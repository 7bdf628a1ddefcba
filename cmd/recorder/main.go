// Command recorder joins channels of Metered Realtime Messaging without a browser and writes what their members send to
// files: Opus to Ogg, VP8, VP9 and AV1 to IVF, H.264 to Matroska.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"recorder/internal/config"

	"github.com/spf13/cobra"
)

// Exit codes, the same for every command.
const (
	exitOK     = 0
	exitFailed = 1 // it was tried and did not work
	exitUsage  = 2 // the command line or the configuration is wrong; nothing was tried
)

func main() {
	os.Exit(execute(untilSignal(), os.Args[1:], os.Stdout, os.Stderr))
}

// execute runs the command that args name and returns its exit code, at the latest when the time that a stop may take is over.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	return bounded(ctx, stderr, func(ctx context.Context) int {
		return executeCommand(ctx, func() { stop(errInterrupted) }, args, stdout, stderr)
	})
}

// executeCommand runs a command until its end. SIGHUP stops each but run, which loads its configuration again.
func executeCommand(ctx context.Context, stop func(), args []string, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if named, _, err := root.Find(args); err != nil || named.Name() != runCommand {
		go stopOnHangup(ctx, stop)
	}

	// What cobra refuses before a command runs is a mistake in the command line.
	running := false
	for _, cmd := range root.Commands() {
		if run := cmd.RunE; run != nil {
			cmd.RunE = func(cmd *cobra.Command, args []string) error {
				running = true
				return run(cmd, args)
			}
		}
	}

	cmd, err := root.ExecuteContextC(ctx)
	var usage *usageError
	var faults *config.ConfigError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errSilent):
		return exitFailed
	case !running:
		fmt.Fprintf(stderr, "recorder: %v\nRun '%s --help' for usage.\n", err, cmd.CommandPath())
		return exitUsage
	case errors.As(err, &faults):
		fmt.Fprintln(stderr, faults) // each names its file, line and key
		return exitUsage
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "recorder: %v\n", err)
		return exitUsage
	default:
		fmt.Fprintf(stderr, "recorder: %v\n", err)
		return exitFailed
	}
}

// usageError is a mistake of the user's in what a command was given, exit code 2.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// errSilent ends a command with exit code 1 when its output has said why already.
var errSilent = errors.New("failed")

// noArgument refuses what stands beside the flags, such as a configuration that is not named by its flag.
func noArgument(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if cmd.Flags().Lookup("config") != nil {
		hint = "; the configuration is --config"
	}
	return fmt.Errorf("%s takes no argument, got %q%s", cmd.Name(), args[0], hint)
}

// oneDir wants the directory of all recordings, or of one.
func oneDir(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s wants one DIR, got %d", cmd.Name(), len(args))
	}
	if info, err := os.Stat(args[0]); err == nil && !info.IsDir() {
		return fmt.Errorf("%s wants a directory, and %s is a file", cmd.Name(), args[0])
	}
	return nil
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "recorder",
		Short: "Records channels of Metered Realtime Messaging",
		Long: `recorder joins channels of Metered Realtime Messaging without a browser and writes
what their members send to files: Opus to Ogg, VP8, VP9 and AV1 to IVF, H.264 to Matroska.

Exit codes: 0 it worked, 1 it failed, 2 the command line or the configuration is wrong. SIGINT,
SIGTERM and, but for run, SIGHUP stop every command: run and devserver exit with 0 then, the others
with 1 if they were not done. run takes at most shutdown_timeout for it, the others 2 s.`,
		Example: `  recorder demo                        see it work: no account, network or configuration needed
  recorder check --config config.yaml  find what is wrong with a configuration
  recorder run --config config.yaml    record until SIGINT or SIGTERM`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.Version = buildInfo().String()
	root.SetVersionTemplate("{{.Version}}\n")
	root.AddCommand(
		newBenchCommand(),
		newCheckCommand(),
		newDemoCommand(),
		newDevserverCommand(),
		newHealthcheckCommand(),
		newRepairCommand(),
		newRunCommand(),
		newVerifyCommand(),
		newVersionCommand(),
	)
	return root
}
