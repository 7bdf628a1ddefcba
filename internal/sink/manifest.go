package sink

import (
	"encoding/json"
	"time"
)

// ManifestName is the file name of the manifest, directly under a recording's directory.
const ManifestName = "recording.json"

// ManifestVersion is the layout of Manifest this package writes and the only one it reads.
// It rises with every change that an existing reader could misread.
const ManifestVersion = 1

// Manifest says what a recording holds and what it lacks: enough for a mixer to line up every
// stream of a call and for an auditor to see that nothing is missing without a reason.
// An absent list is an empty one; what holds the files, down to the parts, is written though it is empty.
// Manifests of former releases lack it. recording.schema.json describes the same document.
type Manifest struct {
	Version int            `json:"version"`
	ID      string         `json:"id"`      // short random id, the suffix of the directory's name
	Channel string         `json:"channel"` // as joined; the directory holds its escaped form
	Bot     string         `json:"bot"`     // name of the bot that recorded
	State   RecordingState `json:"state"`

	Started Instant  `json:"started"`
	Updated Instant  `json:"updated"` // when this manifest was written
	Ended   *Instant `json:"ended,omitempty"`

	// ReconnectWindow is for how long the recording may be continued after its recorder was stopped or
	// died. ContinuableUntil is when that ends, once it has ended: nothing but hashes changes from then
	// on. Both are absent from a recording that is over for good when it ends.
	ReconnectWindow  Seconds  `json:"reconnect_window_seconds,omitempty"`
	ContinuableUntil *Instant `json:"continuable_until,omitempty"`

	// Previous and Next are the directories, beside this one, of the recordings of the same stay in the
	// channel that end and begin where this one begins and ends, see RecordingInfo.Follows.
	Previous string `json:"previous,omitempty"`
	Next     string `json:"next,omitempty"`

	// PeersLeftOut counts stays of members that sent no media and that Peers lacks: so many come and go.
	PeersLeftOut int `json:"peers_left_out,omitempty"`

	Peers   []*ManifestPeer   `json:"peers"`
	Streams []*ManifestStream `json:"streams"`
}

// RecordingState is where a recording is in its life.
type RecordingState string

// The states of a recording. StateRecording is left for another; the others are not, but for a
// recording that is continued, see Manifest.ContinuableUntil.
const (
	StateRecording RecordingState = "recording" // files are open, or were when the process died
	StateComplete  RecordingState = "complete"  // closed by the process that opened it
	StateRecovered RecordingState = "recovered" // closed by repair after a crash
)

// Reason is why media is missing from a file. The set is closed: it labels metrics too.
type Reason string

// The reasons for a gap.
const (
	ReasonLoss         Reason = "loss"          // the network lost it and nothing brought it back
	ReasonMute         Reason = "mute/dtx"      // the sender sent nothing: muted, or silence suppressed
	ReasonReconnect    Reason = "reconnect"     // the connection to the peer was down, or for more than a second nothing came through
	ReasonKeyFrameWait Reason = "keyframe_wait" // undecodable until the next key frame
	ReasonDisk         Reason = "disk"          // could not be written, did not fit in the queue, or was deleted
	ReasonRestart      Reason = "restart"       // the recorder itself was down, or stood still
	ReasonFault        Reason = "fault"         // the recorder failed at the track, and recorded no more of it
	ReasonCapacity     Reason = "capacity"      // more than a limit of the recorder, or of its process, allows
)

// Reasons lists every Reason, for metrics that show all of them from the start.
var Reasons = []Reason{ReasonLoss, ReasonMute, ReasonReconnect, ReasonKeyFrameWait, ReasonDisk, ReasonRestart, ReasonFault, ReasonCapacity}

// The values of ManifestStream.EndReason. A stream that ended for one of the first three less than the
// reconnect window ago goes on when its recording is continued and it comes back.
const (
	MemberLeft  = "the member left"                                     // and its stream did not come back with it; goes before all others
	Stopped     = "the recorder was stopped"                            // and may be started again
	Interrupted = "the recorder stopped before its files were finished" // it died, and repair ended the stream
	NotBack     = "not back within the reconnect window"                // the member is in the channel still, its media is not
	NeverCame   = "no media of it ever came"                            // the same of one of which nothing came
	NoPlace     = "there was no place for it"                           // as many streams were recorded as may be; goes before all others
	Closed      = "recording closed"                                    // for good, see Recording.Close
	GoesOn      = "it goes on in the next recording"                    // see Manifest.Next
)

