// Package guard keeps a fault in the work for one member from ending the
// process, and with it the recordings of all others.
package guard

import (
	"errors"
	"runtime/debug"
)

// ErrExited is what work ended of that called [runtime.Goexit].
var ErrExited = errors.New("the goroutine was ended")

// Recover has to be deferred itself, by the work to be guarded. If that panics
// the panic ends there, and failed is called with its value and the stack. A
// lock that the work holds has to be released by the work, deferred too.
//
// It costs nothing where there is no panic: no allocation, provided that failed
// is a value that exists already.
func Recover(failed func(reason any, stack []byte)) {
	if r := recover(); r != nil {
		failed(r, debug.Stack())
	}
}
