// Package timeline turns RTP time into positions on one clock, by when packets arrive and by what
// sender reports say. It has no clock of its own and does no I/O: time is passed in.
package timeline

import "time"

// Clock maps the RTP time of one SSRC to positions on the recording's clock, in RTP ticks.
//
// A position is the unwrapped RTP time plus an offset. The offset is what the packets that met the
// least delay say of it (arrival − RTP time, least over half a minute), or, when sender reports
// tie the track to another of the same stream, what keeps the two together (see Follow). It moves
// slowly, so that the sender's clock may drift for days and no two frames change places.
//
// Three things an RTP clock does are no drift, and start a new offset at arrival time:
//   - it is ahead of arrival: no packet comes before it was sent, so the clock jumped;
//   - it is behind by more than the clamp, and after a second still is: it stood still (a network
//     that held packets back delivers the rest at once, and that second tells the two apart);
//   - it is behind by more than any network holds a packet.
//
// A pause during which the RTP clock ran on is none of these and keeps its length.
type Clock struct {
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
	leader   *Clock        // the clock followed, when there is one
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
	clamp      = 500 * time.Millisecond // disagreement with arrival that is still believed
	settle     = 300 * time.Millisecond
	patience   = time.Second
	mostDelay  = 10 * time.Second // no network holds a packet that long
	reportLife = 30 * time.Second // how long a sender report is good for

	// How fast positions may move, in ticks per million. A real clock is off by less than 200 ppm;
	// nobody sees pictures move by a twentieth of their distance.
	AudioSlew = 2_000
	VideoSlew = 50_000
)

// New returns the clock of a source whose RTP time has rate ticks a second. Its positions move by
// at most slew ticks in a million to follow the sender.
func New(rate, slew int64) Clock { return Clock{rate: rate, slew: slew} }

// Reset forgets the sender's clock: it began anew.
func (c *Clock) Reset() { *c = New(c.rate, c.slew) }

// Follow has c keep its distance from a leader by their sender reports; nil ends that. A clock does
// not follow itself.
func (c *Clock) Follow(leader *Clock) {
	c.leader = nil
	if leader != c {
		c.leader = leader
	}
}

// Observe takes note of a packet when it arrives. Packets that came behind a later one are left
// out: their arrival tells when they were sent again.
func (c *Clock) Observe(rtp uint32, arrival time.Duration) {
	at := ToTicks(arrival, c.rate)
	if c.state == clockUnset {
		c.state, c.base, c.first = clockSettling, rtp, arrival
		c.low.reset(arrival, at)
		return
	}
	ext := c.unwrap(rtp)
	if c.state == clockSettling {
		if max(ext, -ext) < c.ticks(mostDelay) {
			c.low.add(arrival, at-ext)
		}
		return
	}
	switch e := at - ext - c.offset; {
	case e < -c.ticks(clamp):
	case e <= c.ticks(clamp):
		c.low.add(arrival, at-ext)
		c.late = lowest{}
		c.fit = arrival
	default:
		c.late.add(arrival, at-ext)
	}
}

// Admit gives the position of a packet, in sequence. It is false as long as more packets have to
// arrive before it can be told; with force it never is.
func (c *Clock) Admit(rtp uint32, arrival, now time.Duration, late, force bool) (position int64, ok bool) {
	switch c.state {
	case clockUnset:
		c.Observe(rtp, arrival)
		fallthrough
	case clockSettling:
		if !force && now-c.first < settle {
			return 0, false
		}
		c.state, c.offset = clockRunning, c.low.min()
		c.began, c.born, c.bornAt = c.offset, c.offset, now
	}
	at, ext := ToTicks(arrival, c.rate), c.unwrap(rtp)
	switch e := at - ext - c.offset; {
	case e < -c.ticks(clamp):
		c.anchor(at-ext, arrival)
	case e <= c.ticks(clamp) || late:
	case e > c.ticks(mostDelay):
		c.anchor(at-ext, arrival)
	case c.fit >= arrival:
	case !force && now-arrival < patience:
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

// Start is where the first packet observed stands on the recording's clock, as far as it is known yet.
func (c *Clock) Start() (time.Duration, bool) {
	switch c.state {
	case clockSettling:
		return ToDuration(c.low.min(), c.rate), true
	case clockRunning:
		return ToDuration(c.began, c.rate), true
	}
	return 0, false
}

// RunsOn reports whether a packet's RTP time goes on from that of those before, by when it arrived.
func (c *Clock) RunsOn(rtp uint32, arrival time.Duration) bool {
	e := ToTicks(arrival, c.rate) - c.unwrap(rtp) - c.offset
	return c.state == clockRunning && max(e, -e) <= c.ticks(clamp)
}

func (c *Clock) anchor(offset int64, arrival time.Duration) {
	c.offset, c.debt = offset, 0
	c.low.reset(arrival, offset)
	c.late = lowest{}
	c.reported = false
	c.born, c.bornAt = offset, arrival
}

// move slews the offset towards its target, as far as the elapsed RTP time permits.
func (c *Clock) move(elapsed int64) {
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

func (c *Clock) target() int64 {
	low := c.low.min()
	c.followed = false
	if c.leader == nil || !c.reported || !c.leader.reported {
		return low
	}
	// NTP time plus the leader's idea of what its sender's NTP clock is on ours.
	wall := c.leader.offset - c.leader.ntp
	target := c.ntp + rescale(wall, c.leader.rate, c.rate)
	if d := target - low; max(d, -d) > c.ticks(clamp) {
		return low
	}
	c.followed = true
	return target
}

// Report takes a sender report: ntp and rtp are the same instant by the sender (RFC 3550 §6.4.1).
func (c *Clock) Report(ntp uint64, rtp uint32, arrival time.Duration) {
	if c.state == clockUnset || ntp == 0 {
		return
	}
	c.ntp = ntpTicks(ntp, c.rate) - c.unwrap(rtp)
	c.reported, c.heard = true, arrival
}

// Expire forgets a sender report that has grown old.
func (c *Clock) Expire(now time.Duration) {
	if c.reported && now-c.heard > reportLife {
		c.reported = false
	}
}

// Drift is by how much the sender's clock is slower than ours, in parts per million; 0 until a
// minute has passed.
func (c *Clock) Drift(now time.Duration) float64 {
	if c.state != clockRunning || now-c.bornAt < time.Minute {
		return 0
	}
	return float64(c.low.min()-c.born) / float64(c.ticks(now-c.bornAt)) * 1e6
}

// Apart is how far a position is from where the sender's clock puts it beside the leader's. It is
// false when nothing ties the two.
func (c *Clock) Apart() (time.Duration, bool) {
	target := c.target()
	return ToDuration(c.offset-target, c.rate), c.followed
}

// Reported reports whether a sender report that is not old ties the clock to its sender's.
func (c *Clock) Reported() bool { return c.reported }

// Followed reports whether sender reports decide where the positions are.
func (c *Clock) Followed() bool { return c.followed }

// ErrorBound is how far a position may be from when the packet was sent, network delay aside.
func (c *Clock) ErrorBound() time.Duration { return ToDuration(c.low.spread(), c.rate) }

func (c *Clock) unwrap(rtp uint32) int64 { return c.ext + int64(int32(rtp-c.base)) }

func (c *Clock) ticks(d time.Duration) int64 { return ToTicks(d, c.rate) }
