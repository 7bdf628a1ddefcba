//go:build linux

package containers

import (
	"testing"

	"recorder/internal/e2e"
)

func TestMain(m *testing.M) { e2e.Main(m) }
