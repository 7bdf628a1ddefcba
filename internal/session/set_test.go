package session

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"recorder/internal/lab/devserver"
	"recorder/internal/sink"
)

func TestCloseReturnsWhatCouldNotBeFinalised(t *testing.T) {
	for name, removed := range map[string]bool{"recorded until the end": false, "left before": true} {
		t.Run(name, func(t *testing.T) {
			inRig(t, devserver.Options{}, func(r *rig) {
				r.start(true)
				time.Sleep(settling)
				found, _ := filepath.Glob(filepath.Join(r.dir, "*", "*"))
				for _, dir := range found {
					manifest := filepath.Join(dir, sink.ManifestName) // which cannot be written any more
					r.must(os.Remove(manifest))
					r.must(os.MkdirAll(filepath.Join(manifest, "in the way"), 0o750))
				}
				if removed {
					r.must(r.set.Apply(nil))
				}
				if err := r.set.Close(); err == nil || !strings.Contains(err.Error(), channel) {
					t.Errorf("got %v", err)
				}
				for _, dir := range found {
					r.must(os.RemoveAll(dir)) // which nobody could finish
				}
			})
		})
	}
}
