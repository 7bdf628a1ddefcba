package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	probeInterval = 5 * time.Second
	probeTimeout  = 3 * probeInterval // a disk that hangs gives no error, only no answer
)

// errNoAnswer is what a diskProbe reports of a disk that hangs.
var errNoAnswer = errors.New("the disk does not answer")

// diskProbe writes to a directory every now and then, so that those who ask never wait for the disk.
type diskProbe struct {
	dir  string
	last atomic.Pointer[probeResult]
}

type probeResult struct {
	at  time.Time
	err error
}

func newDiskProbe(dir string) *diskProbe { return &diskProbe{dir: dir} }

// Run probes until ctx ends.
func (p *diskProbe) Run(ctx context.Context) {
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	for {
		p.probe()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (p *diskProbe) probe() {
	err := tryWrite(p.dir)
	p.last.Store(&probeResult{at: time.Now(), err: err})
}

// Err returns what was wrong with the directory when it was last tried, or nil.
func (p *diskProbe) Err(now time.Time) error {
	last := p.last.Load()
	switch {
	case last == nil:
		return errors.New("not tried yet")
	case now.Sub(last.at) > probeTimeout:
		return errNoAnswer
	default:
		return last.err
	}
}

// tryWrite makes a file in dir, writes to it and removes it. The error does not name the file, which means nothing to anybody.
func tryWrite(dir string) error {
	f, err := os.CreateTemp(dir, ".probe-*")
	if err == nil {
		defer os.Remove(f.Name())
		_, err = f.WriteString("probe\n")
		err = errors.Join(err, f.Close())
	}
	if cause, ok := errors.AsType[syscall.Errno](err); ok {
		return fmt.Errorf("cannot be written: %w", cause)
	}
	return err
}
