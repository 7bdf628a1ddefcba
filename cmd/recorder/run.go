package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"recorder/internal/config"
	"recorder/internal/signals"
	"recorder/internal/sink"
)

// runCommand is the name of the command that goes on until it is told to stop.
const runCommand = "run"

func newRunCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   runCommand,
		Short: "Record the configured channels until told to stop",
		Long: `run joins the channels of the configuration, one bot each, and records every stream that their
members send. It reconnects for as long as it runs. SIGINT or SIGTERM makes it leave the channels
and finish the files; another one, a second later or more, ends it at once. Recordings that another
run ended less than reconnect_window ago are continued.

The configuration is loaded again when its file changes, and on SIGHUP. Channels that it adds are
joined, those that it removes are left; recordings that it does not concern lose nothing. A wrong
configuration is logged and changes nothing.

Exit codes: 0 stopped and every file is final, 1 failed or some are not, within shutdown_timeout,
2 the configuration is wrong.`,
		Example: `  recorder run --config config.yaml
  RECORDER_SIGNALING_API_KEY=pk_live_… recorder run --config config.yaml`,
		Args: noArgument,
		RunE: func(cmd *cobra.Command, _ []string) error {
			signal.Ignore(syscall.SIGPIPE) // whoever reads the log may go; the recording goes on without it
			cfg, read, err := config.LoadFiles(path)
			if err != nil {
				return &usageError{err}
			}
			level := new(slog.LevelVar)
			level.Set(cfg.Log.Level)
			log := newLogger(cmd.ErrOrStderr(), cfg.Log.Format, level)
			for _, warning := range slices.Concat(config.IgnoredVariables(), cfg.Doubts(time.Now()), cfg.Exposures(path)) {
				log.Warn(warning)
			}
			if limit, needed := sink.DescriptorLimit(), neededDescriptors(cfg); limit < needed {
				log.Warn("the limit of file descriptors is low for this configuration: files are closed and opened again while they are "+
					"written, and connections may fail", "limit", limit, "needed", needed, "channels", len(cfg.Channels))
			}
			ctx := cmd.Context()
			allowToStop(ctx, cfg.ShutdownTimeout+overtime, errTooLate(cfg.ShutdownTimeout))
			return record(ctx, path, *cfg, read, log, level)
		},
	}
	addConfigFlag(cmd, &path)
	return cmd
}

// overtime is how much longer than shutdown_timeout a stop is waited for: enough to hear what it was that took so long.
const overtime = 200 * time.Millisecond

type errTooLate time.Duration

func (e errTooLate) Error() string {
	return fmt.Sprintf("not done within shutdown_timeout, %v", time.Duration(e))
}

// record records until ctx ends, following the configuration at path, of which cfg is what it said when its files were read.
func record(ctx context.Context, path string, cfg config.Config, read config.Contents, log *slog.Logger, level *slog.LevelVar) error {
	defer tuneRuntime(ctx)()
	app, err := NewApp(AppOptions{Config: cfg, Logger: log, Level: level})
	if err != nil {
		return err
	}
	var reloads sync.WaitGroup
	if err = app.Start(); err == nil {
		err = follow(ctx, app, path, read, signals.Hangups, &reloads)
	}
	log.Info("recorder stopping", "timeout", cfg.ShutdownTimeout)
	stopping, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), cfg.ShutdownTimeout, errTooLate(cfg.ShutdownTimeout))
	defer cancel()
	err = errors.Join(err, app.Stop(stopping))
	done := make(chan struct{})
	go func() {
		defer close(done)
		reloads.Wait()
	}()
	_ = wait(stopping, done) // after the stop, which keeps a reload from joining more; every file is final without it
	if err != nil {
		return err
	}
	log.Info("recorder stopped")
	return nil
}

// follow reloads the configuration as it changes, until ctx ends or the App fails. A reload under way may outlast it: reloads
// is what to wait for then.
func follow(ctx context.Context, app *App, path string, read config.Contents, hangups <-chan os.Signal, reloads *sync.WaitGroup) error {
	watch, err := newWatcher(path, read, app.reg, app.Reload, app.log)
	if err != nil {
		return fmt.Errorf("watch the configuration: %w", err)
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	reloads.Go(func() { watch.Run(watching, hangups) })
	select {
	case <-ctx.Done():
		return nil
	case err := <-app.Failed():
		return err
	}
}
