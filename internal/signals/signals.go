// Package signals takes SIGINT, SIGTERM and SIGHUP as early as a Go program can. The packages of the recorder take up to
// 25 ms to initialise, and a stop that came meanwhile would end the process as if nobody had asked for a clean one.
//
// Go initialises packages in the order of their paths, each after those that it imports. This one therefore imports
// nothing but the system: then it is initialised before the reflect package, and so before all that imports fmt.
package signals

import (
	"os"
	"os/signal"
	"syscall"
)

// hangupIgnored is read first, because Notify ends what nohup has set.
var hangupIgnored = signal.Ignored(syscall.SIGHUP)

var (
	// Stops receives SIGINT and SIGTERM.
	Stops = notify(os.Interrupt, syscall.SIGTERM)
	// Hangups receives SIGHUP.
	Hangups = notify(syscall.SIGHUP)
)

// HangupIgnored reports whether the process was started with SIGHUP ignored, as nohup does.
func HangupIgnored() bool { return hangupIgnored }

// notify keeps one signal that nobody has taken yet; more of them say nothing new.
func notify(signals ...os.Signal) <-chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, signals...)
	return c
}
