package sink

import (
	"math"
	"time"
)

// clock maps the RTP time of one SSRC to positions on the recording's clock, in RTP ticks.
//
// A position is the unwrapped RTP time plus an offset. The offset is what the packets that met the
// least delay say of it (arrival − RTP time, least over half a minute), or, when sender reports
// tie the track to another of the same stream, what keeps the two together (see follow). It moves
// slowly, so that the sender's clock may drift for days and no two frames change places.
//
// Three things an RTP clock does are no drift, and start a new offset at arrival time:
//   - it is ahead of arrival: no packet comes before it was sent, so the clock jumped;
//   - it is behind by more than the clamp, and after a second still is: it stood still (a network
//     that held packets back delivers the rest at once, and that second tells the two apart);
//   - it is behind by more than any network holds a packet.
//
// A pause during which the RTP clock ran on is none of these and keeps its length.
type clock struct {
	rate int64 // ticks per second
	slew int64 // how fast the offset may move, in ticks per million

	state  clockState
	base   uint32 // RTP time of the packet last admitted,
	ext    int64  // and the same unwrapped
	offset int64
	debt   int64 // slewing below a tick, in millionths

	first time.Duration // arrival of the first packet
	low   lowest        // arrival − ext
	late  lowest        // the same, of packets behind the clamp since the last that was not
	fit   time.Duration // arrival of the latest packet that was not

	reported bool
	ntp      int64         // NTP time − ext by the last sender report, in ticks
	heard    time.Duration // when it came
	leader   *clock        // the clock followed, when there is one
	followed bool          // a sender report decides the offset

	began  int64         // position of the first packet
	born   int64         // the offset when the drift's measurement began
	bornAt time.Duration // and when that was
}

type clockState int

const (
	clockUnset    clockState = iota
	clockSettling            // gathering arrivals before the first position is given out
	clockRunning
)

const (
	clockClamp   = 500 * time.Millisecond // disagreement with arrival that is still believed
	clockSettle  = 300 * time.Millisecond
	clockPatient = time.Second
	clockBehind  = 10 * time.Second // no network holds a packet that long
	clockReport  = 30 * time.Second // how long a sender report is good for

	audioSlew = 2_000  // a real clock is off by less than 200 ppm
	videoSlew = 50_000 // nobody sees pictures move by a twentieth of their distance
)

func newClock(rate, slew int64) clock { return clock{rate: rate, slew: slew} }

// observe takes note of a packet when it arrives. Packets that came behind a later one are left
// out: their arrival tells when they were sent again.
func (c *clock) observe(rtp uint32, arrival time.Duration) {
	at := toTicks(arrival, c.rate)
	if c.state == clockUnset {
		c.state, c.base, c.first = clockSettling, rtp, arrival
		c.low.reset(arrival, at)
		return
	}
	ext := c.unwrap(rtp)
	if c.state == clockSettling {
		if max(ext, -ext) < c.ticks(clockBehind) {
			c.low.add(arrival, at-ext)
		}
		return
	}
	switch e := at - ext - c.offset; {
	case e < -c.ticks(clockClamp):
	case e <= c.ticks(clockClamp):
		c.low.add(arrival, at-ext)
		c.late = lowest{}
		c.fit = arrival
	default:
		c.late.add(arrival, at-ext)
	}
}

// admit gives the position of a packet, in sequence. It is false as long as more packets have to
// arrive before it can be told; with force it never is.
func (c *clock) admit(rtp uint32, arrival, now time.Duration, late, force bool) (position int64, ok bool) {
	switch c.state {
	case clockUnset:
		c.observe(rtp, arrival)
		fallthrough
	case clockSettling:
		if !force && now-c.first < clockSettle {
			return 0, false
		}
		c.state, c.offset = clockRunning, c.low.min()
		c.began, c.born, c.bornAt = c.offset, c.offset, now
	}
	at, ext := toTicks(arrival, c.rate), c.unwrap(rtp)
	switch e := at - ext - c.offset; {
	case e < -c.ticks(clockClamp):
		c.anchor(at-ext, arrival)
	case e <= c.ticks(clockClamp) || late:
	case e > c.ticks(clockBehind):
		c.anchor(at-ext, arrival)
	case c.fit >= arrival:
	case !force && now-arrival < clockPatient:
		return 0, false
	default:
		offset := at - ext
		if c.late.n > 0 {
			offset = min(offset, c.late.min())
		}
		c.anchor(offset, arrival)
	}
	c.move(max(ext-c.ext, 0))
	c.base, c.ext = rtp, ext
	return ext + c.offset, true
}

// start is the position of the first packet observed, as far as it is known yet.
func (c *clock) start() (int64, bool) {
	switch c.state {
	case clockSettling:
		return c.low.min(), true
	case clockRunning:
		return c.began, true
	}
	return 0, false
}