// ManifestPeer is one stay of a remote member: who comes back has another. Metadata is what it chose to say of itself.
type ManifestPeer struct {
	ID       string          `json:"id"`
	Metadata json.RawMessage `json:"metadata,omitempty"`
	Joined   Instant         `json:"joined"`
	Left     *Instant        `json:"left,omitempty"`
}

// ManifestStream is one stream. Every file under it shares its clock: PTS 0 is Started.
type ManifestStream struct {
	ID         string               `json:"id"`
	PeerID     string               `json:"peer_id"`            // the peer that began it; Reconnects tells of later ones
	Dir        string               `json:"dir"`                // relative to the recording, slash-separated
	Previous   string               `json:"previous,omitempty"` // directory of the stream with the same id that ended before
	Metadata   json.RawMessage      `json:"metadata,omitempty"`
	Started    Instant              `json:"started"`
	Ended      *Instant             `json:"ended,omitempty"`
	EndReason  string               `json:"end_reason,omitempty"` // the constants MemberLeft to GoesOn
	Tracks     []*ManifestTrack     `json:"tracks"`
	Reconnects []*ManifestReconnect `json:"reconnects,omitempty"`
	Waited     *ManifestWait        `json:"waited,omitempty"`
}

// ManifestWait is the time before a stream began in which it was offered and could not be recorded.
type ManifestWait struct {
	Reason Reason   `json:"reason"` // capacity or disk
	From   Instant  `json:"from"`
	Until  *Instant `json:"until,omitempty"` // absent if it was not recorded at all
}

// ManifestReconnect is one outage of a stream that came back into the same files.
type ManifestReconnect struct {
	Reason  Reason   `json:"reason"` // reconnect or restart
	Lost    Instant  `json:"lost"`
	Resumed *Instant `json:"resumed,omitempty"`
	PeerID  string   `json:"peer_id,omitempty"` // the peer it came back as
}

// ManifestTrack is one track and the parts that hold its media in order.
type ManifestTrack struct {
	ID       string          `json:"id"`   // as its sender chose it last
	Kind     string          `json:"kind"` // audio or video
	Metadata json.RawMessage `json:"metadata,omitempty"`

	// Start is absent until the track's first packet. A track that never yields anything
	// decodable is listed all the same.
	Start *TrackStart `json:"start,omitempty"`

	Expected     Seconds `json:"expected_seconds"` // what should be there, from Start to the end, and before it if it could not come or had to wait
	Recorded     Seconds `json:"recorded_seconds"` // what is there as it was sent, fills not counted
	Completeness float64 `json:"completeness"`     // Recorded/Expected, 0 to 1; see Completeness

	Waited Seconds `json:"waited_seconds,omitempty"` // of Expected, and of Missing: what was offered before the stream began

	End     Seconds            `json:"end_seconds,omitempty"`     // of what is accounted for, on the stream's clock
	Missing map[Reason]Seconds `json:"missing_seconds,omitempty"` // by reason: the gaps, without what lies between those listed as one

	Parts              []*ManifestPart       `json:"parts"`
	Gaps               []*ManifestGap        `json:"gaps,omitempty"`
	GapsOmitted        int64                 `json:"gaps_omitted,omitempty"`        // between the first and the latest 10,000, which are listed; Missing counts all
	Resolutions        []*ManifestResolution `json:"resolutions,omitempty"`         // video: one entry at the start and per change
	ResolutionsOmitted int64                 `json:"resolutions_omitted,omitempty"` // behind the first 500, which are listed
	Ledger             Ledger                `json:"ledger"`
}

// TrackStart ties a track to wall clock.
type TrackStart struct {
	At       Instant `json:"at"`                  // wall clock of the first sample, by our clock
	Position Seconds `json:"position_seconds"`    // the same on the stream's clock
	Error    Seconds `json:"error_bound_seconds"` // At is right within ± this
	Source   string  `json:"source"`              // sender_report or arrival
	Drift    float64 `json:"drift_ppm,omitempty"` // sender's clock against ours, absorbed by slewing
}

// The values of TrackStart.Source.
const (
	StartFromSenderReport = "sender_report"
	StartFromArrival      = "arrival"
)

