package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/prometheus/client_golang/prometheus"
)

// reloadPause is how long the files must be left alone before they are read: who changes a configuration often writes more
// than once, or swaps more than one link.
const reloadPause = 200 * time.Millisecond

// reloadRetry is how often a configuration that could not be loaded is tried again. A file that it names may come later, as in
// Kubernetes, where each volume has a time of its own, and is not watched before.
const reloadRetry = 5 * time.Second

// watcher loads the configuration again when it has changed, or when it is told to. A configuration that is wrong changes
// nothing.
type watcher struct {
	path   string
	apply  func(Config) error
	log    *slog.Logger
	read   [][]byte // the files as they were last read, whatever was in them
	named  []string // the files that the configuration names
	failed string   // why the configuration could not be loaded when that was last tried; empty if it could
	notify *fsnotify.Watcher

	successful prometheus.Gauge
	succeeded  prometheus.Gauge
}

// newWatcher watches the configuration at path, of which cfg is what it held. The directories of its files are watched,
// because editors replace a file, and Kubernetes the link to the directory that it is in; and the files themselves, because
// one that is mounted alone is written in place, which its directory does not tell.
func newWatcher(path string, cfg *Config, reg prometheus.Registerer, apply func(Config) error, log *slog.Logger) (*watcher, error) {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	w := &watcher{path: path, apply: apply, log: log, notify: notify,
		successful: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "recorder_config_last_reload_successful",
			Help: "1 if the configuration was good when it was last loaded, 0 if an older one is in force.",
		}),
		succeeded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "recorder_config_last_reload_success_timestamp_seconds",
			Help: "When the configuration in force was loaded, in Unix time.",
		}),
	}
	reg.MustRegister(w.successful, w.succeeded)
	w.accept(cfg)
	w.read = w.contents()
	return w, nil
}

// accept notes that cfg is in force.
func (w *watcher) accept(cfg *Config) {
	w.successful.Set(1)
	w.succeeded.SetToCurrentTime()
	w.named = nil
	s := cfg.Signaling
	for _, file := range []string{s.APIKeyFile, s.SecretKey.SecretFile, s.TokenURLFile, cfg.HTTP.WebConfigFile} {
		if file != "" {
			w.named = append(w.named, file)
		}
	}
	for _, file := range append(w.named, w.path) {
		for _, path := range []string{filepath.Dir(file), file} {
			if err := w.notify.Add(path); err != nil {
				w.log.Warn("cannot notice changes of a file of the configuration", "file", file, "err", err)
			}
		}
	}
}

// again is why a configuration is loaded that could not be, and of which nothing is known to have changed.
const again = "tried again"

// Run reloads until ctx ends: when a file has changed, and at every signal of hangups.
func (w *watcher) Run(ctx context.Context, hangups <-chan os.Signal) {
	defer w.notify.Close()
	settled := time.NewTimer(0)
	settled.Stop()
	retry := time.NewTicker(reloadRetry)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			w.reload("signal")
		case <-w.notify.Events:
			settled.Reset(reloadPause)
		case err := <-w.notify.Errors:
			w.log.Warn("a change of the configuration may have been missed", "err", err)
			settled.Reset(reloadPause)
		case <-settled.C:
			if !slices.EqualFunc(w.read, w.contents(), bytes.Equal) {
				w.reload("file changed")
			}
		case <-retry.C:
			if w.failed != "" {
				w.reload(again)
			}
		}
	}
}

// reload loads the configuration and puts it in force, if it is right.
func (w *watcher) reload(why string) {
	w.read = w.contents()
	cfg, err := loadConfig(w.path)
	if err == nil {
		err = w.apply(*cfg)
	}
	if err != nil {
		w.successful.Set(0)
		if text := err.Error(); text != w.failed || why != again {
			w.failed = text
			w.log.Error("configuration not reloaded, the one before stays in force", "why", why, "err", err)
		}
		return
	}
	w.failed = ""
	w.accept(cfg)
	w.log.Info("configuration reloaded", "why", why, "channels", len(cfg.Channels))
}

// contents reads the files that make up the configuration. What cannot be read is nil.
func (w *watcher) contents() [][]byte {
	var all [][]byte
	for _, file := range append([]string{w.path}, w.named...) {
		text, _ := readFile(file)
		all = append(all, text)
	}
	return all
}
