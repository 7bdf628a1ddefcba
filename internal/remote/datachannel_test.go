package remote

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/transport/v5/vnet"
	"github.com/pion/webrtc/v4"

	"recorder/internal/event"
)

// inboxOf collects the messages of a pion channel.
type messages struct {
	mu   sync.Mutex
	list []string
	raw  *webrtc.DataChannel
}

func (m *messages) add(s string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.list = append(m.list, s)
}

func (m *messages) all() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.list)
}

// accept makes a publisher collect what arrives on channels opened to it.
func (m *publisher) accept() *messages {
	got := &messages{}
	m.onData = func(d *webrtc.DataChannel) {
		got.mu.Lock()
		got.raw = d
		got.mu.Unlock()
		d.OnMessage(func(msg webrtc.DataChannelMessage) {
			got.add(d.Label() + ":" + string(msg.Data))
			if d.Label() == "echo" {
				_ = d.SendText("echo " + string(msg.Data))
			}
		})
	}
	return got
}

func TestCreatingADataChannelStartsAnIdleConnection(t *testing.T) {
	for _, ids := range [][2]string{{"bot", "alice"}, {"alice", "bot"}} {
		run(t, ids[0], ids[1], func(t *testing.T, w *world) {
			got := w.join().accept()
			d, err := w.peer.CreateDataChannel("echo", nil)
			must(t, err)
			var seen []string
			event.Subscribe(d, func(ChannelOpened) { seen = append(seen, "open") })
			event.Subscribe(d, func(m ChannelMessage) { seen = append(seen, fmt.Sprintf("%s %v", m.Data, m.Text)) })
			event.Subscribe(d, func(ChannelClosed) { seen = append(seen, "closed") })
			must(t, d.SendText(t.Context(), "one")) // before it is open
			must(t, d.Send(t.Context(), []byte("two")))
			settle()
			if !slices.Equal(got.all(), []string{"echo:one", "echo:two"}) {
				t.Errorf("the member got %v", got.all())
			}
			must(t, d.Close())
			must(t, d.Close())
			settle()
			if want := []string{"open", "echo one true", "echo two true", "closed"}; !slices.Equal(seen, want) {
				t.Errorf("seen: %v", seen)
			}
			w.statesAre(t, first)
			if d.Label() != "echo" {
				t.Errorf("label: %q", d.Label())
			}
		})
	}
}

func TestADataChannelIsAddedToALiveConnection(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		got := m.accept()
		d, err := w.peer.CreateDataChannel("late", &webrtc.DataChannelInit{Ordered: new(bool)})
		must(t, err)
		must(t, d.SendText(t.Context(), "hello"))
		settle()
		if !slices.Equal(got.all(), []string{"late:hello"}) || got.raw.Ordered() {
			t.Errorf("the member got %v", got.all())
		}
		again, err := w.peer.CreateDataChannel("second", nil)
		must(t, err)
		must(t, again.SendText(t.Context(), "hi"))
		settle()
		if n := len(w.signals("offer")); n != 1 {
			t.Errorf("%d offers for two channels", n)
		}
		if !flows(sinks("video-1")[0]) {
			t.Error("media stopped")
		}
		w.seen.expect(t)
		w.statesAre(t, first)
	})
}

func TestTheMemberOpensADataChannel(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		var got []string
		event.Subscribe(w.peer, func(e DataChannelOpened) {
			time.Sleep(time.Second) // messages wait for the handler
			event.Subscribe(e.Channel, func(msg ChannelMessage) { got = append(got, string(msg.Data)) })
			event.Subscribe(e.Channel, func(ChannelClosed) { got = append(got, "closed") })
			must(t, e.Channel.SendText(t.Context(), "welcome "+e.Channel.Label()))
		})
		d, err := m.pc.CreateDataChannel("chat", nil)
		must(t, err)
		reply := &messages{}
		d.OnMessage(func(msg webrtc.DataChannelMessage) { reply.add(string(msg.Data)) })
		d.OnOpen(func() {
			for i := range 3 {
				_ = d.SendText(fmt.Sprint(i))
			}
		})
		m.offer(false)
		settle()
		if !slices.Equal(got, []string{"0", "1", "2"}) || !slices.Equal(reply.all(), []string{"welcome chat"}) {
			t.Errorf("got %v, reply %v", got, reply.all())
		}
		must(t, d.Close())
		settle()
		if got[len(got)-1] != "closed" {
			t.Errorf("got %v", got)
		}
	})
}

