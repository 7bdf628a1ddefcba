package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"recorder/internal/config"

	"github.com/spf13/cobra"
)

func newCheckCommand() *cobra.Command {
	var path string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check a configuration without connecting to anything",
		Long: `check reads a configuration and the files it names, lays the environment over it as run would, and
names everything that is wrong with it, by line and key. It connects to nothing and writes nothing, so
it does not tell whether recordings.dir can be written to.

Exit codes: 0 the configuration is good, 2 it is not.`,
		Example: `  recorder check --config config.yaml
  recorder check --config config.yaml --json | jq -r '.faults[].key'`,
		Args: noArgument,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(path)
			warnings := config.IgnoredVariables()
			if err == nil {
				warnings = slices.Concat(warnings, cfg.Doubts(time.Now()), cfg.Exposures(path))
			}
			if asJSON {
				if err := printCheck(cmd.OutOrStdout(), err, warnings); err != nil {
					return err
				}
			} else {
				if err == nil {
					fmt.Fprintf(cmd.OutOrStdout(), "%s: good: channels %d, recordings %s\n", path, len(cfg.Channels), cfg.Recordings.Dir)
				}
				for _, warning := range warnings {
					fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", warning)
				}
			}
			if err != nil {
				return &usageError{err}
			}
			return nil
		},
	}
	addConfigFlag(cmd, &path)
	addJSONFlag(cmd, &asJSON)
	return cmd
}

// addConfigFlag adds the flag that all commands with a configuration share.
func addConfigFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVarP(path, "config", "c", "config.yaml", "the configuration `file`")
}

// addJSONFlag adds the flag of commands whose results programs read, too.
func addJSONFlag(cmd *cobra.Command, asJSON *bool) {
	cmd.Flags().BoolVar(asJSON, "json", false, "print the result as JSON")
}

// printCheck prints what loadConfig returned.
func printCheck(w io.Writer, err error, warnings []string) error {
	result := struct {
		OK       bool           `json:"ok"`
		Faults   []config.Fault `json:"faults"`
		Warnings []string       `json:"warnings"`
	}{OK: err == nil, Faults: []config.Fault{}, Warnings: append([]string{}, warnings...)}
	if bad := (*config.ConfigError)(nil); errors.As(err, &bad) {
		result.Faults = bad.Faults
	} else if err != nil {
		result.Faults = []config.Fault{{Message: err.Error()}}
	}
	return printJSON(w, result)
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
