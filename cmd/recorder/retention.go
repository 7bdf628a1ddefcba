package main

import (
	"context"
	"time"

	"recorder/internal/sink"
)

// retentionInterval is how often old recordings are looked for.
const retentionInterval = time.Minute

// retain removes old recordings until Stop, if the configuration says which.
func (a *App) retain() {
	policy := sink.Retention{MaxAge: a.cfg.Recordings.MaxAge, MaxSize: int64(a.cfg.Recordings.MaxTotalSize)}
	if policy == (sink.Retention{}) {
		return
	}
	a.background(func(ctx context.Context) {
		tick := time.NewTicker(retentionInterval)
		defer tick.Stop()
		for {
			removed, err := a.root.Retain(ctx, policy)
			if len(removed) > 0 {
				a.log.Info("old recordings removed", "recordings", removed)
			}
			if err != nil && ctx.Err() == nil {
				a.log.Error("could not remove old recordings", "err", err)
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
}
