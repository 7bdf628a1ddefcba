package timeline

import (
	"math"
	"testing"
	"time"
)

const ms = time.Millisecond

// ntp is an NTP timestamp of a sender whose clock shows the given time.
func ntp(d time.Duration) uint64 {
	s := uint64(3_900_000_000) + uint64(d/time.Second)
	return s<<32 | uint64(d%time.Second)<<32/uint64(time.Second)
}

// sent is a packet as it meets the clock.
type sent struct {
	rtp  uint32
	at   time.Duration
	late bool
}

// positions passes packets through a clock as the pump does, every 20 ms, and returns where it put
// them. A report, if any, arrives with the packet of its index.
func positions(c *Clock, packets []sent, report func(i int)) (out []time.Duration) {
	queue := packets[:0:0]
	flush := func(now time.Duration, force bool) {
		for len(queue) > 0 {
			p := queue[0]
			pos, ok := c.Admit(p.rtp, p.at, now, p.late, force)
			if !ok {
				return
			}
			queue = queue[1:]
			out = append(out, ToDuration(pos, c.rate))
		}
	}
	var now time.Duration
	for i, p := range packets {
		for p.at-now > 20*ms {
			now += 20 * ms
			if len(queue) == 0 {
				now = max(now, p.at-p.at%(20*ms))
			}
			flush(now, false)
		}
		if !p.late {
			c.Observe(p.rtp, p.at)
		}
		if report != nil {
			report(i)
		}
		queue = append(queue, p)
	}
	flush(now+3*time.Second, false)
	flush(now, true)
	return out
}

// audioSent is n packets of 20 ms from an RTP time and an arrival on.
func audioSent(rtp uint32, at time.Duration, n int) (packets []sent) {
	for i := range n {
		packets = append(packets, sent{rtp: rtp + uint32(i*960), at: at + time.Duration(i)*20*ms})
	}
	return packets
}

