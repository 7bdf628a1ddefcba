package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"recorder/internal/config"

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
	apply  func(config.Config) error
	log    *slog.Logger
	read   config.Contents // the files as they were last loaded, whatever was in them
	failed string          // why the configuration could not be loaded, or put in force, when that was last tried; empty if it could
	notify *fsnotify.Watcher

	successful prometheus.Gauge
	succeeded  prometheus.Gauge
}

// newWatcher watches the configuration at path; read is what was in its files when it was loaded. The directories of the files
// are watched, because editors replace a file, and Kubernetes the link to the directory that it is in; and the files themselves,
// because one that is mounted alone is written in place, which its directory does not tell.
func newWatcher(path string, read config.Contents, reg prometheus.Registerer, apply func(config.Config) error, log *slog.Logger) (*watcher, error) {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	w := &watcher{path: path, apply: apply, log: log, read: read, notify: notify,
		successful: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "recorder_config_last_reload_successful",
			Help: "1 if the configuration that was loaded last is in force, 0 if it was wrong or not all of it could be put in force.",
		}),
		succeeded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "recorder_config_last_reload_success_timestamp_seconds",
			Help: "When a configuration was last loaded and all of it put in force, in Unix time.",
		}),
	}
	reg.MustRegister(w.successful, w.succeeded)
	w.accept()
	w.watch()
	return w, nil
}

// accept notes that what was loaded last is in force.
func (w *watcher) accept() {
	w.succeeded.SetToCurrentTime() // first: whoever reads a success reads its time, too
	w.successful.Set(1)
	w.failed = ""
}

// watch watches the files that were loaded last.
func (w *watcher) watch() {
	for file := range w.read {
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
	settled := time.NewTimer(reloadPause) // a file may have changed after it was loaded and before it was watched
	retry := time.NewTicker(reloadRetry)
	defer retry.Stop()
	reload := func(why string) {
		if ctx.Err() != nil {
			return // a signal may have come with the end
		}
		w.reload(why)
		settled.Reset(reloadPause) // as above: it may name other files than before
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			reload("signal")
		case <-w.notify.Events:
			settled.Reset(reloadPause)
		case err := <-w.notify.Errors:
			w.log.Warn("a change of the configuration may have been missed", "err", err)
			settled.Reset(reloadPause)
		case <-settled.C:
			if w.read.Changed() {
				reload("file changed")
			}
		case <-retry.C:
			if w.failed != "" {
				reload(again)
			}
		}
	}
}

// reload loads the configuration and puts it in force, if it is right.
func (w *watcher) reload(why string) {
	cfg, read, err := config.LoadFiles(w.path)
	w.read = read
	if err != nil {
		w.refuse(why, "configuration not reloaded, the one before stays in force", err)
		return
	}
	err = w.apply(*cfg)
	w.watch()
	if err != nil {
		w.refuse(why, "configuration reloaded, but not every channel could be made what it says", err)
		return
	}
	w.accept()
	w.log.Info("configuration reloaded", "why", why, "channels", len(cfg.Channels))
}

// refuse notes that the configuration could not be loaded, or put in force, and says so: once, while it is tried again.
func (w *watcher) refuse(why, what string, err error) {
	w.successful.Set(0)
	if text := err.Error(); text != w.failed || why != again {
		w.failed = text
		w.log.Error(what, "why", why, "err", err)
	}
}
