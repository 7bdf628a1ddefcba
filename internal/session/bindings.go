package session

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"time"

	"recorder/internal/remote"
	"recorder/internal/sink"
)

const (
	// flowTimeout is how long after its last packet media counts as flowing.
	// Chromium sends 50 audio packets a second even when muted.
	flowTimeout = time.Second

	// claimTimeout is how long a stream id that another live member claims is
	// contested. A member that returns under a new id has closed its old
	// connection by then; one that has not is somebody else.
	claimTimeout = 1500 * time.Millisecond
	claimSilence = 400 * time.Millisecond // without a packet the old claim is given up

	recordingRetry  = 10 * time.Second // after the recording could not be begun
	descriptorRetry = time.Second      // and when a file descriptor was all it lacked

	// recoveryPatience is how long it is waited for another recording to be repaired that this one would continue. Pictures
	// of 2 Mbit/s, which wait with their connection, are lost after that.
	recoveryPatience = 4 * time.Second

	// connecting is how long a connection may take to deliver its first packet
	// before its streams count as away.
	connecting = 15 * time.Second
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
	present   map[string]json.RawMessage // members by peer id, with their metadata
	retry     time.Time                  // when to try again to begin the recording; zero if that has not failed
	awaiting  time.Time                  // since when it waits for another to be repaired; zero if it does not
	streams   []*binding
	waiting   []arrival // tracks that cannot be bound yet, or are not wanted now
	reviewed  time.Time // when labels were last looked at
	metrics   channelMetrics
	rotation  rotation
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

// begin begins the recording, unless there is one. It takes the place of
// another one, if that is given.
func (b *bindings) begin(now time.Time, full *sink.Recording) {
	if b.recording != nil || now.Before(b.retry) {
		return
	}
	start, noWait := now, false
	if !b.awaiting.IsZero() {
		start, noWait = b.awaiting, now.Sub(b.awaiting) >= recoveryPatience
	}
	recording, err := b.root.NewRecording(sink.RecordingInfo{
		Channel: b.cfg.Channel, Bot: b.cfg.Bot, Start: start, ReconnectWindow: b.cfg.ReconnectWindow, Follows: full, NoWait: noWait,
	})
	if errors.Is(err, sink.ErrRecovering) {
		b.awaiting = start
		return // tracks wait, too
	}
	b.awaiting = time.Time{}
	if err != nil {
		pause := recordingRetry
		if errors.Is(err, sink.ErrNoDescriptors) {
			pause = descriptorRetry // one may be free in a moment
		}
		if pause == recordingRetry || b.retry.IsZero() { // once, if it is tried each second
			b.log.Error("could not begin the recording", "retry_in", pause, "err", err)
		}
		b.retry = now.Add(pause)
		return
	}
	b.recording, b.retry = recording, time.Time{}
	for id, metadata := range b.present {
		recording.PeerJoined(id, metadata)
	}
}

// peerJoined notes a member in the manifest, media or not, and what it says
// of itself now.
func (b *bindings) peerJoined(id string, metadata json.RawMessage) {
	b.present[id] = metadata
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
	a.aside.woke = false
	if b.recording == nil && !b.retry.IsZero() {
		a.drop() // what waits until the disk takes it would be out of date
	}
	if b.recording == nil || !b.wanted(&a, now) || a.displaced && !a.aside.seen.Load() {
		return false
	}
	s := b.find(a, now)
	if s == nil && b.contested(a, now) {
		return false
	}
	if s == nil && !b.room(a.peer) {
		if !a.aside.refused {
			a.aside.refused = true
			b.metrics.refuse(refusedStreams)
		}
		return false
	}
	if s == nil {
		var err error
		s, err = b.open(a, now)
		if errors.Is(err, sink.ErrFull) || errors.Is(err, sink.ErrRecovering) {
			a.aside.woke = errors.Is(err, sink.ErrRecovering)
			return false // another recording takes its place in a moment, or the stream is being woken
		}
		if err != nil {
			if !a.aside.refused {
				a.aside.refused = true
				b.log.Error("stream is not recorded, and waits", "peer", a.peer.ID(), "err", err)
			}
			return false
		}
	}
	if s.peer != a.peer {
		b.displace(s, a.peer, now)
	}
	a.displaced = false
	s.attach(a, now)
	return true
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
	b.setAside(s, now)
}

// setAside takes a stream's tracks off its files. Those that are heard of again get others.
func (b *bindings) setAside(s *binding, now time.Time) {
	for _, slot := range s.slots {
		if slot.feed.open() {
			a := slot.from
			a.since, a.displaced, a.aside = now, true, &aside{taken: true}
			b.waiting = append(b.waiting, a)
			slot.feed.stop()
			a.track.Forward(a.aside)
		}
	}
}

// find returns the binding that a track belongs to: its sender's own, or one
// whose sender is no longer there to feed it.
func (b *bindings) find(a arrival, now time.Time) *binding {
	var free *binding
	for _, s := range b.streams {
		switch {
		case s.id != a.streamID:
		case s.peer == a.peer:
			return s
		case free == nil && !a.displaced && !s.claimed(now):
			free = s
		}
	}
	return free
}

// contested reports whether another member, still live, feeds a stream of the
// same id, and it is not yet certain that it will go on doing so.
func (b *bindings) contested(a arrival, now time.Time) bool {
	return !a.displaced && now.Sub(a.since) < claimTimeout && slices.ContainsFunc(b.streams, func(s *binding) bool { return s.id == a.streamID })
}

func (b *bindings) open(a arrival, now time.Time) (*binding, error) {
	info := sink.StreamInfo{PeerID: a.peer.ID(), StreamID: a.streamID, PeerMetadata: a.peer.Metadata()}
	if a.stream != nil {
		info.Metadata = a.stream.Metadata()
	}
	stream, err := b.recording.Stream(info)
	if err != nil {
		return nil, err
	}
	s := &binding{id: a.streamID, peer: a.peer, sink: stream, alive: now}
	b.streams = append(b.streams, s)
	return s, nil
}

// settle binds what had to wait, notices outages, and closes the files of
// streams that have not come back within the reconnect window.
func (b *bindings) settle(now time.Time) {
	if b.joined {
		b.begin(now, nil)
	}
	b.rotate(now)
	if now.Sub(b.reviewed) >= labelReview {
		b.review(now)
	}
	waiting := b.waiting
	b.waiting = nil // who is displaced by one of these is to wait, too
	for _, a := range waiting {
		if (!a.track.Ended() || a.aside.woke) && !b.bind(a, now) {
			b.waiting = append(b.waiting, a)
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
		b.setAside(s, now)
		b.end(s)
		return true
	})
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

// close finalises all files, which may go on in another session if the process
// is to be started again.
func (b *bindings) close(ctx context.Context, restart bool) error {
	var err error
	switch {
	case b.recording == nil:
	case restart:
		err = b.recording.Suspend(ctx)
	default:
		err = b.recording.Close(ctx)
	}
	return errors.Join(finalised(b.recording, err, b.log), b.rotation.wait(ctx))
}
