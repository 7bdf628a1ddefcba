package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"recorder/internal/lab/devserver"
)

func newDevserverCommand() *cobra.Command {
	var listen, sdk string
	var pairs []string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "devserver",
		Short: "Serve the same protocol on this machine, for development",
		Long: `devserver speaks the protocol of Metered Realtime Messaging, in memory, so that a recorder and a
browser can meet without an account. On / it serves a page on which to join a channel with camera
and microphone through the official browser SDK.

It accepts every publishable key that begins with pk_live_ and tokens signed with the secret keys it
was given. It is no server for production.

Exit codes: 0 stopped by SIGINT or SIGTERM, 1 failed, 2 usage.`,
		Example: `  recorder devserver
  recorder devserver --secret-key sk_id_1=sk_secret_1
  recorder devserver --sdk node_modules/@metered-ca/realtime/dist/index.umd.js   # a browser without network

  RECORDER_SIGNALING_URL=ws://127.0.0.1:9292 RECORDER_SIGNALING_API_KEY=pk_live_dev \
    recorder run --config config.yaml`,
		Args: noArgument,
		RunE: func(cmd *cobra.Command, _ []string) error {
			secrets, err := parseSecretKeys(pairs)
			if err != nil {
				return &usageError{err}
			}
			if err := checkSDK(sdk); err != nil {
				return &usageError{err}
			}
			level := slog.LevelInfo
			if verbose {
				level = slog.LevelDebug
			}
			return runDevserver(cmd.Context(), cmd.OutOrStdout(), listen, devserver.Options{
				Secrets: secrets,
				SDKFile: sdk,
				Logger:  newLogger(cmd.ErrOrStderr(), "text", level),
			})
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:9292", "the `address` to listen on")
	cmd.Flags().StringVar(&sdk, "sdk", "", "serve browsers this `file`, a UMD build of the official SDK, instead of one from the network")
	cmd.Flags().StringArrayVar(&pairs, "secret-key", nil, "accept tokens signed with this key: `id=secret` (repeatable)")
	cmd.Flags().BoolVar(&verbose, "verbose", false, "log at debug level")
	return cmd
}

// parseSecretKeys reads pairs of id=secret. The error does not quote them.
func parseSecretKeys(pairs []string) (map[string]string, error) {
	secrets := map[string]string{}
	for i, pair := range pairs {
		id, secret, ok := strings.Cut(pair, "=")
		if !ok || id == "" || secret == "" {
			return nil, fmt.Errorf("--secret-key number %d: want id=secret", i+1)
		}
		if _, ok := secrets[id]; ok {
			return nil, fmt.Errorf("--secret-key %s is given twice", id)
		}
		secrets[id] = secret
	}
	return secrets, nil
}

// checkSDK finds a wrong path before a browser does.
func checkSDK(path string) error {
	if path == "" {
		return nil
	}
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("want a file")
	}
	if err != nil {
		return fmt.Errorf("--sdk %s: %w", path, err)
	}
	return nil
}

// reachable is an address that this machine reaches a listener at.
func reachable(listener net.Addr) string {
	if tcp, ok := listener.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return fmt.Sprintf("127.0.0.1:%d", tcp.Port)
	}
	return listener.String()
}

// runDevserver serves until ctx ends.
func runDevserver(ctx context.Context, stdout io.Writer, listen string, opts devserver.Options) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("devserver: %w", err)
	}
	server := devserver.New(opts)
	web := newHTTPServer(server)
	address := reachable(l.Addr())
	fmt.Fprintf(stdout, "signaling.url: ws://%s\njoin page:     http://%s/\n", address, address)

	served := make(chan error, 1)
	go func() { served <- web.Serve(l) }()
	select {
	case err := <-served:
		server.Close()
		return fmt.Errorf("devserver: %w", err)
	case <-ctx.Done():
	}
	server.Close()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := web.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("devserver: %w", err)
	}
	return nil
}