func join(parts ...[]sent) (all []sent) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// The golden cases: what a sender's clock may do, and where the media has to stand all the same.
func TestPositionsFollowTheSendersClock(t *testing.T) {
	const second = 48000
	late := audioSent(1000+100*960, 2000*ms, 200)
	for i := range 40 { // held back by the network, then delivered at once
		late[i+10].at = late[50].at
	}
	recovered := audioSent(0, 0, 200)
	recovered[60].at, recovered[60].late = recovered[100].at, true
	tests := []struct {
		name    string
		packets []sent
		want    map[int]time.Duration // position by index of the packet
	}{
		{"steady", audioSent(12345, time.Second, 500), map[int]time.Duration{0: time.Second, 499: time.Second + 499*20*ms}},
		{"wraps at 2^32", audioSent(math.MaxUint32-50*960, 0, 200), map[int]time.Duration{50: 1000 * ms, 51: 1020 * ms, 199: 3980 * ms}},
		{"mute for 10 s, clock goes on",
			join(audioSent(0, 0, 100), audioSent(12*second, 12*time.Second, 100)),
			map[int]time.Duration{99: 1980 * ms, 100: 12 * time.Second, 199: 13980 * ms}},
		{"mute for 3 s, clock 68 ms ahead of it",
			join(audioSent(0, 0, 100), audioSent(2*second+3*second+68*48, 5*time.Second, 1)),
			map[int]time.Duration{100: 5062 * ms}}, // of which 6 are slewed already
		{"silence suppressed, a packet each 400 ms",
			join(audioSent(0, 0, 50), []sent{{rtp: second + 400*48, at: 1400 * ms}, {rtp: second + 800*48, at: 1800 * ms}}),
			map[int]time.Duration{49: 980 * ms, 50: 1400 * ms, 51: 1800 * ms}},
		{"clock stands still for 10 s",
			join(audioSent(0, 0, 100), audioSent(2*second, 12*time.Second, 100)),
			map[int]time.Duration{99: 1980 * ms, 100: 12 * time.Second, 199: 13980 * ms}},
		{"clock stands still for 2 s",
			join(audioSent(0, 0, 100), audioSent(2*second, 4*time.Second, 100)),
			map[int]time.Duration{99: 1980 * ms, 100: 4 * time.Second, 199: 5980 * ms}},
		{"clock stands still for an hour",
			join(audioSent(0, 0, 100), audioSent(2*second, time.Hour, 100)),
			map[int]time.Duration{99: 1980 * ms, 100: time.Hour, 199: time.Hour + 1980*ms}},
		{"clock jumps 30 s ahead",
			join(audioSent(0, 0, 100), audioSent(32*second, 2*time.Second, 100)),
			map[int]time.Duration{99: 1980 * ms, 100: 2 * time.Second, 199: 3980 * ms}},
		{"clock jumps 30 s back",
			join(audioSent(40*second, 0, 100), audioSent(12*second, 2*time.Second, 100)),
			map[int]time.Duration{99: 1980 * ms, 100: 2 * time.Second, 199: 3980 * ms}},
		{"clock begins anew at random",
			join(audioSent(0, 0, 100), audioSent(0x9abcdef0, 2*time.Second, 100)),
			map[int]time.Duration{99: 1980 * ms, 100: 2 * time.Second, 199: 3980 * ms}},
		{"pause of 20 h, longer than the clock can count",
			join(audioSent(0, 0, 100), audioSent(uint32(20*3600*second%(1<<32)), 20*time.Hour, 100)),
			map[int]time.Duration{99: 1980 * ms, 100: 20 * time.Hour, 199: 20*time.Hour + 1980*ms}},
		{"network holds 800 ms back and delivers it at once",
			join(audioSent(1000, 0, 100), late),
			map[int]time.Duration{99: 1980 * ms, 110: 2200 * ms, 149: 2980 * ms, 299: 5980 * ms}},
		{"a retransmission comes 800 ms late", recovered,
			map[int]time.Duration{59: 1180 * ms, 60: 1200 * ms, 61: 1220 * ms, 199: 3980 * ms}},
		{"the first packet is 100 ms late",
			join([]sent{{rtp: 0, at: 100 * ms}}, audioSent(960, 101*ms, 50)),
			map[int]time.Duration{0: 81 * ms, 1: 101 * ms}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := New(48000, AudioSlew)
			got := positions(&c, tt.packets, nil)
			if len(got) != len(tt.packets) {
				t.Fatalf("%d positions for %d packets", len(got), len(tt.packets))
			}
			for i, want := range tt.want {
				if d := got[i] - want; max(d, -d) > ms {
					t.Errorf("packet %d at %v, want %v", i, got[i], want)
				}
			}
		})
	}
}

// The clock of a video track wraps every 13 h 15 min. Positions go on.
func TestPositionsGoOnAfterThirteenHours(t *testing.T) {
	c := New(90000, VideoSlew)
	var packets []sent
	for at := time.Duration(0); at < 41*time.Hour; at += 10 * time.Second {
		packets = append(packets, sent{rtp: uint32(0xfffffff0 + uint64(ToTicks(at, 90000))), at: at})
	}
	for i, got := range positions(&c, packets, nil) {
		if got != packets[i].at {
			t.Fatalf("packet %d at %v, want %v", i, got, packets[i].at)
		}
	}
}

// A sender's crystal is off by up to 200 ppm: over hours it is followed, within 20 ms, and measured.
func TestDriftIsAbsorbed(t *testing.T) {
	for _, ppm := range []float64{-200, -20, 20, 200} {
		for _, rate := range []int64{48000, 90000} {
			slew := int64(AudioSlew)
			c := New(rate, slew)
			var packets []sent
			var late time.Duration
			for at := time.Duration(0); at < 3*time.Hour; at += 200 * ms {
				late = (late*7 + 3*ms) % (12 * ms) // jitter
				packets = append(packets, sent{rtp: uint32(float64(at.Seconds()) * float64(rate) * (1 - ppm/1e6)), at: at + late})
			}
			got := positions(&c, packets, nil)
			for i, at := range got {
				if d := at - packets[i].at; max(d, -d) > 20*ms {
					t.Fatalf("%v ppm: packet %d off by %v", ppm, i, d)
				}
				if i > 0 && at < got[i-1] {
					t.Fatalf("%v ppm: packet %d at %v, behind %v", ppm, i, at, got[i-1])
				}
			}
			if drift := c.Drift(3 * time.Hour); math.Abs(drift-ppm) > 5 {
				t.Errorf("%v ppm of drift measured as %v", ppm, drift)
			}
		}
	}
}

