package main

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/logging"
	"github.com/pion/webrtc/v4"

	"recorder/internal/lab/member"
	"recorder/internal/signaling"
)

// appearance is what one member of the demo does.
type appearance struct {
	name string
	come time.Duration // into the channel, counted from when the bot is there
	play time.Duration // then it leaves
}

// program is what happens in the demo, in order of leaving. Just before the first one leaves everyone is there.
var program = []appearance{
	{"alice", 0, 8 * time.Second},
	{"bob", 3 * time.Second, 8 * time.Second},
}

// delivery is what one member sent to the bot on one track.
type delivery struct {
	member string
	member.Sent
}

// appear plays one member's part.
func (d *demo) appear(ctx context.Context, a appearance, start time.Time) error {
	if err := sleepUntil(ctx, start.Add(a.come)); err != nil {
		return err
	}
	credential, err := signaling.NewSecretKey(signaling.SecretKeyOptions{
		ID: "sk_id_demo", Secret: d.secret, PeerID: a.name, Channels: []string{demoChannel},
		PeerMetadata: map[string]any{"name": a.name},
	})
	if err != nil {
		return err
	}
	camera := map[string]any{"role": "camera"}
	stream := a.name + "-camera"
	joining, cancel := context.WithTimeout(ctx, demoPatience)
	m, err := member.Join(joining, member.Options{
		URL:        d.server,
		Credential: credential,
		Channel:    demoChannel,
		Tracks: []member.Track{
			{StreamID: stream, TrackID: a.name + "-picture", MimeType: webrtc.MimeTypeVP8, Source: first(a.play, member.Picture()), Metadata: camera},
			{StreamID: stream, TrackID: a.name + "-sound", MimeType: webrtc.MimeTypeOpus, Source: first(a.play, member.Sound()), Metadata: camera},
		},
		Settings: func(s *webrtc.SettingEngine) {
			loopbackOnly(s)
			s.LoggerFactory = &logging.DefaultLoggerFactory{Writer: io.Discard} // the members' trouble is not the bot's
		},
		Logger: d.log.With("member", a.name),
	})
	cancel()
	if err != nil {
		return err
	}
	defer m.Leave()
	d.mu.Lock()
	d.present = append(d.present, m)
	d.mu.Unlock()

	if err := d.awaitPlayed(ctx, m, a.play); err != nil {
		return err
	}
	if err := d.awaitWritten(ctx, m); err != nil {
		return err
	}
	select {
	case <-d.met:
	case <-time.After(demoPatience):
		return errors.New("the others did not come in time")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.present = slices.DeleteFunc(d.present, func(other *member.Member) bool { return other == m })
	for _, s := range d.sentBy(m) {
		d.sent = append(d.sent, delivery{a.name, s})
	}
	return nil
}

// first is the beginning of a source.
func first(length time.Duration, source member.Source) member.Source {
	return func(yield func([]byte, time.Duration) bool) {
		played := time.Duration(0)
		for frame, d := range source {
			if played >= length || !yield(frame, d) {
				return
			}
			played += d
		}
	}
}

// awaitPlayed returns when m has sent the bot everything.
func (d *demo) awaitPlayed(ctx context.Context, m *member.Member, length time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, length+demoPatience, errors.New("it could not send its media in time"))
	defer cancel()
	playing := func(s member.Sent) bool { return s.Played < length }
	for {
		sent := d.sentBy(m)
		if len(sent) > 0 && !slices.ContainsFunc(sent, playing) {
			return nil
		}
		if err := sleepUntil(ctx, time.Now().Add(20*time.Millisecond)); err != nil {
			return err
		}
	}
}

// awaitWritten returns when the bot has written all that m has sent it, or does not come to it: then the review will say so.
func (d *demo) awaitWritten(ctx context.Context, m *member.Member) error {
	for deadline := time.Now().Add(demoPatience); time.Now().Before(deadline); {
		sent := 0
		for _, s := range d.sentBy(m) {
			sent += s.Frames
		}
		written := framesWritten(d.app.reg)
		if written[streamKind{m.ID(), "video"}]+written[streamKind{m.ID(), "audio"}] >= sent {
			return nil
		}
		if err := sleepUntil(ctx, time.Now().Add(50*time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

// sentBy is what m has sent to the bot, by track.
func (d *demo) sentBy(m *member.Member) []member.Sent {
	return slices.DeleteFunc(m.Sent(), func(s member.Sent) bool { return s.Peer != d.bot })
}

func sleepUntil(ctx context.Context, t time.Time) error {
	select {
	case <-time.After(time.Until(t)):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// loopbackOnly keeps media on this machine, and works where there is no network at all.
func loopbackOnly(s *webrtc.SettingEngine) {
	s.SetIncludeLoopbackCandidate(true)
	s.SetIPFilter(net.IP.IsLoopback)
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	s.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
}
