package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
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
	log  *slog.Logger
	try  func(dir string) error
	last atomic.Pointer[probeResult]
}

type probeResult struct {
	at    time.Time
	err   error
	limit error  // why it could not be tried, which is no fault of the directory's; err is that of the last time
	free  uint64 // bytes
	size  uint64
	known bool // free and size are
}

func newDiskProbe(dir string, log *slog.Logger) *diskProbe {
	return &diskProbe{dir: dir, log: log, try: tryWrite}
}

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
	result := probeResult{err: p.try(p.dir)}
	before := p.last.Load()
	if errors.Is(result.err, syscall.EMFILE) || errors.Is(result.err, syscall.ENFILE) {
		result.limit, result.err = result.err, nil
		if before != nil {
			result.err = before.err
		}
	}
	if free, size, err := diskSpace(p.dir); err == nil {
		result.free, result.size, result.known = free, size, true
	}
	result.at = time.Now()
	p.last.Store(&result)
	switch failed := before != nil && before.err != nil; {
	case result.limit != nil:
		if before == nil || before.limit == nil {
			p.log.Error("the process has too many open files to try the recordings directory", "err", result.limit)
		}
	case result.err != nil && !failed:
		p.log.Error("the recordings directory takes no file", "dir", p.dir, "err", result.err)
	case result.err == nil && failed:
		p.log.Info("the recordings directory takes files again", "dir", p.dir)
	}
}

var (
	descDiskFree = prometheus.NewDesc("recorder_disk_free_bytes", "Bytes that may still be written to the recordings directory's disk.", nil, nil)
	descDiskSize = prometheus.NewDesc("recorder_disk_size_bytes", "Bytes that the recordings directory's disk holds in all.", nil, nil)
	descDiskGood = prometheus.NewDesc("recorder_disk_writable", "1 if a file could be written to the recordings directory a moment ago.", nil, nil)
)

// Describe implements prometheus.Collector.
func (p *diskProbe) Describe(ch chan<- *prometheus.Desc) {
	ch <- descDiskFree
	ch <- descDiskSize
	ch <- descDiskGood
}

// Collect implements prometheus.Collector.
func (p *diskProbe) Collect(ch chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v)
	}
	writable := 0.0
	if p.Err(time.Now()) == nil {
		writable = 1
	}
	gauge(descDiskGood, writable)
	if last := p.last.Load(); last != nil && last.known {
		gauge(descDiskFree, float64(last.free))
		gauge(descDiskSize, float64(last.size))
	}
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

// Limit returns why the directory could not be tried when it was last to be, or nil.
func (p *diskProbe) Limit() error {
	if last := p.last.Load(); last != nil {
		return last.limit
	}
	return nil
}

// diskSpace returns how many bytes of the file system that holds dir we may still take, and how many there are in all.
func diskSpace(dir string) (free, size uint64, err error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0, 0, err
	}
	block := uint64(fs.Bsize)
	return uint64(fs.Bavail) * block, uint64(fs.Blocks) * block, nil
}

// tryWrite makes a file in dir, writes to it and removes it. The error does not name the file, which means nothing to anybody.
func tryWrite(dir string) error {
	f, err := os.CreateTemp(dir, ".probe-*") // the next start removes what a crash leaves of it, by this name
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
