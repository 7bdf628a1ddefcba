package sink

import (
	"time"

	"recorder/internal/depacket"
)

// order is a request to a source's sender, made by the pump and given out when no lock is held.
type order struct {
	to      Feedback
	request depacket.KeyFrameRequest
	nack    []uint16 // the source's own, not touched before the next tick
}

// pump moves packets from the inboxes to the files until the recording is closed.
func (rec *Recording) pump() {
	defer close(rec.pumped)
	tick := time.NewTimer(untilBeat())
	defer tick.Stop()
	for last := rec.now(); ; {
		select {
		case <-rec.stop:
			return
		case <-tick.C:
			tick.Reset(untilBeat())
			now := rec.now()
			if now-last > standstill {
				rec.stood(last, now)
			}
			rec.tick(now)
			last = rec.now() // a tick that takes long is no standstill
		}
	}
}

// untilBeat is the time to the next multiple of the interval. Recordings that tick together, and with
// the reading of packets, wake the process once.
func untilBeat() time.Duration {
	return pumpInterval - time.Duration(time.Now().UnixNano())%pumpInterval
}

// tick does all there is to do at now.
func (rec *Recording) tick(now time.Duration) {
	rec.mu.Lock()
	rec.orders = rec.orders[:0]
	for _, s := range rec.streams {
		s.tick(now)
	}
	rec.dismiss(now)
	orders := rec.orders
	rec.mu.Unlock()
	for _, o := range orders {
		if o.request != depacket.NoRequest {
			o.to.RequestKeyFrame(o.request == depacket.FIR)
		}
		if len(o.nack) > 0 {
			o.to.NACK(o.nack)
		}
	}
	clear(orders) // of connections that may be about to end
}