func TestDataChannelsDieWithTheConnection(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		m.accept()
		d, err := w.peer.CreateDataChannel("x", nil)
		must(t, err)
		must(t, d.SendText(t.Context(), "hello"))
		closed := false
		event.Subscribe(d, func(ChannelClosed) { closed = true })
		next := w.join()
		got := next.accept()
		next.camera()
		settle()
		if !closed {
			t.Error("the channel outlived its connection")
		}
		if err := d.SendText(t.Context(), "too late"); !errors.Is(err, ErrClosed) {
			t.Errorf("send: %v", err)
		}
		again, err := w.peer.CreateDataChannel("x", nil)
		must(t, err)
		must(t, again.SendText(t.Context(), "again"))
		settle()
		if !slices.Equal(got.all(), []string{"x:again"}) {
			t.Errorf("the member got %v", got.all())
		}
	})
}

func TestSendSuspendsAboveTheHighMarkAndResumesAtHalf(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		got := m.accept()
		d, err := w.peer.CreateDataChannel("bulk", nil)
		must(t, err)
		must(t, d.SendText(t.Context(), "start"))
		w.setCut(true)
		block := make([]byte, 64<<10)
		var sends sync.WaitGroup
		var mu sync.Mutex
		returned := 0
		for i := range 40 {
			block := slices.Concat([]byte{byte(i)}, block)
			sends.Go(func() {
				must(t, d.Send(t.Context(), block))
				mu.Lock()
				returned++
				mu.Unlock()
			})
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		mu.Lock()
		suspended := 40 - returned
		mu.Unlock()
		if b := d.BufferedAmount(); suspended == 0 || b < bufferedHigh || b > bufferedHigh+128<<10 {
			t.Errorf("%d sends wait with %d bytes buffered", suspended, b)
		}
		w.setCut(false)
		sends.Wait()
		time.Sleep(time.Minute)
		list := got.all()
		if len(list) != 41 {
			t.Fatalf("%d messages arrived", len(list))
		}
		for i, s := range list[1:] {
			if len(s) != len("bulk:")+1+len(block) || s[len("bulk:")] != byte(i) {
				t.Errorf("message %d is %d of %d bytes", i, s[len("bulk:")], len(s))
			}
		}
	})
}

func TestAnotherSendDoesNotResumeWhatIsSuspended(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		got := m.accept()
		d, err := w.peer.CreateDataChannel("bulk", nil)
		must(t, err)
		must(t, d.SendText(t.Context(), "start"))
		settle()
		var returned atomic.Int32
		var sends sync.WaitGroup
		send := func() {
			sends.Go(func() {
				must(t, d.Send(t.Context(), make([]byte, 64<<10)))
				returned.Add(1)
			})
			synctest.Wait()
		}
		w.setCut(true)
		sent := int32(0)
		for ; returned.Load() == sent; sent++ {
			send()
		}
		const between = bufferedHigh * 3 / 4
		var drain atomic.Bool
		w.router.AddChunkFilter(func(vnet.Chunk) bool { return drain.Load() || d.BufferedAmount() > between })
		w.setCut(false)
		wait(t, 5*time.Second, "less than the high mark", func() bool { return d.BufferedAmount() <= between })
		send()
		if b := d.BufferedAmount(); b <= bufferedLow || returned.Load() != sent-1 {
			t.Errorf("%d of %d sends returned with %d bytes buffered", returned.Load(), sent+1, b)
		}
		drain.Store(true)
		sends.Wait()
		wait(t, 20*time.Second, "all messages", func() bool { return len(got.all()) == int(sent)+2 })
	})
}

func TestEventsOfAChannelWaitForTheFirstSubscriber(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		w.join().accept()
		d, err := w.peer.CreateDataChannel("x", nil)
		must(t, err)
		settle()
		opened := false
		event.Subscribe(d, func(ChannelOpened) { opened = true })
		synctest.Wait()
		if !opened || d.Raw().BufferedAmountLowThreshold() != bufferedLow {
			t.Errorf("opened: %v, resumes at %d", opened, d.Raw().BufferedAmountLowThreshold())
		}
	})
}

func TestTooManyQueuedSendsOverflow(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		d, err := w.peer.CreateDataChannel("x", nil) // to nobody: it never opens
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		var waiting sync.WaitGroup
		errs := &messages{}
		for range maxQueuedSends {
			waiting.Go(func() {
				err := d.Send(ctx, nil)
				errs.add(fmt.Sprint(errors.Is(err, context.Canceled), errors.Is(err, ErrClosed)))
			})
		}
		settle()
		var overflow ErrOverflow
		if err := d.Send(ctx, nil); !errors.As(err, &overflow) || overflow.Queued != 256 || overflow.Cap != 256 {
			t.Errorf("send: %v", err)
		}
		cancel()
		waiting.Wait()
		for _, e := range errs.all() {
			if e != "true false" {
				t.Errorf("a cancelled send: %v", e)
			}
		}
		waiting.Go(func() {
			if err := d.Send(t.Context(), nil); !errors.Is(err, ErrClosed) {
				t.Errorf("a send that waits while the channel is closed: %v", err)
			}
		})
		settle()
		must(t, d.Close())
		waiting.Wait()
	})
}

