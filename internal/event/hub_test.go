package event

import (
	"context"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// source is the least a Source can be.
type source struct{ *Hub }

func (s source) Events() *Hub { return s.Hub }

func newSource() (s source, dropped, panics *int) {
	dropped, panics = new(int), new(int)
	return source{NewHub(func() { *dropped++ }, func(any, []byte) { *panics++ })}, dropped, panics
}

type number struct{ n int }

type other struct{}

func TestHandlersSeeEventsInOrderAndOnlyTheirType(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, _ := newSource()
		var got []int
		cancel := Subscribe(s, func(e number) { got = append(got, e.n) })
		Subscribe(s, func(other) { t.Error("handler of another type was called") })
		for i := range 100 {
			s.Emit(number{i}, nil)
		}
		synctest.Wait()
		cancel()
		s.Emit(number{100}, nil)
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
		Subscribe(s, func(number) { time.Sleep(time.Hour); n++ })
		start := time.Now()
		for i := range 10 {
			s.Emit(number{i}, nil)
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
		Subscribe(s, func(number) { panic("oh no") })
		Subscribe(s, func(number) { n++ })
		s.Emit(number{1}, nil)
		s.Emit(number{2}, nil)
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
		Once(s, func(number) { n++ })
		cancelled := Once(s, func(number) { t.Error("handler was called after cancel") })
		cancelled()
		for i := range 3 {
			s.Emit(number{i}, nil)
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
		cancel = Subscribe(s, func(number) {
			cancel()
			Subscribe(s, func(number) { inner++ })
		})
		s.Emit(number{1}, nil)
		s.Emit(number{2}, nil)
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
			for e := range All[number](t.Context(), s) {
				got = append(got, e.n)
			}
		}()
		synctest.Wait()
		for i := range 5 {
			s.Emit(number{i}, nil)
			s.Emit(other{}, nil)
		}
		s.Close()
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
		for range All[number](ctx, s) {
			t.Error("got an event")
		}
		go func() { time.Sleep(time.Second); s.Emit(number{1}, nil); s.Emit(number{2}, nil) }()
		for range All[number](t.Context(), s) {
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
		go func() { time.Sleep(time.Second); s.Emit(number{0}, nil) }()
		n := 0
		for range All[number](t.Context(), s) {
			if n++; n == 1 { // fall behind
				for i := range maxIteratorEvents + 11 {
					s.Emit(number{i}, nil)
				}
				s.Close()
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
		Subscribe(s, func(number) { time.Sleep(time.Hour); n++ })
		for i := range maxQueuedEvents + 11 {
			if i == 1 {
				synctest.Wait() // the first is with its handler
			}
			s.Emit(number{i}, nil)
		}
		s.Close()
		<-s.drained
		if n != maxQueuedEvents+1 || *dropped != 10 {
			t.Errorf("%d events were handled and %d dropped", n, *dropped)
		}
	})
}

// A test that gives up in a handler ends the handler's goroutine. The handlers
// after it and the events after that still come.
func TestAHandlerThatExitsIsIsolatedAndCounted(t *testing.T) {
	for name, exit := range map[string]func(){"exit": runtime.Goexit, "panic": func() { panic("oh no") }, "panic nil": func() { panic(nil) }} {
		synctest.Test(t, func(t *testing.T) {
			s, _, panics := newSource()
			var before, after []int
			then := 0
			Subscribe(s, func(e number) { before = append(before, e.n) })
			Subscribe(s, func(number) { exit() })
			Subscribe(s, func(number) { exit() })
			Subscribe(s, func(e number) { after = append(after, e.n) })
			for i := range 3 {
				s.Emit(number{i}, func() { then++ })
			}
			s.Close()
			<-s.drained
			want := []int{0, 1, 2}
			if *panics != 6 || then != 3 || !slices.Equal(before, want) || !slices.Equal(after, want) {
				t.Errorf("%s: %d counted, %d ended, handled %v and %v", name, *panics, then, before, after)
			}
		})
	}
}
