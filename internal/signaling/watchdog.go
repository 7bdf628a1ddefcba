package signaling

import "time"

// watchdog decides when a silent connection is pinged and when it is given up.
// Any message counts as a sign of life. It knows no clock.
type watchdog struct {
	timeout  time.Duration // ≤ 0: off
	interval time.Duration // of silence before each of the two pings
	pings    int           // sent since the latest message
	seen     time.Time     // the latest message the pings were counted from
}

const maxPings = 2

func newWatchdog(timeout time.Duration) watchdog {
	return watchdog{timeout: timeout, interval: max(timeout/(maxPings+1), time.Second)}
}

// check tells what to do when the latest message came at last, and in how long to
// check again.
func (w *watchdog) check(last, now time.Time) (ping, dead bool, next time.Duration) {
	if !last.Equal(w.seen) {
		w.seen, w.pings = last, 0
	}
	silence := now.Sub(last)
	if silence >= w.timeout {
		return false, true, 0
	}
	if w.pings < maxPings && silence >= time.Duration(w.pings+1)*w.interval {
		w.pings++
		ping = true
	}
	due := w.timeout
	if w.pings < maxPings {
		due = min(due, time.Duration(w.pings+1)*w.interval)
	}
	return ping, false, max(due-silence, 0)
}
