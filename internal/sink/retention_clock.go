package sink

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"time"
)

const (
	// wallStep is by how much the wall clock may move against the monotonic one between two looks.
	wallStep = 5 * time.Minute
	// wallAway is for how long nobody may have looked at the clock before its time is doubted: it cannot be
	// told whether the recorder was down for that long or the clock leapt.
	wallAway = 24 * time.Hour
	// wallSettle is for how long a doubted clock has to be steady before it is believed.
	wallSettle = 24 * time.Hour
)

// wallMark is a file below the root whose time of change is the wall clock when it was last believed.
// A person who touches it says that the clock is right.
const wallMark = ".recorder/clock"

// wallState is what Retain thinks of the wall clock.
type wallState int

const (
	wallUnseen wallState = iota
	wallBelieved
	wallDoubted
)

// wallWatch notices a wall clock that leaps, by which ages would be wrong and all would be removed at once,
// or the newest first. It reads no clock itself.
type wallWatch struct {
	state wallState
	wall  time.Time     // at the last look
	at    time.Duration // the same on the monotonic clock
	since time.Duration // when it was last seen to leap
}

// look returns the state of the clock now, wall by the wall clock and at by the monotonic one. mark is the
// time of the clock's mark and newest that of the newest recording, either zero if there is none.
func (c *wallWatch) look(wall time.Time, at time.Duration, mark, newest time.Time) wallState {
	near := func(t time.Time, past time.Duration) bool {
		d := wall.Sub(t)
		return !t.IsZero() && d >= -wallStep && d <= past
	}
	step := wall.Sub(c.wall) - (at - c.at)
	switch {
	case c.state == wallUnseen:
		c.state = wallBelieved
		known := !mark.IsZero() || !newest.IsZero()
		if known && !near(mark, wallAway) && !near(newest, wallAway) {
			c.state, c.since = wallDoubted, at
		}
	case step.Abs() > wallStep:
		c.state, c.since = wallDoubted, at
	}
	if c.state == wallDoubted && (at-c.since >= wallSettle || near(mark, wallStep)) {
		c.state = wallBelieved
	}
	c.wall, c.at = wall, at
	return c.state
}

// clockBelieved reports whether the wall clock can be believed, says so when that changes, and marks the
// time if it can.
func (r *Root) clockBelieved(wall time.Time, at time.Duration, newest time.Time) bool {
	var mark time.Time
	if info, err := r.dir().Lstat(wallMark); err == nil && info.Mode().IsRegular() {
		mark = info.ModTime()
	}
	before := r.clock.state
	state := r.clock.look(wall, at, mark, newest)
	r.metrics.doubted.Store(state == wallDoubted)
	switch {
	case state == wallDoubted:
		if before != wallDoubted {
			r.options.Logger.Warn("the clock leapt or could not be checked: no recordings are removed until it has been steady",
				"now", wall.UTC(), "newest_recording", newest, "steady_for", wallSettle, "or_touch", path.Join(r.options.Dir, wallMark))
		}
		return false
	case before == wallDoubted:
		r.options.Logger.Info("the clock is believed again: old recordings are removed")
	}
	if err := r.markClock(wall); err != nil && before != wallBelieved {
		r.options.Logger.Warn("could not mark the time of the clock", "err", err)
	}
	return true
}

// markClock sets the time of the mark.
func (r *Root) markClock(wall time.Time) error {
	if err := r.dir().Mkdir(path.Dir(wallMark), dirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := r.dir().OpenFile(wallMark, os.O_WRONLY|os.O_CREATE, filePerm)
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), r.dir().Chtimes(wallMark, wall, wall))
}
