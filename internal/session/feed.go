package session

import (
	"sync/atomic"
	"time"

	"github.com/pion/webrtc/v4"

	"recorder/internal/remote"
	"recorder/internal/sink"
)

// feed is one connection's version of a track on its way to a file: it takes
// what the remote track delivers (remote.RTPWriter) and carries the file's
// wishes back (sink.Feedback).
type feed struct {
	track  *remote.Track
	source *sink.Source
	began  time.Time
	last   atomic.Int64 // ns from began to the last packet, 0 before the first
	closed atomic.Bool
}

func newFeed(track *remote.Track, to *sink.Track) (f *feed, err error) {
	f = &feed{track: track, began: time.Now()}
	f.source, err = to.NewSource(sink.SourceInfo{Connection: track.Connection(), Feedback: f, Begins: track.SSRC() == 0})
	return f, err
}

// SetFormats implements remote.RTPWriter.
func (f *feed) SetFormats(formats map[uint8]webrtc.RTPCodecParameters) {
	known := make(map[uint8]sink.Format)
	for pt, codec := range formats {
		known[pt] = sink.Format{
			MimeType: codec.MimeType, ClockRate: codec.ClockRate, Fmtp: codec.SDPFmtpLine,
		}
	}
	f.source.SetFormats(known)
}

// WriteRTP implements remote.RTPWriter.
func (f *feed) WriteRTP(packet []byte, arrival time.Time) {
	f.heard(arrival)
	f.source.WriteRTP(packet, arrival)
}

// WriteSenderReport implements remote.RTPWriter.
func (f *feed) WriteSenderReport(ntp uint64, rtp uint32, arrival time.Time) {
	f.source.WriteSenderReport(ntp, rtp, arrival)
}

// Close implements remote.RTPWriter: the connection delivers no more.
func (f *feed) Close() {
	f.closed.Store(true)
	f.source.Close()
}

// RequestKeyFrame implements sink.Feedback. A request that cannot be sent now
// is made again by the sink.
func (f *feed) RequestKeyFrame(fir bool) { _ = f.track.RequestKeyFrame(fir) }

// NACK implements sink.Feedback.
func (f *feed) NACK(seqs []uint16) { _ = f.track.NACK(seqs) }

// open reports whether the connection may still deliver.
func (f *feed) open() bool { return !f.closed.Load() }

// heard notes a packet. Wall clocks are set; what counts is the time since began.
func (f *feed) heard(arrival time.Time) { f.last.Store(max(1, int64(arrival.Sub(f.began)))) }

// flowed reports whether a packet came within the given time.
func (f *feed) flowed(now time.Time, within time.Duration) bool {
	last := time.Duration(f.last.Load())
	return f.open() && last > 0 && now.Sub(f.began)-last < within
}

// stop ends the feed from our side.
func (f *feed) stop() {
	f.track.Forward(nil)
	if f.open() {
		f.Close()
	}
}
