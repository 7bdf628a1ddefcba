package remote

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtcp"
)

func TestArrivalIsThatAtThePort(t *testing.T) {
	const ms = time.Millisecond
	a := newArrivals()
	now := a.start.Add(time.Minute)
	first, second, report := numbered(7, 96, 65535, 1), numbered(7, 96, 0, 2), numbered(7, 200, 5, 3)
	a.note(first, now, 15*ms)
	a.note(second, now, 3*ms)
	a.note(report, now, 5*ms)
	a.note([]byte("no packet"), now, 5*ms)
	later := now.Add(4 * ms)
	for _, c := range []struct {
		name   string
		packet []byte
		want   time.Time
	}{
		{"first", first, now.Add(-15 * ms)},
		{"decrypted, with a shorter end", second[:16], now.Add(-3 * ms)},
		{"another", numbered(7, 96, 1, 3), later},
		{"of another source", numbered(8, 96, 0, 2), later},
		{"RTCP", report, later},
		{"short", []byte("no packet"), later},
	} {
		if got := a.of(c.packet, later); !got.Equal(c.want) {
			t.Errorf("%s: %v after the port was opened, want %v", c.name, got.Sub(a.start), c.want.Sub(a.start))
		}
	}
	for _, waited := range []time.Duration{-time.Hour, time.Hour} { // the system's clock was set
		a.note(first, now, waited)
		if got := a.of(first, later); !got.Equal(now) {
			t.Errorf("waited %v: %v", waited, got.Sub(now))
		}
	}
	if got := (*arrivals)(nil).of(first, later); !got.Equal(later) {
		t.Errorf("without a shared port: %v", got.Sub(later))
	}
	if n := testing.AllocsPerRun(100, func() { a.note(first, now, ms); a.of(first, now) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// What came 5 ms apart and was read together is told as having come 5 ms apart.
func TestSendersAreToldWhenPacketsCameToThePort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newInlet()
		defer in.close()
		in.arrivals = newArrivals()
		in.feedback.extension.Store(3)
		sent := make(chan rtcp.RawPacket, 1)
		in.feedback.run(1, again, in.reports, func(packets []rtcp.Packet) error {
			sent <- slices.Clone(*packets[0].(*rtcp.RawPacket))
			return nil
		})
		s := newTestSource(in, 7)
		time.Sleep(20 * time.Millisecond)
		for n := range uint16(4) {
			p := numbered(7, 96, n, n)
			in.arrivals.note(p, time.Now(), time.Duration(3-n)*5*time.Millisecond)
			_, err := s.Write(p)
			must(t, err)
		}
		_, at := told(t, <-sent)
		for i := range at[1:] {
			if d := at[i+1] - at[i]; d != 5*time.Millisecond {
				t.Errorf("packet %d came %v after the one before", i+1, d)
			}
		}
	})
}
