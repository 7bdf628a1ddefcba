package depacket

import "time"

// KeyFrames decides when to ask for a key frame: at once when one is needed, and every 500 ms until it
// comes. First by PLI (RFC 4585 §6.3.1), then by FIR (RFC 5104
// §4.3.1), which an encoder must obey. One that has answered nothing for long is a camera that is off,
// and is asked more rarely.
type KeyFrames struct {
	needed bool
	any    bool          // one was asked for lately
	asked  time.Duration // when it last was
	tries  int           // for the need at hand
}

// KeyFrameRequest is how a sender is asked for a key frame.
type KeyFrameRequest int

const (
	// NoRequest asks for none.
	NoRequest KeyFrameRequest = iota
	PLI
	FIR
)

const (
	keyFrameInterval = 500 * time.Millisecond
	keyFrameSlow     = 2 * time.Second
	keyFramePLIs     = 4  // then FIR
	keyFrameFast     = 20 // requests at the short interval
)

// Need says that nothing can be decoded before the next key frame.
func (k *KeyFrames) Need() {
	if !k.needed {
		*k = KeyFrames{needed: true}
	}
}

// NeedAnother says that the last one was of no use to us: it is not asked for sooner than if it had not come.
func (k *KeyFrames) NeedAnother() {
	if !k.needed {
		k.needed, k.tries = true, 0
	}
}

// Expect says that one is on its way, as if it had been asked for.
func (k *KeyFrames) Expect(now time.Duration) { k.any, k.asked = true, now }

// Awaited reports whether nothing can be decoded before the next key frame.
func (k *KeyFrames) Awaited() bool { return k.needed }

// Came says that a key frame arrived whole.
func (k *KeyFrames) Came() { k.needed = false }

// Due is what to send now.
func (k *KeyFrames) Due(now time.Duration) KeyFrameRequest {
	if !k.needed {
		return NoRequest
	}
	interval := keyFrameInterval
	if k.tries >= keyFrameFast {
		interval = keyFrameSlow
	}
	if k.any && now-k.asked < interval {
		return NoRequest
	}
	k.any, k.asked, k.tries = true, now, k.tries+1
	if k.tries > keyFramePLIs {
		return FIR
	}
	return PLI
}
