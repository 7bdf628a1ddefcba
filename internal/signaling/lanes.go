package signaling

import (
	"math"
	"time"
)

const (
	// How much may wait for its turn to be sent.
	maxWaitingRequests = 8192
	maxWaitingBytes    = 32 << 20

	// servedHalf is how long it takes until half of what a lane was sent is
	// forgotten.
	servedHalf = 30 * time.Second
)

// lanes hold what waits to be sent, apart for each peer and each channel it is
// for. All of them share the message rate of one connection, and what is sent to
// a peer is often caused by it. So whoever was sent the least lately goes first:
// one that asks for much holds up itself alone.
type lanes struct {
	of       map[laneKey]*lane
	requests int
	bytes    int // of their data
	calls    uint64
}

type laneKey struct{ to, channel string }

// lane is what waits for one of them, in call order.
type lane struct {
	waiting []*request
	bytes   int
	served  float64 // frames, fading
	at      time.Time
}

func newLanes() lanes { return lanes{of: make(map[laneKey]*lane)} }

// push appends r to its lane. When too much waits it returns what has to give
// way instead: the newest of the lane that holds the most.
func (q *lanes) push(r *request) (refused *request) {
	key := laneKey{r.frame.To, r.frame.Channel}
	l := q.of[key]
	if l == nil {
		l = &lane{}
		q.of[key] = l
	}
	q.calls++
	r.call = q.calls
	l.waiting = append(l.waiting, r)
	q.account(l, 1, len(r.frame.Data))
	if q.requests <= maxWaitingRequests && q.bytes <= maxWaitingBytes {
		return nil
	}
	longest := q.longest()
	last := len(longest.waiting) - 1
	refused = longest.waiting[last]
	longest.waiting = longest.waiting[:last]
	q.account(longest, -1, -len(refused.frame.Data))
	return refused
}

func (q *lanes) account(l *lane, requests, bytes int) {
	q.requests += requests
	q.bytes += bytes
	l.bytes += bytes
}

// longest is the lane with the largest part of what may wait.
func (q *lanes) longest() (longest *lane) {
	most := -1.0
	for _, l := range q.of {
		part := max(float64(len(l.waiting))/maxWaitingRequests, float64(l.bytes)/maxWaitingBytes)
		if part > most {
			longest, most = l, part
		}
	}
	return longest
}

// first returns whose turn it is, nil if nothing waits, and forgets what was
// settled meanwhile and lanes of no more use.
func (q *lanes) first(now time.Time) (first *request) {
	least := 0.0
	for key, l := range q.of {
		for len(l.waiting) > 0 && l.waiting[0].settled {
			q.pop(l)
		}
		served := l.servedBy(now)
		if len(l.waiting) == 0 {
			if served < 0.1 {
				delete(q.of, key)
			}
			continue
		}
		if r := l.waiting[0]; first == nil || served < least || served == least && r.call < first.call {
			first, least = r, served
		}
	}
	return first
}

// sent removes r, the first of its lane, as it leaves.
func (q *lanes) sent(r *request, now time.Time) {
	l := q.of[laneKey{r.frame.To, r.frame.Channel}]
	q.pop(l)
	l.served, l.at = l.servedBy(now)+1, now
}

func (q *lanes) pop(l *lane) {
	q.account(l, -1, -len(l.waiting[0].frame.Data))
	l.waiting[0] = nil
	l.waiting = l.waiting[1:]
}

// all lists what waits, in no order.
func (q *lanes) all() (all []*request) {
	for _, l := range q.of {
		all = append(all, l.waiting...)
	}
	return all
}

func (l *lane) servedBy(now time.Time) float64 {
	return l.served * math.Exp2(-now.Sub(l.at).Seconds()/servedHalf.Seconds())
}
