package config

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// LoadHTTP returns where the configuration says the recorder answers. Unlike Load it minds nothing else, so that a
// probe does not fail for a mistake that a running recorder has not taken on. A file that was not asked for by name need not
// be there.
func LoadHTTP(path string, named bool) (HTTPConfig, error) {
	text, err := readConfiguration(path)
	if err != nil && (named || !errors.Is(err, fs.ErrNotExist)) {
		return HTTPConfig{}, fmt.Errorf("read configuration: %w", err)
	}
	l := newLoader(path)
	cfg := Default()
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
