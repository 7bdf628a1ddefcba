package session

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"

	"github.com/pion/webrtc/v4"

	"recorder/internal/remote"
	"recorder/internal/sink"
)

// binding is one stream and its files.
type binding struct {
	id    string
	peer  *remote.Peer // who sends it now, or did last
	label label
	sink  *sink.Stream
	slots []*slot
	since time.Time // when it got that one
	alive time.Time // when it last was
	out   bool      // an outage is under way
	up    time.Time // when its connection last was; zero if it never was
}

// slot is one track of the stream over successive connections.
type slot struct {
	id    string
	kind  string
	label label
	sink  *sink.Track
	from  arrival // the newest
	feed  *feed   // the newest
}

// label is what the manifest was last told that a sender says of a stream or a track.
type label json.RawMessage

// update tells the manifest of another one. That there is none any more says
// nothing: that is so of tracks that were taken away, too.
func (l *label) update(now json.RawMessage, set func(json.RawMessage)) {
	if now != nil && !bytes.Equal(*l, now) {
		*l = label(now)
		set(now)
	}
}

// describe has the manifest say what the sender says of the stream now.
func (s *binding) describe() {
	told := false
	for _, slot := range s.slots {
		if !slot.feed.open() {
			continue
		}
		slot.label.update(slot.from.track.Metadata(), slot.sink.SetMetadata)
		if stream := slot.from.stream; stream != nil && !told {
			told = true
			s.label.update(stream.Metadata(), s.sink.SetMetadata)
		}
	}
}

// attach feeds a track to the slot that it continues, or to a new one.
func (s *binding) attach(a arrival) error {
	s.peer = a.peer
	slot, err := s.slot(a)
	if err != nil {
		return err
	}
	feed, err := newFeed(a.track, slot.sink)
	if err != nil {
		return err
	}
	a.aside = new(aside) // it waits no more
	if slot.feed == nil {
		s.slots = append(s.slots, slot)
	}
	slot.from, slot.feed = a, feed
	a.track.Forward(feed)
	return nil
}

// lose notes that the stream is away, until it flows again.
func (s *binding) lose() {
	if !s.out {
		s.out = true
		s.sink.Outage(sink.ReasonReconnect, s.up)
	}
}

// meet notes that the stream's connection is up.
func (s *binding) meet(now time.Time) {
	if s.up.IsZero() {
		s.sink.Connected()
	}
	s.up = now
}

// slot finds the track's place: by id; else, as ids change when a stream is
// taken away and added again or its track replaced, the first of its kind that
// nothing feeds, or only the connection before, and none of the stream's tracks
// is about to.
func (s *binding) slot(a arrival) (*slot, error) {
	track, kind := a.track, a.track.Kind().String()
	beside := a.beside()
	for _, slot := range s.slots {
		if slot.kind == kind && slot.id == track.ID() {
			return slot, nil
		}
	}
	for _, slot := range s.slots {
		replaced := a.stream != nil && !sends(a.peer, slot.feed.track)
		if slot.kind == kind && (replaced || !slot.feed.open()) && !slices.Contains(beside, slot.id) {
			slot.id = track.ID()
			slot.sink.SetID(slot.id)
			return slot, nil
		}
	}
	t, err := s.sink.Track(a.info(beside))
	if err != nil {
		return nil, err
	}
	return &slot{id: track.ID(), kind: kind, sink: t}, nil
}

// info is what the manifest says of the track, whose stream has others beside it.
func (a *arrival) info(beside []string) sink.TrackInfo {
	return sink.TrackInfo{ID: a.track.ID(), Kind: a.track.Kind().String(), Beside: beside, Metadata: a.track.Metadata(), Offered: a.aside.since}
}

// beside lists the ids of the other tracks of its kind that the track's stream has now.
func (a *arrival) beside() (ids []string) {
	if a.stream == nil {
		return nil
	}
	for _, t := range a.stream.Tracks() {
		if t != a.track && t.Kind() == a.track.Kind() {
			ids = append(ids, t.ID())
		}
	}
	return ids
}

// sends reports whether a track is still in a stream of a member's.
func sends(peer *remote.Peer, track *remote.Track) bool {
	return slices.ContainsFunc(peer.Streams(), func(s *remote.Stream) bool { return slices.Contains(s.Tracks(), track) })
}

// taken reports whether the sender, which is there, has taken the stream away.
func (s *binding) taken() bool {
	return connected(s.peer) && !s.open()
}

// orphaned reports whether the sender has left, and with it the stream.
func (s *binding) orphaned() bool { return s.peer.State() == remote.StateClosed && !s.open() }

// open reports whether a connection may still deliver any of it.
func (s *binding) open() bool {
	return slices.ContainsFunc(s.slots, func(slot *slot) bool { return slot.feed.open() })
}

func (s *binding) flowed(now time.Time, within time.Duration) bool {
	return slices.ContainsFunc(s.slots, func(slot *slot) bool { return slot.feed.flowed(now, within) })
}

// sent reports whether the sender still says that it sends the stream, over a
// connection that is up.
func (s *binding) sent() bool {
	return connected(s.peer) && s.open()
}

// connected reports whether the connection to a peer is up. Its state tells of
// our signalling, too, which media does not need.
func connected(peer *remote.Peer) bool {
	pc := peer.PeerConnection()
	return pc != nil && pc.ConnectionState() == webrtc.PeerConnectionStateConnected
}

// expected reports whether a connection that is still being made is to bring
// the stream.
func (s *binding) expected(now time.Time) bool {
	return slices.ContainsFunc(s.slots, func(slot *slot) bool {
		return slot.feed.open() && slot.feed.last.Load() == 0 && now.Sub(slot.from.since) < connecting
	})
}
