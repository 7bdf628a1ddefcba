package remote

import "time"

// untilBeat is the time to the next multiple of an interval. What is done
// every so often is done together then: waking a process that sleeps costs
// more than most of what it wakes up for.
func untilBeat(interval time.Duration) time.Duration {
	return interval - time.Duration(time.Now().UnixNano())%interval
}
