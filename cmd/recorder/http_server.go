package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/exporter-toolkit/web"
)

// newHTTPServer returns a server on which a client cannot hold anything for long.
func newHTTPServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
}

// serveHTTP serves until the server is closed, over TLS and to those with a password if a web configuration file says so.
func serveHTTP(server *http.Server, l net.Listener, webConfig string, log *slog.Logger) error {
	if webConfig == "" {
		return server.Serve(l)
	}
	return web.Serve(l, server, &web.FlagConfig{WebConfigFile: &webConfig}, log.With("file", webConfig))
}

// httpPatience is how long a stop waits for the requests under way.
const httpPatience = time.Second

// stopHTTP ends a server. A client that takes its time, or only holds its connection, is no reason for a stop to fail.
func stopHTTP(ctx context.Context, server *http.Server) {
	ctx, cancel := context.WithTimeout(ctx, httpPatience)
	defer cancel()
	if server.Shutdown(ctx) != nil {
		_ = server.Close() // of connections that nobody waits for
	}
}
