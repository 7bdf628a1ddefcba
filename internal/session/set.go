package session

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
)

// Set is the running sessions of a process, one per configured channel.
type Set struct {
	opts Options

	mu       sync.Mutex
	sessions map[string]*running
}

type running struct {
	*Session
	cancel context.CancelFunc
}

// NewSet makes an empty set.
func NewSet(opts Options) *Set {
	return &Set{opts: opts, sessions: make(map[string]*running)}
}

// Apply makes the running sessions those of configs: new channels are joined,
// missing ones left, changed ones left and joined again. A channel that did
// not change is not touched. It returns what could not be started; everything
// else runs.
func (s *Set) Apply(configs []Config) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var stopping []*running
	for channel, r := range s.sessions {
		if !slices.Contains(configs, r.cfg) {
			r.cancel()
			stopping = append(stopping, r)
			delete(s.sessions, channel)
		}
	}
	for _, r := range stopping {
		<-r.done
	}
	var errs []error
	for _, cfg := range configs {
		if s.sessions[cfg.Channel] == nil {
			errs = append(errs, s.start(cfg))
		}
	}
	return errors.Join(errs...)
}

func (s *Set) start(cfg Config) error {
	session, err := New(cfg, s.opts)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.sessions[cfg.Channel] = &running{Session: session, cancel: cancel}
	go func() {
		if err := session.Run(ctx); err != nil {
			session.log.Error("session failed; it is tried again when its configuration changes", "err", err)
		}
	}()
	return nil
}

// Close leaves every channel and finalises every file. It returns when all are
// done; Options.CloseTimeout bounds each.
func (s *Set) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.sessions {
		r.cancel()
	}
	for _, r := range s.sessions {
		<-r.done
	}
}

// Status returns every session's status, by channel name.
func (s *Set) Status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Status, 0, len(s.sessions))
	for _, r := range s.sessions {
		all = append(all, r.Status())
	}
	slices.SortFunc(all, func(a, b Status) int { return strings.Compare(a.Channel, b.Channel) })
	return all
}
