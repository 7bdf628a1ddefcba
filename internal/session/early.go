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
)

// earlySignals holds what arrives from a peer before presence names it, to be
// replayed when it does. An offer may overtake the presence that announces its
// sender, and is never sent twice.
type earlySignals struct {
	peers map[string]*earlyQueue
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

// expire forgets what has been held too long.
func (e *earlySignals) expire(now time.Time) {
	for id, q := range e.peers {
		if now.Sub(q.since) >= earlyAge {
			delete(e.peers, id)
		}
	}
}
