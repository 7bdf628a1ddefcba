package remote

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// source is the least a Source can be.
type source struct{ *hub }

func (s source) events() *hub { return s.hub }

func newSource() (s source, dropped, panics *int) {
	dropped, panics = new(int), new(int)
	return source{newHub(func() { *dropped++ }, func(any) { *panics++ })}, dropped, panics
}

func numbered(i int) Event { return StateChange{From: State(i)} }

func TestHandlersSeeEventsInOrderAndOnlyTheirType(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, _ := newSource()
		var got []int
		cancel := Subscribe(s, func(e StateChange) { got = append(got, int(e.From)) })
		Subscribe(s, func(ConnectionReset) { t.Error("handler of another type was called") })
		for i := range 100 {
			s.emit(numbered(i), nil)
		}
		synctest.Wait()
		cancel()
		s.emit(numbered(100), nil)
		synctest.Wait()
		if !slices.IsSorted(got) || len(got) != 100 {
			t.Errorf("got %v", got)
		}
	})
}

func TestASlowHandlerDoesNotStallEmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, _ := newSource()
		n := 0
		Subscribe(s, func(StateChange) { time.Sleep(time.Hour); n++ })
		start := time.Now()
		for i := range 10 {
			s.emit(numbered(i), nil)
		}
		if time.Since(start) != 0 {
			t.Error("emission waited for a handler")
		}
		time.Sleep(11 * time.Hour)
		synctest.Wait()
		if n != 10 {
			t.Errorf("%d events were handled", n)
		}
	})
}

func TestAFailingHandlerIsIsolatedAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, panics := newSource()
		n := 0
		Subscribe(s, func(StateChange) { panic("oh no") })
		Subscribe(s, func(StateChange) { n++ })
		s.emit(numbered(1), nil)
		s.emit(numbered(2), nil)
		synctest.Wait()
		if n != 2 || *panics != 2 {
			t.Errorf("%d handled, %d panics", n, *panics)
		}
	})
}

func TestOnceFiresOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, _ := newSource()
		n := 0
		Once(s, func(StateChange) { n++ })
		cancelled := Once(s, func(StateChange) { t.Error("handler was called after cancel") })
		cancelled()
		for i := range 3 {
			s.emit(numbered(i), nil)
		}
		synctest.Wait()
		if n != 1 {
			t.Errorf("called %d times", n)
		}
	})
}

func TestHandlersMaySubscribeAndCancelFromWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, _ := newSource()
		inner := 0
		var cancel func()
		cancel = Subscribe(s, func(StateChange) {
			cancel()
			Subscribe(s, func(StateChange) { inner++ })
		})
		s.emit(numbered(1), nil)
		s.emit(numbered(2), nil)
		synctest.Wait()
		if inner != 1 {
			t.Errorf("inner handler was called %d times", inner)
		}
	})
}

func TestEventsAreASequence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, _ := newSource()
		var got []int
		done := make(chan struct{})
		go func() {
			defer close(done)
			for e := range Events[StateChange](t.Context(), s) {
				got = append(got, int(e.From))
			}
		}()
		synctest.Wait()
		for i := range 5 {
			s.emit(numbered(i), nil)
			s.emit(ConnectionReset{}, nil)
		}
		s.close()
		<-done
		if !slices.Equal(got, []int{0, 1, 2, 3, 4}) {
			t.Errorf("got %v", got)
		}
	})
}

func TestEventsEndWithTheContextAndWithBreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, _ := newSource()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for range Events[StateChange](ctx, s) {
			t.Error("got an event")
		}
		go func() { time.Sleep(time.Second); s.emit(numbered(1), nil); s.emit(numbered(2), nil) }()
		for range Events[StateChange](t.Context(), s) {
			break
		}
		synctest.Wait()
		if len(s.subs) != 0 {
			t.Errorf("%d subscriptions were left", len(s.subs))
		}
	})
}

func TestWhatAnIteratorCannotTakeIsDroppedAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, dropped, _ := newSource()
		go func() { time.Sleep(time.Second); s.emit(numbered(0), nil) }()
		n := 0
		for range Events[StateChange](t.Context(), s) {
			if n++; n == 1 { // fall behind
				for i := range maxIteratorEvents + 11 {
					s.emit(numbered(i), nil)
				}
				s.close()
				synctest.Wait()
			}
		}
		if n != 1+maxIteratorEvents || *dropped != 11 {
			t.Errorf("%d events were taken and %d dropped", n, *dropped)
		}
	})
}

func TestWhatHandlersCannotTakeIsDroppedAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, dropped, _ := newSource()
		n := 0
		Subscribe(s, func(StateChange) { time.Sleep(time.Hour); n++ })
		for i := range maxQueuedEvents + 11 {
			if i == 1 {
				synctest.Wait() // the first is with its handler
			}
			s.emit(numbered(i), nil)
		}
		s.close()
		<-s.drained
		if n != maxQueuedEvents+1 || *dropped != 10 {
			t.Errorf("%d events were handled and %d dropped", n, *dropped)
		}
	})
}
