package main

import (
	"os"
	"path/filepath"
	"testing"

	"recorder/internal/config"
)

func load(t *testing.T, text string) *config.Config {
	t.Helper()
	cfg, err := config.Load(write(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func secretFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