// Sender reports tie sound and picture. They are believed as far as arrival permits.
func TestSenderReportsTieTracks(t *testing.T) {
	// Sound takes 20 ms to encode and 30 ms to arrive, pictures 70 ms together: judged by arrival
	// alone, pictures are 20 ms late.
	const delay = 20 * ms
	tests := []struct {
		name          string
		wrong         time.Duration // of the picture's reports
		none          bool
		first         time.Duration // when the picture's reports begin
		want          time.Duration // the picture's error in the end
		audioReported bool
	}{
		{name: "right", want: 0, audioReported: true},
		{name: "first one after 8 s", first: 8 * time.Second, want: 0, audioReported: true},
		{name: "none at all", none: true, want: delay, audioReported: true},
		{name: "none of the sound", want: delay},
		{name: "wrong by 2 s", wrong: 2 * time.Second, want: delay, audioReported: true},
		{name: "wrong by -2 s", wrong: -2 * time.Second, want: delay, audioReported: true},
		{name: "wrong by 100 years", wrong: -100 * 365 * 24 * time.Hour, want: delay, audioReported: true},
		{name: "wrong by 100 ms, which cannot be told", wrong: 100 * ms, want: 100 * ms, audioReported: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sound, picture := New(48000, AudioSlew), New(90000, VideoSlew)
			picture.leader = &sound
			var error time.Duration
			for at := time.Duration(0); at < 20*time.Second; at += 20 * ms {
				rtp := uint32(777 + ToTicks(at, 48000))
				sound.Observe(rtp, at)
				sound.Admit(rtp, at, at, false, true)
				rtp = uint32(99_999 + ToTicks(at, 90000))
				picture.Observe(rtp, at+delay)
				pos, _ := picture.Admit(rtp, at+delay, at+delay, false, true)
				error = ToDuration(pos, 90000) - at
				if at%time.Second != 0 {
					continue
				}
				if tt.audioReported {
					sound.Report(ntp(at), uint32(777+ToTicks(at, 48000)), at)
				}
				if !tt.none && at >= tt.first {
					picture.Report(ntp(at+tt.wrong), rtp, at+delay)
				}
			}
			if d := error - tt.want; max(d, -d) > ms {
				t.Errorf("picture off by %v, want %v", error, tt.want)
			}
			if followed := tt.want != delay; picture.followed != followed {
				t.Errorf("followed reports: %v", picture.followed)
			}
		})
	}
}

// No sequence of RTP and arrival times puts a packet where it cannot have been.
func FuzzClock(f *testing.F) {
	f.Add([]byte{0, 0, 3, 192, 20, 0, 0, 3, 192, 20})
	f.Add([]byte{255, 255, 0, 0, 1, 0, 0, 0, 0, 255, 128, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		c := New(90000, VideoSlew)
		var packets []sent
		var rtp uint32
		var at time.Duration
		for ; len(b) >= 5 && len(packets) < 1000; b = b[5:] {
			rtp += uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
			at += time.Duration(b[4]) * time.Duration(b[4]) * ms
			packets = append(packets, sent{rtp: rtp, at: at})
		}
		for i, pos := range positions(&c, packets, func(i int) {
			if i%3 == 0 {
				c.Report(uint64(packets[i].rtp)<<33, packets[i].rtp*3, packets[i].at)
			}
		}) {
			d := pos - packets[i].at
			if d > clamp+ms || d < -mostDelay-ms {
				t.Fatalf("packet %d, which came at %v, put at %v", i, packets[i].at, pos)
			}
		}
	})
}

func TestClockDoesNotAllocate(t *testing.T) {
	c := New(90000, VideoSlew)
	var rtp uint32
	var at time.Duration
	if n := testing.AllocsPerRun(1000, func() {
		rtp += 3000
		at += 33 * ms
		c.Observe(rtp, at)
		c.Admit(rtp, at, at, false, false)
	}); n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
}