// ManifestPart is one media file.
type ManifestPart struct {
	File      string  `json:"file"`       // relative to the recording, slash-separated
	Codec     string  `json:"codec"`      // opus, vp8, vp9, av1 or h264
	ClockRate uint32  `json:"clock_rate"` // of the PTS fields, in Hz
	Channels  uint8   `json:"channels,omitempty"`
	Width     int     `json:"width,omitempty"` // as in the file's header
	Height    int     `json:"height,omitempty"`
	Size      int64   `json:"size"`
	Duration  Seconds `json:"duration_seconds"`     // from the stream's t = 0 to the end of the last frame
	Frames    int64   `json:"frames"`               // audio: packets, fills included
	KeyFrames int64   `json:"key_frames,omitempty"` // video
	FirstPTS  int64   `json:"first_pts"`
	LastPTS   int64   `json:"last_pts"`
	HeldFirst bool    `json:"held_first,omitempty"` // the first key frame stands a second time at PTS 0, to keep players in sync
	Final     bool    `json:"final"`                // closed: Size and the counts hold
	SHA256    string  `json:"sha256,omitempty"`     // lower-case hex, of a final file; it may come later
	Recovered bool    `json:"recovered,omitempty"`  // closed by repair
	Error     string  `json:"error,omitempty"`      // why writing ended early
}

// ManifestGap is a stretch of the stream's clock for which a track has no media as sent. Gaps of one
// reason less than 60 ms apart are listed as one, which holds what lies between them.
type ManifestGap struct {
	Reason   Reason  `json:"reason"`
	Start    Seconds `json:"start_seconds"`
	Duration Seconds `json:"duration_seconds"`
	Packets  int64   `json:"packets,omitempty"` // known to be lost in it
	Fill     string  `json:"fill,omitempty"`    // what stands in the file instead; empty: the PTS jumps
}

// The values of ManifestGap.Fill.
const (
	FillConcealment = "concealment" // empty Opus frames: the decoder conceals
	// FillFEC is FillConcealment before a packet that carries the last one lost again, at a lower rate
	// (in-band FEC). Players conceal all the same; a decoder that is told to look gets more.
	FillFEC     = "fec"
	FillSilence = "silence" // encoded silence
)

// ManifestResolution is the picture size from PTS on, in the named part.
type ManifestResolution struct {
	File   string `json:"file"`
	PTS    int64  `json:"pts"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
}

// Ledger accounts for every packet and frame of a track. Each packet the sender is known to have
// sent is counted once, in Received or in Lost; the other counters say how it fared.
type Ledger struct {
	Received  uint64 `json:"packets_received"`
	Bytes     uint64 `json:"bytes_received"`
	Duplicate uint64 `json:"packets_duplicate"`
	Reordered uint64 `json:"packets_reordered"` // late but inside the window, put back in place
	Late      uint64 `json:"packets_late"`      // behind the window, dropped
	Malformed uint64 `json:"packets_malformed"`
	Overflow  uint64 `json:"packets_overflow"` // did not fit a bounded queue
	Recovered uint64 `json:"packets_recovered_nack"`
	RED       uint64 `json:"packets_recovered_red"` // bit-exact from redundancy
	Concealed uint64 `json:"packets_concealed"`     // of those lost: something stands in for them, see ManifestGap.Fill
	Lost      uint64 `json:"packets_lost"`

	FramesWritten uint64 `json:"frames_written"`
	FramesDropped uint64 `json:"frames_dropped"` // whole or partial, undecodable or unwritable
	BytesWritten  uint64 `json:"bytes_written"`

	NACKs uint64 `json:"nacks_sent"` // sequence numbers asked for, repeats included
	PLIs  uint64 `json:"plis_sent"`
	FIRs  uint64 `json:"firs_sent"`
}

// Instant is a moment on two clocks. UTC is written as RFC 3339 with nanoseconds; MonotonicMS is
// the time since the recording started by a clock that no one sets, so differences of it hold
// across steps of the wall clock. A recording continued after a restart goes on from wall clock.
type Instant struct {
	UTC         time.Time
	MonotonicMS int64
}

// Seconds is a duration, written to JSON as a decimal number of seconds without rounding.
type Seconds time.Duration

// Completeness is recorded/expected within 0 to 1, and 1 when nothing was expected.
func Completeness(recorded, expected Seconds) float64 {
	if expected <= 0 {
		return 1
	}
	return min(max(float64(recorded)/float64(expected), 0), 1)
}
