package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"
)

func newRunCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Record the configured channels until told to stop",
		Long: `run joins the channels of the configuration, one bot each, and records every stream that their
members send. It reconnects for as long as it runs. SIGINT or SIGTERM makes it leave the channels
and finish the files; a second one ends it at once.

Exit codes: 0 stopped and every file is final, 1 failed, 2 the configuration is wrong.`,
		Example: `  recorder run --config config.yaml
  RECORDER_SIGNALING_API_KEY=pk_live_… recorder run --config config.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(path)
			if err != nil {
				return &usageError{err}
			}
			return run(cmd.Context(), *cfg, newLogger(cmd.ErrOrStderr(), cfg.Log))
		},
	}
	addConfigFlag(cmd, &path)
	return cmd
}

// run records until ctx ends.
func run(ctx context.Context, cfg Config, log *slog.Logger) error {
	app, err := NewApp(AppOptions{Config: cfg, Logger: log})
	if err != nil {
		return err
	}
	err = app.Start()
	if err == nil {
		select {
		case <-ctx.Done():
		case err = <-app.Failed():
		}
	}
	log.Info("recorder stopping", "timeout", cfg.ShutdownTimeout)
	timeout := fmt.Errorf("not done within shutdown_timeout, %v", cfg.ShutdownTimeout)
	stopping, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), cfg.ShutdownTimeout, timeout)
	defer cancel()
	if err := errors.Join(err, app.Stop(stopping)); err != nil {
		return err
	}
	log.Info("recorder stopped")
	return nil
}
