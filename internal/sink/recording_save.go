package sink

import "time"

const (
	saveInterval = time.Second      // between manifests when something happened
	saveIdle     = 10 * time.Second // and when only counters moved
)

// changed says that the manifest is to be written soon. mu is held.
func (rec *Recording) changed() {
	rec.version++
	select {
	case rec.save <- struct{}{}:
	default:
	}
}

// saver writes the manifest after changes, off the pump.
func (rec *Recording) saver() {
	pause := time.NewTimer(0)
	defer pause.Stop()
	idle := time.NewTicker(saveIdle)
	defer idle.Stop()
	for {
		select {
		case <-rec.done:
			return
		case <-idle.C:
		case <-rec.save:
			select { // several changes, one manifest
			case <-rec.done:
				return
			case <-pause.C:
			}
		}
		begun := time.Now()
		if err := rec.writeManifest(0); err != nil {
			rec.mu.Lock()
			if rec.homeless == nil { // else that is said
				rec.refused = rec.complain("could not write manifest", "err", err) || rec.refused
			}
			rec.mu.Unlock()
		}
		pause.Reset(max(saveInterval, 20*time.Since(begun))) // a large manifest on a slow disk
	}
}

// writeManifest stores the manifest as it is now, unless one of at least the version wanted is
// stored already; 0 always stores.
func (rec *Recording) writeManifest(want uint64) error {
	rec.saving.Lock()
	defer rec.saving.Unlock()
	rec.mu.Lock()
	now := rec.now()
	if want > 0 && rec.stored >= want {
		rec.mu.Unlock()
		return nil
	}
	version := rec.version
	rec.manifest.Updated = rec.instant(now)
	for _, s := range rec.streams {
		s.account(now)
	}
	m := rec.manifest.copy()
	rec.mu.Unlock()
	b, err := m.Encode()
	if err == nil {
		done := rec.watch(workManifest)
		err = rec.root.descriptors.need(func() error { return rec.store.Save(b) })
		done()
	}
	if err == nil {
		rec.mu.Lock()
		rec.stored, rec.weight = version, len(b)
		rec.mu.Unlock()
	}
	return err
}
