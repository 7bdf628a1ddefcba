package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// healthcheckTimeout is shorter than the time that Docker and Kubernetes give a probe by default.
const healthcheckTimeout = 3 * time.Second

func newHealthcheckCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask a running recorder whether it is alive",
		Long: `healthcheck sends GET /healthz to the http.listen address of the configuration (or of
RECORDER_HTTP_LISTEN), for containers without a shell or curl.

Exit codes: 0 it is alive, 1 it is not, 2 the configuration does not tell the address.`,
		Example: "  recorder healthcheck --config config.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			listen, err := listenAddress(path, cmd.Flags().Changed("config"))
			if err != nil {
				return &usageError{err}
			}
			return healthcheck(cmd.Context(), listen)
		},
	}
	addConfigFlag(cmd, &path)
	return cmd
}

// listenAddress returns http.listen. Unlike loadConfig it minds nothing else, so that a probe does not fail for a mistake that
// a running recorder has not taken on. A file that was not asked for by name need not be there.
func listenAddress(path string, named bool) (string, error) {
	text, err := readFile(path)
	if err != nil && (named || !errors.Is(err, fs.ErrNotExist)) {
		return "", fmt.Errorf("read configuration: %w", err)
	}
	l := newLoader(path)
	cfg := defaultConfig()
	if l.decode(text, &cfg) {
		l.checkListen(cfg.HTTP.Listen)
	}
	l.faults = slices.DeleteFunc(l.faults, func(f Fault) bool {
		return f.Key != "" && f.Key != "http" && !strings.HasPrefix(f.Key, "http.")
	})
	if len(l.faults) > 0 {
		return "", l.error()
	}
	return cfg.HTTP.Listen, nil
}

// healthcheck succeeds if the recorder that listens there answers 200.
func healthcheck(ctx context.Context, listen string) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("http.listen: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "localhost" // all addresses are listened on; this one is always there
	}
	ctx, cancel := context.WithTimeout(ctx, healthcheckTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/healthz", nil)
	if err != nil {
		return err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", req.URL, resp.Status)
	}
	return nil
}
