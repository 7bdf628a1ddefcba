package remote

import "time"

const (
	maxRestarts   = 9
	maxDelay      = 30 * time.Second
	answerTimeout = 15 * time.Second

	// An answer is sent again after so long without a transport, so often.
	answerRepeat  = 3 * time.Second
	answerRepeats = 2
)

// ladder is the budget of ICE restarts: at once, then after 1, 2, 4, 8, 16,
// 30, 30 and 30 s. An offer that is not answered within 15 s is a failed
// attempt like any other.
type ladder struct {
	attempt   int
	exhausted bool
	timer     *time.Timer // next attempt, or the watchdog of an offer
}

// step returns how long to wait before the next attempt, or false when all
// were made.
func (l *ladder) step() (time.Duration, bool) {
	if l.attempt >= maxRestarts {
		return 0, false
	}
	delay := time.Duration(0)
	if l.attempt > 0 {
		delay = min(time.Second<<(l.attempt-1), maxDelay)
	}
	l.attempt++
	return delay, true
}

// busy reports whether an attempt or an answer is being waited for.
func (l *ladder) busy() bool { return l.timer != nil }

func (l *ladder) stop() {
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
}

// renew gives a new budget. What is being waited for still is.
func (l *ladder) renew() { l.attempt, l.exhausted = 0, false }

// reset gives a new budget and waits for nothing.
func (l *ladder) reset() {
	l.stop()
	l.renew()
}
