package sink

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"recorder/internal/series"
)

// The series of one open stream, by kind of track. They end with the stream, and there are none while it
// is away: then nothing in them moves, and streams that were left behind would be most of a scrape. When
// it is back its counters go on where they were, since they are read from the stream's own sums: what
// Prometheus sees is a pause of a series and no reset. What all streams add up to goes on in the series
// of the channel.
var (
	descStreamFrames = describeStream("frames_written_total", "Audio packets and video pictures of the stream written as they were sent.")
	descStreamDrops  = describeStream("frames_dropped_total", "Audio packets and video pictures of the stream that arrived and were not written.", "reason")
	descStreamGaps   = describeStream("gap_seconds_total", "Seconds for which there is no media of the stream as it was sent.", "reason")
	descStreamWhole  = describeStream("completeness_ratio", "Seconds of the stream recorded of those expected.")
	descStreamPacket = describeStream("last_packet_age_seconds", "Seconds since the last packet of the stream.")
	descStreamKey    = describeStream("last_key_frame_age_seconds", "Seconds since the last key picture was written.")
	descStreamApart  = describeStream("av_drift_seconds", "How much later pictures are recorded than the sender's clock puts them beside the sound; only while sender reports tie the two.")
	descStreamHeld   = describeStream("queued_packets", "Packets that wait in the reorder window and before it.")
	descStreamUnsent = describeStream("queued_bytes", "Bytes laid out that the disk has not taken yet.")
)

var streamDescs = []*prometheus.Desc{descStreamFrames, descStreamDrops, descStreamGaps, descStreamWhole, descStreamPacket,
	descStreamKey, descStreamApart, descStreamHeld, descStreamUnsent}

func describeStream(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("recorder_sink_stream_"+name, help, append([]string{"channel", "peer", "stream", "kind"}, labels...), nil)
}

// maxLabel bounds what a member may have as the value of a label, in bytes.
const maxLabel = 128

// streamKey is the labels of a stream. Names from the wire are cut, so two streams may share them;
// then they share the series too.
type streamKey struct{ channel, peer, stream, kind string }

// streamSums is what the tracks of one kind of a stream have in common.
type streamSums struct {
	frames             uint64
	drops              [dropReasons]uint64
	gaps               [len(reasonList)]float64
	expected, recorded Seconds
	packet, key        time.Duration // age of the last, negative without one
	apart              time.Duration
	tied               bool // apart is known
	packets, bytes     int
}

// sumStreams adds up the recording's open streams.
func (rec *Recording) sumStreams(all map[streamKey]*streamSums) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	now := rec.now()
	for _, s := range rec.streams {
		if s.out {
			continue
		}
		for _, t := range s.tracks {
			key := streamKey{rec.manifest.Channel, label(s.info.PeerID), label(s.info.StreamID), t.kind}
			sums := all[key]
			if sums == nil {
				sums = &streamSums{packet: -1, key: -1}
				all[key] = sums
			}
			sums.add(t, now)
		}
	}
}

func (s *streamSums) add(t *Track, now time.Duration) {
	s.frames += t.manifest.Ledger.FramesWritten
	for i, n := range t.drops {
		s.drops[i] += n
	}
	for i, d := range t.ledger.totals {
		s.gaps[i] += d.Seconds()
	}
	expected, recorded := t.seconds()
	s.expected += expected
	s.recorded += recorded
	s.packet = younger(s.packet, now, t.heard)
	s.key = younger(s.key, now, t.keyed)
	for _, src := range t.sources {
		s.packets += src.queued()
	}
	s.bytes += t.writer.unwritten()
	if t.kind == video && t.active != nil {
		if apart, ok := t.active.clock.Apart(); ok {
			s.apart, s.tied = apart, true
		}
	}
}

// younger is the lesser of an age and that of something that happened at a time; 0 is never.
func younger(age, now, at time.Duration) time.Duration {
	if at == 0 || age >= 0 && age < now-at {
		return age
	}
	return now - at
}

func (s *streamSums) collect(ch chan<- prometheus.Metric, key streamKey) {
	labels := series.Labels{}.With("channel", key.channel).With("kind", key.kind).With("peer", key.peer).With("stream", key.stream)
	gauge := func(d *prometheus.Desc, v float64) { ch <- series.Gauge(d, v, labels) }
	ch <- series.Counter(descStreamFrames, float64(s.frames), labels)
	for i, n := range s.drops {
		ch <- series.Counter(descStreamDrops, float64(n), labels.With("reason", dropNames[i]))
	}
	for i, v := range s.gaps {
		ch <- series.Counter(descStreamGaps, v, labels.With("reason", string(reasonList[i])))
	}
	gauge(descStreamWhole, Completeness(s.recorded, s.expected))
	if s.packet >= 0 {
		gauge(descStreamPacket, s.packet.Seconds())
	}
	if s.key >= 0 {
		gauge(descStreamKey, s.key.Seconds())
	}
	if s.tied {
		gauge(descStreamApart, s.apart.Seconds())
	}
	gauge(descStreamHeld, float64(s.packets))
	gauge(descStreamUnsent, float64(s.bytes))
}

// queued is how many packets wait to be written. The recording's mu is held.
func (src *Source) queued() int {
	src.mu.Lock()
	defer src.mu.Unlock()
	return len(src.inbox) + src.window.Len()
}

func (w *audioWriter) unwritten() int { return w.part.unwritten() }
func (w *videoWriter) unwritten() int { return w.part.unwritten() }

// unwritten is how many bytes wait for the disk. A nil part has none.
func (p *part) unwritten() int {
	if p == nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.flying + len(p.buf)
}

// timedFile counts writes and what fails, and measures how long the disk takes to take them. It tells when the disk hangs.
type timedFile struct {
	File
	metrics *metrics
	watch   *watcher
}

// WriteAt implements File.
func (f timedFile) WriteAt(b []byte, at int64) (int, error) {
	f.watch.begin()
	defer f.watch.end()
	f.metrics.writes.Inc()
	n, err := f.File.WriteAt(b, at)
	f.metrics.failed(err)
	return n, err
}

// Sync implements File.
func (f timedFile) Sync() error {
	f.watch.begin()
	defer f.watch.end()
	began := time.Now()
	err := f.File.Sync()
	f.metrics.syncs.Observe(time.Since(began).Seconds())
	f.metrics.failed(err)
	return err
}

// Close implements File.
func (f timedFile) Close() error {
	f.watch.begin()
	defer f.watch.end()
	return f.File.Close()
}

// failed counts what the disk refused, if it did.
func (m *metrics) failed(err error) {
	if err != nil {
		m.errors.Inc()
	}
}

// label makes a name from the wire fit to be the value of a label.
func label(name string) string {
	return strings.ToValidUTF8(name[:min(len(name), maxLabel)], "\ufffd")
}
