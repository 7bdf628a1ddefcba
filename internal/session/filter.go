package session

import (
	"encoding/json"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pion/webrtc/v4"

	"recorder/internal/sink"
)

// roleWait is how long a track whose role is not known yet is left unread, so
// that nothing of it is lost if it turns out to be wanted. A member names its
// tracks a moment before or after it offers them.
const roleWait = time.Second

// labelReview is how often it is looked whether what is recorded has got another
// label, as a member may correct itself.
const labelReview = time.Second

// wants reports whether a track is to be recorded, and whether that is certain:
// a role that is not known yet may still come.
func (c *Config) wants(a *arrival) (wanted, certain bool) {
	kind := a.track.Kind()
	if kind == webrtc.RTPCodecTypeAudio && c.SkipAudio || kind == webrtc.RTPCodecTypeVideo && c.SkipVideo {
		return false, true
	}
	if len(c.Roles) == 0 {
		return true, true
	}
	role := a.role()
	return slices.Contains(c.Roles, role), role != ""
}

// role is what the member says its stream is, "" if it does not say.
func (a *arrival) role() string {
	metadata := a.track.Metadata()
	if a.stream != nil {
		metadata = a.stream.Metadata()
	}
	var label struct {
		Role string `json:"role"`
	}
	if json.Unmarshal(metadata, &label) != nil {
		return ""
	}
	return label.Role
}

// wanted reports whether a track is to be recorded. One that is not is
// received and dropped, in case the configuration or its role changes.
func (b *bindings) wanted(a *arrival, now time.Time) bool {
	wanted, certain := b.cfg.wants(a)
	if !wanted && (certain || now.Sub(a.since) >= roleWait) {
		a.drop()
		a.aside.reason, a.aside.since, a.aside.listed = "", time.Time{}, false
	}
	return wanted
}

// drop has the track deliver to nobody.
func (a *arrival) drop() {
	if !a.aside.taken {
		a.aside.taken = true
		a.track.Forward(a.aside)
	}
}

// aside drops what a track delivers (remote.RTPWriter).
type aside struct {
	taken  bool        // by the track; owned by Session.Run, as are the next
	reason sink.Reason // why it is not recorded though it is wanted; empty if it is not wanted, or waits unread
	since  time.Time   // since when, with reason
	listed bool        // the manifest says that it waits for a place
	seen   atomic.Bool // something came
}

// SetFormats implements remote.RTPWriter.
func (*aside) SetFormats(map[uint8]webrtc.RTPCodecParameters) {}

// WriteRTP implements remote.RTPWriter.
func (a *aside) WriteRTP([]byte, time.Time) { a.seen.Store(true) }

// WriteSenderReport implements remote.RTPWriter.
func (*aside) WriteSenderReport(uint64, uint32, time.Time) {}

// Close implements remote.RTPWriter.
func (*aside) Close() {}

// review takes in what members say of their streams by now.
func (b *bindings) review(now time.Time) {
	b.reviewed = now
	if len(b.cfg.Roles) > 0 {
		b.sift(now, true)
	}
	for _, s := range b.streams {
		s.describe()
	}
}

// configure applies other rules to what is under way. Everything that they do
// not change is not touched, and settle takes in what is wanted now.
func (b *bindings) configure(cfg Config, now time.Time) {
	b.cfg = cfg
	if b.recording != nil {
		b.recording.SetReconnectWindow(cfg.ReconnectWindow)
	}
	b.sift(now, false)
}

// sift sets tracks aside that are not wanted, be it for certain or not, and
// finalises streams that are left without any.
func (b *bindings) sift(now time.Time, forCertain bool) {
	b.streams = slices.DeleteFunc(b.streams, func(s *binding) bool {
		kept := false
		for _, slot := range s.slots {
			if wanted, certain := b.cfg.wants(&slot.from); wanted || forCertain && !certain {
				kept = true
				continue
			}
			if slot.feed.open() {
				a := slot.from
				a.since, a.aside = now, new(aside)
				b.waiting = append(b.waiting, a)
				slot.feed.stop()
				slot.sink.Pause()
			}
		}
		if !kept {
			b.log.Info("stream ended", "peer", s.peer.ID(), "stream", s.id)
			s.sink.Close("not recorded any more")
		}
		return !kept
	})
}
