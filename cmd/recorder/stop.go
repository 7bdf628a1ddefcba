package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"recorder/internal/signals"
)

// sameSignal is how long after a signal others count as the same one: who sends it to a process and to its group, or to a
// terminal in which a wrapper passes it on, means it once.
const sameSignal = time.Second

// errInterrupted is why a command was told to stop.
var errInterrupted = errors.New("interrupted")

// untilSignal returns a context that the first SIGINT or SIGTERM ends. A second one, later than sameSignal, ends the process at
// once.
func untilSignal() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() {
		awaitSecond(signals.Stops, func() { cancel(errInterrupted) })
		sayBriefly(os.Stderr, "recorder: a second signal: ended at once; files may not be final")
		os.Exit(exitFailed)
	}()
	return ctx
}

// stopOnHangup calls stop when the terminal goes, until ctx ends. A process under nohup goes on.
func stopOnHangup(ctx context.Context, stop func()) {
	if signals.HangupIgnored() {
		return
	}
	select {
	case <-signals.Hangups:
		stop()
	case <-ctx.Done():
	}
}

// awaitSecond calls stop at the first signal, and returns at another that is not the same.
func awaitSecond(signals <-chan os.Signal, stop func()) {
	<-signals
	received := time.Now() // before stop, which may take its time
	stop()
	for range signals {
		if time.Since(received) >= sameSignal {
			return
		}
	}
}

// stopPatience is how long a command may take to end once it was told to. With what it takes to say so, that is less than two
// seconds.
const stopPatience = 1500 * time.Millisecond

// stopLimit is how long the command that runs may take to end, and the error if it takes longer.
type stopLimit struct{ set atomic.Pointer[stopAllowance] }

type stopAllowance struct {
	time time.Duration
	err  error
}

type stopLimitKey struct{}

// allowToStop gives the command that runs under ctx another time to end than stopPatience.
func allowToStop(ctx context.Context, d time.Duration, err error) {
	if limit, ok := ctx.Value(stopLimitKey{}).(*stopLimit); ok {
		limit.set.Store(&stopAllowance{d, err})
	}
}

// bounded runs a command and returns its exit code. A command that does not end in time after ctx has ended is left behind,
// whatever it waits for: a disk that hangs, or a pipe that nobody reads.
func bounded(ctx context.Context, stderr io.Writer, command func(context.Context) (exitCode int)) int {
	limit := new(stopLimit)
	limit.set.Store(&stopAllowance{stopPatience, fmt.Errorf("interrupted, and not done within %v", stopPatience)})
	ended := make(chan int, 1)
	go func() { ended <- command(context.WithValue(ctx, stopLimitKey{}, limit)) }()
	select {
	case code := <-ended:
		return code
	case <-ctx.Done():
	}
	told := time.Now()
	for {
		allowed := limit.set.Load()
		select {
		case code := <-ended:
			return code
		case <-time.After(time.Until(told.Add(allowed.time))):
		}
		if limit.set.Load() == allowed { // else it has more time since
			sayBriefly(stderr, "recorder: "+allowed.err.Error())
			return exitFailed
		}
	}
}

// sayBriefly writes a last line, if somebody takes it right away.
func sayBriefly(w io.Writer, line string) {
	said := make(chan struct{})
	go func() {
		defer close(said)
		fmt.Fprintln(w, line)
	}()
	select {
	case <-said:
	case <-time.After(100 * time.Millisecond):
	}
}
