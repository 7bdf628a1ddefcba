package sink

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"recorder/internal/series"
)

// metrics shows the ledgers of the recordings that run, summed by channel and kind. It reads them
// when it is scraped, so it costs nothing per packet and cannot differ from the manifests. A
// channel's series end with its recording.
type metrics struct {
	registerer prometheus.Registerer
	writes     prometheus.Counter
	errors     prometheus.Counter
	panics     prometheus.Counter
	syncs      prometheus.Histogram
	doubted    atomic.Bool // the wall clock is, see wallWatch
	deleted    *prometheus.CounterVec
	stalls     *prometheus.CounterVec
	hanging    func() int // how much work on the disk hangs now
	files      *descriptors

	mu         sync.Mutex
	recordings map[*Recording]struct{}
}

// dropReason is why a picture or packet that arrived was not written.
type dropReason int

const (
	dropIncomplete  dropReason = iota // a packet of the picture is missing
	dropUndecodable                   // one it depends on is
	dropDisk                          // no room in the queue, or no file
	dropCapacity                      // more than a limit allows
	dropOverlap                       // its time is taken, as after a change of connection
	dropReasons
)

var dropNames = [dropReasons]string{"incomplete", "undecodable", "disk", "capacity", "overlap"}

var kinds = [...]string{audio, video}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("recorder_sink_"+name, help, append([]string{"channel", "kind"}, labels...), nil)
}

var (
	descFrames     = describe("frames_written_total", "Audio packets and video pictures written as they were sent.")
	descBytes      = describe("bytes_written_total", "Bytes of media written, without container.")
	descPackets    = describe("packets_received_total", "RTP packets received or restored, each once.")
	descPacketLoss = describe("packets_lost_total", "RTP packets given up.")
	descRecovered  = describe("packets_recovered_total", "RTP packets that were missing and came back.", "by")
	descDuplicates = describe("packets_duplicate_total", "RTP packets received more than once.")
	descRefused    = describe("packets_refused_total", "RTP packets not taken.", "reason")
	descDrops      = describe("frames_dropped_total", "Audio packets and video pictures that arrived and were not written.", "reason")
	descGaps       = describe("gap_seconds_total", "Seconds for which there is no media as it was sent.", "reason")
	descNACKs      = describe("nacks_sent_total", "Packets asked for again, repeats included.")
	descKeyFrames  = describe("key_frame_requests_total", "Key frames asked for.", "type")
	descLeftOut    = prometheus.NewDesc("recorder_sink_peers_left_out_total", "Stays of members that sent no media and that the manifest only counts.", []string{"channel"}, nil)
	descFiles      = prometheus.NewDesc("recorder_sink_open_files", "Media files that are open.", nil, nil)
	descFilesMost  = prometheus.NewDesc("recorder_sink_open_files_limit", "Media files that may be open at once: half of the file descriptors that the process may have.", nil, nil)
	descShortages  = prometheus.NewDesc("recorder_sink_descriptor_shortages_total", "Times that a media file had to wait because the process or the system had no file descriptor left.", nil, nil)
	descComplete   = describe("completeness_ratio", "Seconds recorded of those expected, over all tracks of the recording.")
)

var descDoubted = prometheus.NewDesc("recorder_sink_retention_paused",
	"1 while no recordings are removed because the clock leapt or could not be checked.", nil, nil)
var descHanging = prometheus.NewDesc("recorder_sink_disk_stalled",
	"Calls that the disk has not answered for more than 5 s.", nil, nil)

func newMetrics(r prometheus.Registerer, files *descriptors) (*metrics, error) {
	m := &metrics{registerer: r, files: files, recordings: make(map[*Recording]struct{})}
	m.writes = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "recorder_sink_writes_total",
		Help: "Writes to media files.",
	})
	m.errors = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "recorder_sink_write_errors_total",
		Help: "Media files that could not be opened, writes to them and syncs that failed.",
	})
	m.panics = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "recorder_sink_panics_total",
		Help: "Panics that ended the recording of one track.",
	})
	m.syncs = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "recorder_sink_sync_duration_seconds",
		Help:    "How long the disk took to make media files durable.",
		Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
	})
	m.deleted = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "recorder_sink_deletions_total",
		Help: "What was deleted or replaced by others while it was recorded to: the recordings directory (root), directories of recordings, manifests and media files.",
	}, []string{"what"})
	for _, what := range []string{whatRoot, whatRecording, whatManifest, whatFile} {
		m.deleted.WithLabelValues(what)
	}
	m.stalls = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "recorder_sink_disk_stalls_total",
		Help: "Times that the disk took longer than 5 s for what was asked of it, by what that was.",
	}, []string{"work"})
	for _, work := range diskWorks {
		m.stalls.WithLabelValues(string(work))
	}
	if r == nil {
		return m, nil
	}
	return m, r.Register(m)
}

func (m *metrics) close() {
	if m.registerer != nil {
		m.registerer.Unregister(m)
	}
}

func (m *metrics) add(rec *Recording) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recordings[rec] = struct{}{}
}

func (m *metrics) remove(rec *Recording) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.recordings, rec)
}

