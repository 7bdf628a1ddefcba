package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
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
RECORDER_HTTP_LISTEN, or to 127.0.0.1:9464 where neither says one), for containers without a shell or
curl. With http.web_config_file it asks over TLS, or without if that is what is answered, and takes
any certificate: it tells the other side nothing. It has no password and no certificate to show. A
recorder that asks for one, or says that it is asked too often, is alive.

Exit codes: 0 it is alive, 1 it is not, 2 the configuration does not tell the address.`,
		Example: "  recorder healthcheck --config config.yaml",
		Args:    noArgument,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := httpConfig(path, cmd.Flags().Changed("config"))
			if err != nil {
				return &usageError{err}
			}
			return healthcheck(cmd.Context(), cfg)
		},
	}
	addConfigFlag(cmd, &path)
	return cmd
}

// httpConfig returns where the configuration says the recorder answers. Unlike loadConfig it minds nothing else, so that a
// probe does not fail for a mistake that a running recorder has not taken on. A file that was not asked for by name need not
// be there.
func httpConfig(path string, named bool) (HTTPConfig, error) {
	text, err := readConfiguration(path)
	if err != nil && (named || !errors.Is(err, fs.ErrNotExist)) {
		return HTTPConfig{}, fmt.Errorf("read configuration: %w", err)
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
		return HTTPConfig{}, l.error()
	}
	return cfg.HTTP, nil
}

// healthcheck succeeds if a recorder answers there, be it that it wants to know who asks.
func healthcheck(ctx context.Context, cfg HTTPConfig) error {
	host, port, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return fmt.Errorf("http.listen: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "localhost" // all addresses are listened on; this one is always there
	}
	ctx, cancel := context.WithTimeout(ctx, healthcheckTimeout)
	defer cancel()
	address := url.URL{Scheme: "http", Host: net.JoinHostPort(host, port), Path: "/healthz"}
	if cfg.WebConfigFile == "" {
		return ask(ctx, address)
	}
	secure := address
	secure.Scheme = "https"
	if err = ask(ctx, secure); errors.Is(err, http.ErrSchemeMismatch) {
		return ask(ctx, address)
	}
	return err
}

// ask succeeds if the server at address says that it is well, or does not let us in.
func ask(ctx context.Context, address url.URL) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return err
	}
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if refusal := (*net.OpError)(nil); errors.As(err, &refusal) && refusal.Op == "remote error" {
		return nil // a TLS alert, for want of a certificate
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK, http.StatusUnauthorized, http.StatusTooManyRequests:
		return nil
	default:
		return fmt.Errorf("%s answered %s", req.URL, resp.Status)
	}
}