func TestArgumentsTheBrowserRefusesAreRefused(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		if _, err := w.peer.CreateDataChannel(strings.Repeat("x", 65536), nil); err == nil {
			t.Error("a label of 65536 bytes was taken")
		}
		n := uint16(1)
		_, err := w.peer.CreateDataChannel("x", &webrtc.DataChannelInit{MaxRetransmits: &n, MaxPacketLifeTime: &n})
		if !errors.Is(err, webrtc.ErrRetransmitsOrPacketLifeTime) {
			t.Errorf("error: %v", err)
		}
	})
}

func TestAMemberThatRefusesDataChannelsFailsThem(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		out := m.out
		m.out = func(p any) {
			if s, ok := p.(descriptionSignal); ok {
				s.Description.SDP = strings.ReplaceAll(s.Description.SDP, "m=application 9", "m=application 0")
				p = s
			}
			out(p)
		}
		d, err := w.peer.CreateDataChannel("x", nil)
		must(t, err)
		var why []error
		event.Subscribe(d, func(e ChannelError) { why = append(why, e.Err) })
		settle()
		if len(why) != 1 || !errors.Is(why[0], errNoData) || len(w.signals("offer")) != 1 {
			t.Errorf("errors %v after %d offers", why, len(w.signals("offer")))
		}
	})
}

func TestDataChannelsAreLimited(t *testing.T) {
	run(t, "bot", "alice", func(t *testing.T, w *world) {
		m := w.join()
		opened := 0
		event.Subscribe(w.peer, func(DataChannelOpened) { opened++ })
		for i := range maxChannels + 10 {
			_, err := m.pc.CreateDataChannel(fmt.Sprint(i), nil)
			must(t, err)
			if i == 0 {
				m.offer(false)
			}
			settle() // pion takes 16 at once
		}
		if opened != maxChannels {
			t.Errorf("%d channels were opened", opened)
		}
		d, err := w.peer.CreateDataChannel("x", nil)
		must(t, err)
		var why error
		event.Subscribe(d, func(e ChannelError) { why = e.Err })
		settle()
		if !errors.Is(why, errChannelLimit) {
			t.Errorf("error: %v", why)
		}
	})
}

// A consumer that does not take its messages holds up the sender, not memory.
func TestASlowConsumerSlowsTheSender(t *testing.T) {
	withCamera(t, func(t *testing.T, w *world, m *publisher, sinks func(string) []*sinkhole) {
		handled := 0
		event.Subscribe(w.peer, func(e DataChannelOpened) {
			event.Subscribe(e.Channel, func(ChannelMessage) { time.Sleep(100 * time.Millisecond); handled++ })
		})
		d, err := m.pc.CreateDataChannel("flood", nil)
		must(t, err)
		d.OnOpen(func() {
			for range 100 {
				_ = d.Send(make([]byte, 60<<10))
			}
		})
		m.offer(false)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if handled > 60 || d.BufferedAmount() < 1<<19 {
			t.Errorf("%d handled, %d bytes still at the sender", handled, d.BufferedAmount())
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if handled != 100 {
			t.Errorf("%d handled", handled)
		}
	})
}

// What pion opens while the loop is about to end its connection is ended too.
// A reader left waiting for its consumer would hold up Done for ever.
func TestAChannelThatOpensAsItsConnectionEndsHoldsNothingUp(t *testing.T) {
	for name, end := range map[string]func(w *world){
		"the peer closes":            func(w *world) { w.peer.Close(CauseLeft) },
		"the connection is replaced": func(w *world) { w.peer.in.put(func() { w.peer.replaceLink(w.peer.link, CauseFresh) }) },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, "bot", "alice", func(t *testing.T, w *world) {
				m := w.join()
				_, err := m.pc.CreateDataChannel("first", nil)
				must(t, err)
				m.offer(false)
				settle()
				busy := make(chan struct{})
				w.peer.in.put(func() { <-busy })
				end(w)
				d, err := m.pc.CreateDataChannel("flood", nil)
				must(t, err)
				d.OnOpen(func() {
					for range 3 * maxHeldMessages {
						_ = d.Send([]byte("x"))
					}
				})
				settle()
				close(busy)
				w.peer.Close(CauseLeft)
				<-w.peer.Done()
			})
		})
	}
}
