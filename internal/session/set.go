package session

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// Set is the running sessions of a process, one per configured channel.
type Set struct {
	opts Options

	applying sync.Mutex // held by Apply, over its waits

	mu       sync.Mutex // held for moments only, as whoever asks for Status must not wait
	sessions map[string]*running
	lost     []error // recordings that sessions no longer in the set could not finalise
	closed   bool
}

type running struct {
	*Session
	config Config // as applied last; guarded by Set.applying
	cancel context.CancelCauseFunc
}

// NewSet makes an empty set.
func NewSet(opts Options) *Set {
	opts.metrics = newMetrics()
	return &Set{opts: opts, sessions: make(map[string]*running)}
}

// Apply makes the running sessions those of configs: new channels are joined,
// missing ones left and their files finalised, which Apply waits for. A changed
// one takes on its new rules and stays where it is; one that is the same is not
// touched. Of those that have ended, a failed one is tried again, and one that
// reached a limit if its configuration changed. Apply returns what could not be
// started; everything else runs.
func (s *Set) Apply(configs []Config) error {
	s.applying.Lock()
	defer s.applying.Unlock()
	missing := s.snapshot()
	var errs []error
	for _, cfg := range configs {
		delete(missing, cfg.Channel)
		errs = append(errs, s.apply(cfg))
	}
	for _, r := range missing {
		r.cancel(nil)
	}
	for channel, r := range missing {
		<-r.done
		s.mu.Lock()
		s.remove(channel)
		s.mu.Unlock()
		s.opts.metrics.forget(channel)
	}
	return errors.Join(errs...)
}

func (s *Set) apply(cfg Config) error {
	s.mu.Lock()
	r := s.sessions[cfg.Channel]
	s.mu.Unlock()
	if r == nil {
		return s.start(cfg)
	}
	changed := !reflect.DeepEqual(r.config, cfg)
	if r.Status().State == StateLeaving {
		<-r.done // it takes nothing on any more, and may have failed
	}
	select {
	case <-r.done:
		if changed || r.Status().State == StateFailed {
			return s.start(cfg)
		}
	default:
		if changed {
			r.config = cfg
			r.configure(cfg)
		}
	}
	return nil
}

func (s *Set) start(cfg Config) error {
	session, err := New(cfg, s.opts)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		cancel(nil)
		return ErrClosed
	}
	s.remove(cfg.Channel) // the one before, if it has ended
	s.sessions[cfg.Channel] = &running{Session: session, config: cfg, cancel: cancel}
	go func() {
		if err := session.Run(ctx); err != nil {
			session.log.Error("session failed; it is tried again when the configuration is loaded again", "err", err)
		}
	}()
	return nil
}

// remove takes out a session that has ended, if there is one.
func (s *Set) remove(channel string) {
	if r := s.sessions[channel]; r != nil && r.lost != nil {
		s.lost = append(s.lost, r.lost)
	}
	delete(s.sessions, channel)
}

// ErrClosed is returned by Apply when the Set has been closed, and is the cause
// that Close ends the sessions with: their recordings may be continued.
var ErrClosed = errors.New("sessions closed")

// Close leaves every channel and finalises every file, and keeps an Apply that
// is under way from joining any. A Set that is started within the reconnect
// window goes on with the recordings. Close returns when all are done;
// Options.CloseTimeout bounds each. The error names every recording that could
// not be finalised, in the whole life of the Set.
func (s *Set) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	all := s.snapshot()
	for _, r := range all {
		r.cancel(ErrClosed)
	}
	for _, r := range all {
		<-r.done
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := slices.Clone(s.lost)
	for _, r := range s.sessions {
		errs = append(errs, r.lost)
	}
	return errors.Join(errs...)
}

// snapshot returns the sessions there are now, by channel name.
func (s *Set) snapshot() map[string]*running {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.sessions)
}

// Status returns every session's status, by channel name.
func (s *Set) Status() []Status {
	var all []Status
	for _, r := range s.snapshot() {
		all = append(all, r.Status())
	}
	slices.SortFunc(all, func(a, b Status) int { return strings.Compare(a.Channel, b.Channel) })
	return all
}
