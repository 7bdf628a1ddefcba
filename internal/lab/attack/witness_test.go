package attack

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"recorder/internal/lab/member"
	"recorder/internal/lab/tape"
	"recorder/internal/signaling"
	"recorder/internal/sink"
)

const (
	// quiet is a witness that is silent now and then, and quietStream its stream.
	quiet       = "carol"
	quietStream = quiet + "-camera"
	// edge is how long before its end a recording may stop to have what was
	// sent, and how long after a stream's beginning it may begin.
	edge = 500 * time.Millisecond
)

// witness is a member that does nothing wrong. Each of its frames is known.
type witness struct {
	name string
	tape tape.Tape
	*member.Member
	left time.Time
}

// testify has a member join a channel and send sound and pictures.
func (r *target) testify(channel, name string, shape func(member.Source) member.Source) *witness {
	r.t.Helper()
	query, err := Target{Channel: channel, KeyID: keyID, Secret: secret}.token(name)
	if err != nil {
		r.t.Fatal(err)
	}
	w := &witness{name: name}
	var tracks []member.Track
	for _, t := range []member.Track{
		{TrackID: name + "-audio", MimeType: webrtc.MimeTypeOpus, Source: shape(member.Sound())},
		{TrackID: name + "-video", MimeType: webrtc.MimeTypeVP8, Source: shape(member.Picture())},
	} {
		t.StreamID = name + "-camera"
		tracks = append(tracks, w.tape.Record(t))
	}
	w.Member, err = member.Join(r.t.Context(), member.Options{
		URL: r.URL, Credential: signaling.StaticToken(strings.TrimPrefix(query, "token=")),
		Channel: channel, Tracks: tracks,
		Meet: func(peer string) bool { return strings.HasPrefix(peer, r.Bot) },
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(w.Leave)
	return w
}

func always(s member.Source) member.Source { return s }

// pausing makes a source silent for two seconds, after each 1.2 s.
func pausing(s member.Source) member.Source {
	return func(yield func([]byte, time.Duration) bool) {
		var played time.Duration
		for frame, length := range s {
			if played += length; played >= 1200*time.Millisecond {
				played, length = 0, length+2*time.Second
			}
			if !yield(frame, length) {
				return
			}
		}
	}
}

// witnesses are one in the channel that is attacked, one that is silent now
// and then, and one in another channel.
func (r *target) witnesses() []*witness {
	all := []*witness{
		r.testify(lobby, "alice", always),
		r.testify(lobby, quiet, pausing),
		r.testify(other, "bob", always),
	}
	for _, w := range all {
		w.flows(r.t, time.Time{})
	}
	time.Sleep(edge)
	return all
}

func (w *witness) leave() {
	w.left = time.Now()
	w.Leave()
}

// recordings reads all manifests.
func (r *target) recordings() (all []sink.Manifest) {
	r.t.Helper()
	found, _ := filepath.Glob(filepath.Join(r.dir, "*", "*", sink.ManifestName))
	for _, name := range found {
		data, err := os.ReadFile(name)
		if err != nil {
			r.t.Fatal(err)
		}
		var m sink.Manifest
		if err := json.Unmarshal(data, &m); err != nil {
			r.t.Fatal(err)
		}
		for _, s := range m.Streams {
			for _, t := range s.Tracks {
				for _, p := range t.Parts {
					p.File = filepath.Join(filepath.Dir(name), filepath.FromSlash(p.File))
				}
			}
		}
		all = append(all, m)
	}
	return all
}

// missing returns the frames of a witness that are in no file of it.
func (w *witness) missing(t testing.TB, recordings []sink.Manifest) (lost []tape.Frame) {
	t.Helper()
	for _, kind := range []string{"audio", "video"} {
		recorded := w.recorded(t, recordings, kind)
		sent := w.tape.Sent(w.name + "-" + kind)
		for _, f := range sent {
			if !recorded[f] && f.At.After(sent[0].At.Add(edge)) && f.At.Before(w.left.Add(-edge)) {
				lost = append(lost, f)
			}
		}
		if len(recorded) == 0 {
			t.Errorf("nothing of %s's %s is recorded", w.name, kind)
		}
	}
	return lost
}

// explained wants the manifest of a witness to say that nothing is missing but
// for the given reasons.
func (w *witness) explained(t testing.TB, recordings []sink.Manifest, reasons ...sink.Reason) {
	t.Helper()
	streams := 0
	for _, m := range recordings {
		for _, s := range m.Streams {
			if s.PeerID != w.name {
				continue
			}
			streams++
			for _, track := range s.Tracks {
				if len(track.Parts) != 1 || track.Ledger.Lost > 0 {
					t.Errorf(
						"%s: %d parts, %d packets lost",
						track.ID,
						len(track.Parts),
						track.Ledger.Lost,
					)
				}
				for _, gap := range track.Gaps {
					if !slices.Contains(reasons, gap.Reason) {
						t.Errorf("%s: a gap %+v", track.ID, *gap)
					}
				}
			}
		}
	}
	if streams != 1 {
		t.Errorf("%s has %d streams", w.name, streams)
	}
}

// check wants nothing of the witness to be missing, and the manifest to say so.
func (w *witness) check(t *testing.T, history []attacked, recordings []sink.Manifest) {
	t.Helper()
	var reasons []sink.Reason
	if w.name == quiet {
		reasons = []sink.Reason{sink.ReasonMute, sink.ReasonReconnect}
	}
	w.explained(t, recordings, reasons...)
	lost := w.missing(t, recordings)
	if len(lost) == 0 {
		return
	}
	for _, a := range history {
		n := 0
		for _, f := range lost {
			if f.At.After(a.start) && f.At.Before(a.end) {
				n++
			}
		}
		if n > 0 {
			t.Errorf("%s: %s loses %d frames", a.name, w.name, n)
		}
	}
	all := len(w.tape.Sent(w.name+"-audio")) + len(w.tape.Sent(w.name+"-video"))
	t.Errorf("%s loses %d frames of %d, the first is %+v", w.name, len(lost), all, lost[0])
	w.accounts(t, recordings)
}

// accounts shows what the manifest says of each track of a witness.
func (w *witness) accounts(t testing.TB, recordings []sink.Manifest) {
	for _, m := range recordings {
		for _, s := range m.Streams {
			for _, track := range s.Tracks {
				if s.PeerID == w.name {
					t.Logf(
						"%s: complete %v, missing %v, %+v",
						track.ID,
						track.Completeness,
						track.Missing,
						track.Ledger,
					)
				}
			}
		}
	}
}
