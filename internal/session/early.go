package session

import (
	"time"

	"recorder/internal/signaling"
)

const (
	earlyPerPeer = 64              // signals held for one peer
	earlyBytes   = 256 << 10       // of these
	earlyPeers   = 64              // peers for which signals are held
	earlyAge     = 5 * time.Second // how long they are held

	// earlyPatience is how long signals wait before the service is asked who is
	// there: presence of their sender may be lost. No two questions come closer
	// than earlyPause, as anyone may send signals.
	earlyPatience = 2 * time.Second
	earlyPause    = 10 * time.Second
)

// earlySignals holds what arrives from a peer before presence names it, to be
// replayed when it does. An offer may overtake the presence that announces its
// sender, and is never sent twice.
type earlySignals struct {
	peers map[string]*earlyQueue
	asked time.Time // when the service was last asked who is there
}

type earlyQueue struct {
	since   time.Time // of the first signal
	bytes   int
	signals []signaling.Direct
}

// hold keeps a signal and reports whether there was room for it.
func (e *earlySignals) hold(d signaling.Direct, now time.Time) bool {
	q := e.peers[d.From]
	if q == nil {
		if len(e.peers) >= earlyPeers {
			return false
		}
		if e.peers == nil {
			e.peers = make(map[string]*earlyQueue)
		}
		q = &earlyQueue{since: now}
		e.peers[d.From] = q
	}
	if len(q.signals) >= earlyPerPeer || q.bytes+len(d.Data) > earlyBytes {
		return false
	}
	q.bytes += len(d.Data)
	q.signals = append(q.signals, d)
	return true
}

// take returns what is held for a peer, in order, and forgets it.
func (e *earlySignals) take(peerID string) []signaling.Direct {
	q := e.peers[peerID]
	if q == nil {
		return nil
	}
	delete(e.peers, peerID)
	return q.signals
}

// ask reports whether to ask the service who is there, for the sake of signals
// that have waited too long.
func (e *earlySignals) ask(now time.Time) bool {
	if now.Sub(e.asked) < earlyPause {
		return false
	}
	for _, q := range e.peers {
		if now.Sub(q.since) >= earlyPatience {
			e.asked = now
			return true
		}
	}
	return false
}

// expire forgets what has been held too long.
func (e *earlySignals) expire(now time.Time) {
	for id, q := range e.peers {
		if now.Sub(q.since) >= earlyAge {
			delete(e.peers, id)
		}
	}
}
