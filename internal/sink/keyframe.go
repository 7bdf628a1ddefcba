package sink

import "time"

// keyFrames decides when to ask for a key frame: at once when one is needed, and every 500 ms until it
// comes. First by PLI (RFC 4585 §6.3.1), then by FIR (RFC 5104
// §4.3.1), which an encoder must obey. One that has answered nothing for long is a camera that is off,
// and is asked more rarely.
type keyFrames struct {
	needed bool
	any    bool          // one was asked for lately
	asked  time.Duration // when it last was
	tries  int           // for the need at hand
}

type keyFrameRequest int

const (
	noRequest keyFrameRequest = iota
	pli
	fir
)

const (
	keyFrameInterval = 500 * time.Millisecond
	keyFrameSlow     = 2 * time.Second
	keyFramePLIs     = 4  // then FIR
	keyFrameFast     = 20 // requests at the short interval
)

// need says that nothing can be decoded before the next key frame.
func (k *keyFrames) need() {
	if !k.needed {
		*k = keyFrames{needed: true}
	}
}

// needAnother says that the last one was of no use to us: it is not asked for sooner than if it had not come.
func (k *keyFrames) needAnother() {
	if !k.needed {
		k.needed, k.tries = true, 0
	}
}

// expect says that one is on its way, as if it had been asked for.
func (k *keyFrames) expect(now time.Duration) { k.any, k.asked = true, now }

// came says that a key frame arrived whole.
func (k *keyFrames) came() { k.needed = false }

// due is what to send now.
func (k *keyFrames) due(now time.Duration) keyFrameRequest {
	if !k.needed {
		return noRequest
	}
	interval := keyFrameInterval
	if k.tries >= keyFrameFast {
		interval = keyFrameSlow
	}
	if k.any && now-k.asked < interval {
		return noRequest
	}
	k.any, k.asked, k.tries = true, now, k.tries+1
	if k.tries > keyFramePLIs {
		return fir
	}
	return pli
}