// live is the recordings that run.
func (m *metrics) live() []*Recording {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.recordings))
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descFrames, descBytes, descPackets, descPacketLoss, descRecovered, descDuplicates, descRefused,
		descDrops, descGaps, descNACKs, descKeyFrames, descComplete, descLeftOut, descFiles, descFilesMost, descShortages,
	} {
		ch <- d
	}
	for _, d := range streamDescs {
		ch <- d
	}
	m.writes.Describe(ch)
	m.errors.Describe(ch)
	m.panics.Describe(ch)
	m.syncs.Describe(ch)
	ch <- descDoubted
	m.deleted.Describe(ch)
	m.stalls.Describe(ch)
	ch <- descHanging
}

// sums is what the tracks of one kind have in common.
type sums struct {
	ledger             Ledger
	drops              [dropReasons]uint64
	gaps               [len(reasonList)]float64
	expected, recorded Seconds
}

type sumsKey struct{ channel, kind string }

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	all := make(map[sumsKey]*sums)
	streams := make(map[streamKey]*streamSums)
	leftOut := make(map[string]int)
	m.mu.Lock()
	for rec := range m.recordings {
		leftOut[rec.manifest.Channel] += rec.leftOut()
		for _, kind := range kinds {
			key := sumsKey{rec.manifest.Channel, kind}
			if all[key] == nil {
				all[key] = new(sums)
			}
		}
		rec.sum(all)
		rec.sumStreams(streams)
	}
	m.mu.Unlock()
	for key, s := range all {
		s.collect(ch, key)
	}
	for key, s := range streams {
		s.collect(ch, key)
	}
	for channel, n := range leftOut {
		ch <- series.Counter(descLeftOut, float64(n), series.Labels{}.With("channel", channel))
	}
	m.files.collect(ch)
	m.writes.Collect(ch)
	m.errors.Collect(ch)
	m.panics.Collect(ch)
	m.syncs.Collect(ch)
	paused := 0.0
	if m.doubted.Load() {
		paused = 1
	}
	ch <- series.Gauge(descDoubted, paused, series.Labels{})
	m.deleted.Collect(ch)
	m.stalls.Collect(ch)
	ch <- prometheus.MustNewConstMetric(descHanging, prometheus.GaugeValue, float64(m.hanging()))
}

// stalled counts work that the disk hangs in.
func (m *metrics) stalled(work diskWork) { m.stalls.WithLabelValues(string(work)).Inc() }

// collect shows how many media files are open.
func (d *descriptors) collect(ch chan<- prometheus.Metric) {
	d.mu.Lock()
	open, shortages := d.open, d.shortages
	d.mu.Unlock()
	ch <- series.Gauge(descFiles, float64(open), nil)
	ch <- series.Gauge(descFilesMost, float64(d.most), nil)
	ch <- series.Counter(descShortages, float64(shortages), nil)
}

// sum adds what the recording's tracks have so far.
func (rec *Recording) sum(all map[sumsKey]*sums) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for _, t := range rec.tracks {
		s := all[sumsKey{rec.manifest.Channel, t.kind}]
		s.ledger.add(&t.manifest.Ledger)
		for i, n := range t.drops {
			s.drops[i] += n
		}
		for i, d := range t.ledger.totals {
			s.gaps[i] += d.Seconds()
		}
		expected, recorded := t.seconds()
		s.expected += expected
		s.recorded += recorded
	}
}

// add sums the counters that are shown.
func (l *Ledger) add(o *Ledger) {
	l.FramesWritten += o.FramesWritten
	l.BytesWritten += o.BytesWritten
	l.Received += o.Received
	l.Lost += o.Lost
	l.Recovered += o.Recovered
	l.RED += o.RED
	l.Duplicate += o.Duplicate
	l.Late += o.Late
	l.Malformed += o.Malformed
	l.Overflow += o.Overflow
	l.NACKs += o.NACKs
	l.PLIs += o.PLIs
	l.FIRs += o.FIRs
}

func (s *sums) collect(ch chan<- prometheus.Metric, key sumsKey) {
	labels := series.Labels{}.With("channel", key.channel).With("kind", key.kind)
	count := func(d *prometheus.Desc, n uint64, labels series.Labels) {
		ch <- series.Counter(d, float64(n), labels)
	}
	l := &s.ledger
	count(descFrames, l.FramesWritten, labels)
	count(descBytes, l.BytesWritten, labels)
	count(descPackets, l.Received, labels)
	count(descPacketLoss, l.Lost, labels)
	count(descRecovered, l.Recovered, labels.With("by", "nack"))
	count(descRecovered, l.RED, labels.With("by", "red"))
	count(descDuplicates, l.Duplicate, labels)
	count(descRefused, l.Late, labels.With("reason", "late"))
	count(descRefused, l.Malformed, labels.With("reason", "malformed"))
	count(descRefused, l.Overflow, labels.With("reason", "overflow"))
	count(descNACKs, l.NACKs, labels)
	count(descKeyFrames, l.PLIs, labels.With("type", "pli"))
	count(descKeyFrames, l.FIRs, labels.With("type", "fir"))
	for i, n := range s.drops {
		count(descDrops, n, labels.With("reason", dropNames[i]))
	}
	for i, v := range s.gaps {
		ch <- series.Counter(descGaps, v, labels.With("reason", string(reasonList[i])))
	}
	ch <- series.Gauge(descComplete, Completeness(s.recorded, s.expected), labels)
}
