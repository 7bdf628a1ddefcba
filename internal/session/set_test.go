package session

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"recorder/internal/lab/devserver"
)

func TestCloseReturnsWhatCouldNotBeFinalised(t *testing.T) {
	for name, removed := range map[string]bool{"recorded until the end": false, "left before": true} {
		t.Run(name, func(t *testing.T) {
			inRig(t, devserver.Options{}, func(r *rig) {
				r.start(true)
				time.Sleep(settling)
				found, _ := filepath.Glob(filepath.Join(r.dir, "*"))
				for _, dir := range found {
					r.must(os.RemoveAll(dir))
					r.must(os.WriteFile(dir, nil, 0o600)) // nothing can be written there any more, and no other directory be made
				}
				if removed {
					r.must(r.set.Apply(nil))
				}
				if err := r.set.Close(); err == nil || !strings.Contains(err.Error(), channel) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}
