package session

import (
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"time"

	"recorder/internal/remote"
	"recorder/internal/sink"
)

// bindings ties the streams that members send to the files of one recording,
// by stream id: whatever connection, peer object or peer id brings a known
// stream back within the reconnect window feeds the files that are open.
// Owned by Session.Run.
type bindings struct {
	root *sink.Root
	cfg  Config
	log  *slog.Logger

	joined    bool
	recording *sink.Recording
	began     time.Time              // when it was
	beginning *beginning             // nil if none is being begun
	nudge     chan struct{}          // has nudged called soon
	present   map[string]presentPeer // by peer id
	fault     error                  // why it could not be begun, or is not recorded
	retry     time.Time              // when to try again to begin the recording; zero if that has not failed
	awaiting  time.Time              // since when it waits for another to be repaired; zero if it does not
	streams   []*binding
	reopening []*reopening
	waiting   []arrival // tracks that cannot be bound yet, or are not wanted now
	queued    []*queued // streams of those that wait for a place
	named     int       // how many the manifest names so far
	wait      int       // tracks that do
	said      bool      // that they do
	saidAt    time.Time
	reviewed  time.Time // when labels were last looked at
	metrics   channelMetrics
	rotation  rotation
}

// presentPeer is a member that is in the channel.
type presentPeer struct {
	metadata json.RawMessage
	since    time.Time
}

// arrival is a track that a member has begun to send. Nothing of it is read,
// and so nothing lost, before it is bound or found not to be wanted.
type arrival struct {
	peer      *remote.Peer
	track     *remote.Track
	streamID  string
	stream    *remote.Stream // nil for a track that belongs to none
	since     time.Time
	displaced bool   // it was taken off its stream's files, until it is heard of again
	aside     *aside // where it goes while it is not wanted
}

// join begins the recording: the bot is in the channel.
func (b *bindings) join(now time.Time) {
	b.joined = true
	b.begin(now, nil)
}

// peerJoined notes a member in the manifest, media or not, and what it says
// of itself now.
func (b *bindings) peerJoined(id string, metadata json.RawMessage) {
	m, known := b.present[id]
	if m.metadata = metadata; !known {
		m.since = time.Now()
	}
	b.present[id] = m
	if b.recording != nil {
		b.recording.PeerJoined(id, metadata)
	}
}

func (b *bindings) peerLeft(id string) {
	delete(b.present, id)
	if b.recording != nil {
		b.recording.PeerLeft(id)
	}
}

// add takes in a track that a member sends.
func (b *bindings) add(peer *remote.Peer, e remote.TrackAdded, now time.Time) {
	if slot := b.bound(e.Track); slot != nil {
		if len(e.Streams) > 0 {
			slot.from.stream = e.Streams[0]
		}
		return // it moved to other streams; its file goes on
	}
	a := arrival{peer: peer, track: e.Track, streamID: "track " + e.Track.ID(), since: now, aside: new(aside)}
	if len(e.Streams) > 0 {
		a.stream, a.streamID = e.Streams[0], e.Streams[0].ID()
	}
	if i := slices.IndexFunc(b.waiting, func(w arrival) bool { return w.track == e.Track }); i >= 0 {
		b.waiting[i].stream, b.waiting[i].streamID = a.stream, a.streamID
		return
	}
	if !b.bind(a, now) {
		b.waiting = append(b.waiting, a)
	}
}

// bound is the slot that a track feeds, if any.
func (b *bindings) bound(track *remote.Track) *slot {
	for _, s := range b.streams {
		for _, slot := range s.slots {
			if slot.feed.track == track {
				return slot
			}
		}
	}
	return nil
}

// bind connects a track to its file. It reports false when it is too early to
// say which, or when there is nowhere to record to yet.
func (b *bindings) bind(a arrival, now time.Time) bool {
	if b.recording == nil && !b.retry.IsZero() {
		a.discard(sink.ReasonDisk, now) // what waits until the disk takes it would be out of date
	}
	if !b.wanted(&a, now) || a.displaced && !a.aside.seen.Load() {
		return false
	}
	if b.recording == nil {
		a.hold(now)
		return false
	}
	var s *binding
	switch v, h := b.decide(a, now); {
	case v == begins:
		if s = b.open(a, now); s == nil {
			return false
		}
	case v == continues && h.binding != nil:
		s = h.binding
	case v == continues && h.asleep:
		b.reopen(h.peer, a)
		fallthrough
	default:
		a.hold(now)
		return false
	}
	if s.peer != a.peer {
		b.displace(s, a.peer, now)
	}
	a.displaced = false
	if err := s.attach(a); errors.Is(err, sink.ErrClosed) {
		b.replace(s, now)
		return false
	} else if err != nil { // hostile numbers of tracks
		if a.discard(sink.ReasonCapacity, now) {
			b.metrics.refuse(refusedStreams)
			b.log.Warn("track is not recorded", "peer", a.peer.ID(), "stream", a.streamID, "err", err)
		}
		return false
	}
	return true
}

// replace gives a stream up whose files were closed though it is sent. Its tracks go on in others.
func (b *bindings) replace(s *binding, now time.Time) {
	b.log.Error("the files of a stream were closed while it was sent, others follow", "peer", s.peer.ID(), "stream", s.id)
	b.setAside(s, now, false)
	b.streams = slices.DeleteFunc(b.streams, func(other *binding) bool { return other == s })
}