// runsOn reports whether a packet's RTP time goes on from that of those before, by when it arrived.
func (c *clock) runsOn(rtp uint32, arrival time.Duration) bool {
	e := toTicks(arrival, c.rate) - c.unwrap(rtp) - c.offset
	return c.state == clockRunning && max(e, -e) <= c.ticks(clockClamp)
}

func (c *clock) anchor(offset int64, arrival time.Duration) {
	c.offset, c.debt = offset, 0
	c.low.reset(arrival, offset)
	c.late = lowest{}
	c.reported = false
	c.born, c.bornAt = offset, arrival
}

// move slews the offset towards its target, as far as the elapsed RTP time permits.
func (c *clock) move(elapsed int64) {
	want := c.target() - c.offset
	if want == 0 {
		c.debt = 0
		return
	}
	c.debt += min(elapsed, 10*c.rate) * c.slew
	step := c.debt / 1_000_000
	c.debt -= step * 1_000_000
	c.offset += max(min(want, step), -step)
}

func (c *clock) target() int64 {
	low := c.low.min()
	c.followed = false
	if c.leader == nil || !c.reported || !c.leader.reported {
		return low
	}
	// NTP time plus the leader's idea of what its sender's NTP clock is on ours.
	wall := c.leader.offset - c.leader.ntp
	target := c.ntp + rescale(wall, c.leader.rate, c.rate)
	if d := target - low; max(d, -d) > c.ticks(clockClamp) {
		return low
	}
	c.followed = true
	return target
}

// report takes a sender report: ntp and rtp are the same instant by the sender (RFC 3550 §6.4.1).
func (c *clock) report(ntp uint64, rtp uint32, arrival time.Duration) {
	if c.state == clockUnset || ntp == 0 {
		return
	}
	c.ntp = ntpTicks(ntp, c.rate) - c.unwrap(rtp)
	c.reported, c.heard = true, arrival
}

// expire forgets a sender report that has grown old.
func (c *clock) expire(now time.Duration) {
	if c.reported && now-c.heard > clockReport {
		c.reported = false
	}
}

// drift is by how much the sender's clock is slower than ours, in parts per million; 0 until a
// minute has passed.
func (c *clock) drift(now time.Duration) float64 {
	if c.state != clockRunning || now-c.bornAt < time.Minute {
		return 0
	}
	return float64(c.low.min()-c.born) / float64(c.ticks(now-c.bornAt)) * 1e6
}

// errorBound is how far a position may be from when the packet was sent, network delay aside.
func (c *clock) errorBound() time.Duration { return toDuration(c.low.spread(), c.rate) }

func (c *clock) unwrap(rtp uint32) int64 { return c.ext + int64(int32(rtp-c.base)) }

func (c *clock) ticks(d time.Duration) int64 { return toTicks(d, c.rate) }

// lowest is the least of the values of the last half minute.
type lowest struct {
	bucket [6]int64
	n      int // buckets in use
	since  time.Duration
	top    int64
}

const lowestBucket = 5 * time.Second

func (l *lowest) reset(now time.Duration, v int64) {
	*l = lowest{n: 1, since: now, top: v}
	l.bucket[0] = v
}

func (l *lowest) add(now time.Duration, v int64) {
	switch {
	case l.n == 0:
		l.reset(now, v)
		return
	case now-l.since >= lowestBucket:
		copy(l.bucket[1:], l.bucket[:len(l.bucket)-1])
		l.n = min(l.n+1, len(l.bucket))
		l.bucket[0], l.top, l.since = v, v, now
		return
	}
	l.bucket[0] = min(l.bucket[0], v)
	l.top = max(l.top, v)
}

func (l *lowest) min() int64 {
	v := int64(math.MaxInt64)
	for _, b := range l.bucket[:l.n] {
		v = min(v, b)
	}
	return v
}

// spread is how far apart the values of the current bucket are.
func (l *lowest) spread() int64 {
	if l.n == 0 {
		return 0
	}
	return l.top - l.bucket[0]
}

// toTicks is d in ticks of a clock of rate Hz, rounded down.
func toTicks(d time.Duration, rate int64) int64 {
	s, rest := int64(d/time.Second), int64(d%time.Second)
	return s*rate + rest*rate/int64(time.Second)
}

// toDuration is the inverse of toTicks, to the nanosecond.
func toDuration(ticks, rate int64) time.Duration {
	return time.Duration(ticks/rate)*time.Second + time.Duration(ticks%rate)*time.Second/time.Duration(rate)
}

// ntpTicks is an NTP timestamp (RFC 5905 §6) in ticks.
func ntpTicks(ntp uint64, rate int64) int64 {
	return int64(ntp>>32)*rate + int64((ntp&math.MaxUint32)*uint64(rate)>>32)
}

// rescale converts ticks between rates, without overflow for any NTP time.
func rescale(ticks, from, to int64) int64 {
	return ticks/from*to + ticks%from*to/from
}