// end closes the files of a stream that has not come back.
func (b *bindings) end(s *binding) {
	b.log.Info("stream ended", "peer", s.peer.ID(), "stream", s.id)
	s.sink.Close(sink.NotBack)
}

// displace gives a stream to another sender, its own having fallen silent.
// Should that be heard of again, it gets a stream of its own.
func (b *bindings) displace(s *binding, to *remote.Peer, now time.Time) {
	s.lose() // if only for a moment: the manifest tells of every change of sender
	b.resume(s, to, now)
	b.setAside(s, now, true)
	s.since = now
}

// setAside takes a stream's tracks off its files. They get others, if displaced not before they are heard of again.
func (b *bindings) setAside(s *binding, now time.Time, displaced bool) {
	for _, slot := range s.slots {
		if slot.feed.open() {
			a := slot.from
			a.since, a.displaced, a.aside = now, displaced, &aside{taken: true}
			b.waiting = append(b.waiting, a)
			slot.feed.stop()
			a.track.Forward(a.aside)
		}
	}
}

// open begins a stream, or has the one begin that the track waited with. It is nil if there is no place for it now.
func (b *bindings) open(a arrival, now time.Time) *binding {
	if !b.room(a.peer) {
		b.queue(a, now)
		return nil
	}
	stream := b.unqueue(a)
	if stream == nil {
		var err error
		switch stream, err = b.recording.NewStream(b.info(a)); {
		case errors.Is(err, sink.ErrFull): // another recording takes its place in a moment
			a.hold(now)
			return nil
		case err != nil:
			if a.discard(sink.ReasonCapacity, now) {
				b.metrics.refuse(refusedStreams)
				b.log.Error("stream is not recorded, and waits", "peer", a.peer.ID(), "err", err)
			}
			return nil
		}
		if a.aside.reason != "" {
			stream.Wait(a.aside.reason, a.aside.since)
			stream.Admit()
		}
	}
	if slices.ContainsFunc(b.streams, func(s *binding) bool { return s.id == a.streamID }) {
		b.log.Warn("two peers share one stream id, recorded apart", "peer", a.peer.ID())
	}
	s := &binding{id: a.streamID, peer: a.peer, sink: stream, alive: now, since: now}
	b.streams = append(b.streams, s)
	return s
}

// info is what the manifest says of a track's stream.
func (b *bindings) info(a arrival) sink.StreamInfo {
	info := sink.StreamInfo{PeerID: a.peer.ID(), StreamID: a.streamID, PeerMetadata: a.peer.Metadata()}
	if a.stream != nil {
		info.Metadata = a.stream.Metadata()
	}
	return info
}

// settle binds what had to wait, notices outages, and closes the files of
// streams that have not come back within the reconnect window.
func (b *bindings) settle(now time.Time) {
	b.takeIn(now)
	if b.joined {
		b.begin(now, nil)
	}
	b.rotate(now)
	if now.Sub(b.reviewed) >= labelReview {
		b.review(now)
	}
	b.bindWaiting(now)
	b.settleQueue(now)
	for _, s := range slices.Clone(b.streams) {
		if s.sink.Closed() {
			b.replace(s, now)
		}
	}
	b.streams = slices.DeleteFunc(b.streams, func(s *binding) bool {
		if s.flowed(now, flowTimeout) || s.sent() {
			if s.out {
				b.resume(s, s.peer, now)
			}
			s.meet(now)
			s.alive = now
			return false
		}
		if s.expected(now) {
			s.alive = now
			return false
		}
		s.lose()
		if now.Sub(s.alive) < b.cfg.ReconnectWindow {
			return false
		}
		b.setAside(s, now, true)
		b.end(s)
		return true
	})
}

// nudged takes in what was done off the loop, for whom it was waited for.
func (b *bindings) nudged(now time.Time) {
	b.takeIn(now)
	b.bindWaiting(now)
}

// takeIn takes in what was done off the loop.
func (b *bindings) takeIn(now time.Time) {
	b.begun(now)
	b.reopened(now)
}

// bindWaiting binds those who wait, if it is time.
func (b *bindings) bindWaiting(now time.Time) {
	waiting := b.waiting
	b.waiting = nil // who is displaced by one of these is to wait, too
	for _, a := range waiting {
		if !a.track.Ended() && !b.bind(a, now) {
			b.waiting = append(b.waiting, a)
		}
	}
}

// resume ends an outage of a stream: its sender is there again, or another one.
func (b *bindings) resume(s *binding, sender *remote.Peer, now time.Time) {
	s.out = false
	s.sink.Resume(sender.ID())
	b.metrics.outages.Observe(now.Sub(s.alive).Seconds())
}

// awaited reports whether a connection that is being made is to bring a member's media.
func (b *bindings) awaited(peer *remote.Peer, now time.Time) bool {
	return slices.ContainsFunc(b.streams, func(s *binding) bool { return s.peer == peer && s.expected(now) })
}

// flowing reports whether media of a member arrived within the given time.
func (b *bindings) flowing(peer *remote.Peer, now time.Time, within time.Duration) bool {
	return slices.ContainsFunc(b.streams, func(s *binding) bool { return s.peer == peer && s.flowed(now, within) })
}

// size is how many bytes of media there are.
func (b *bindings) size() int64 {
	if b.recording == nil {
		return 0
	}
	return b.rotation.size + b.recording.Size()
}
