package session

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"recorder/internal/remote"
	"recorder/internal/series"
)

var (
	descSessionState = prometheus.NewDesc("recorder_session_state",
		"1 for the state the session is in, 0 for the others.", []string{"channel", "state"}, nil)
	descRecording = prometheus.NewDesc("recorder_session_recording",
		"1, or 0 while nothing of the channel can be recorded because its directory or manifest cannot be made.", []string{"channel"}, nil)
	descWaiting = prometheus.NewDesc("recorder_session_waiting_tracks",
		"Tracks that are not recorded because as many streams are as may be.", []string{"channel"}, nil)
	descPeerState = prometheus.NewDesc("recorder_remote_peer_state",
		"1, labelled with the state that the remote peer is in.", []string{"channel", "peer", "state"}, nil)
	descRTT = prometheus.NewDesc("recorder_remote_peer_round_trip_time_seconds",
		"Latest round-trip time of the selected candidate pair.", []string{"channel", "peer"}, nil)
	descPair = prometheus.NewDesc("recorder_remote_peer_candidate_pair",
		"1, labelled with the types of the selected ICE candidate pair.", []string{"channel", "peer", "local", "remote"}, nil)
	descDTLS = prometheus.NewDesc("recorder_remote_peer_dtls_state",
		"1, labelled with the state of the DTLS transport.", []string{"channel", "peer", "state"}, nil)

	perKind     = []string{"channel", "peer", "kind"}
	descPackets = prometheus.NewDesc("recorder_remote_peer_rtp_packets_received_total",
		"RTP packets received on the current connection, retransmissions left out.", perKind, nil)
	descBytes = prometheus.NewDesc("recorder_remote_peer_rtp_received_bytes_total",
		"Bytes of RTP received on the current connection.", perKind, nil)
	descRecovered = prometheus.NewDesc("recorder_remote_peer_rtp_packets_retransmitted_total",
		"Packets received through RTX on the current connection, duplicates included.", perKind, nil)
	descRefused = prometheus.NewDesc("recorder_remote_peer_rtp_packets_refused_total",
		"RTP packets on the current connection that are too large or of a format that was not negotiated.", perKind, nil)
	descLost = prometheus.NewDesc("recorder_remote_peer_rtp_packets_lost",
		"RTP packets expected minus received on the current connection (RFC 3550, 6.4.1); 0 when duplicates outweigh losses.", perKind, nil)
	descJitter = prometheus.NewDesc("recorder_remote_peer_jitter_seconds",
		"Largest interarrival jitter of the peer's tracks (RFC 3550, 6.4.1).", perKind, nil)
	descBitrate = prometheus.NewDesc("recorder_remote_peer_bitrate_bytes_per_second",
		"Bytes of RTP that arrive at present, averaged over a second.", perKind, nil)
	descNACKs = prometheus.NewDesc("recorder_remote_peer_nacks_sent_total",
		"Packets asked for again on the current connection, repeats included.", perKind, nil)
	descRequests = prometheus.NewDesc("recorder_remote_peer_key_frame_requests_sent_total",
		"Key frames asked for on the current connection, by type of request.", []string{"channel", "peer", "type"}, nil)
)

// Collect implements prometheus.Collector. Everything is read at scrape time,
// so no series can outlive its peer or its channel. The totals of a peer begin
// again with every connection, as counters may.
func (s *Set) Collect(ch chan<- prometheus.Metric) {
	s.opts.metrics.outages.Collect(ch)
	s.opts.metrics.refused.Collect(ch)
	out := scrape(ch)
	for _, status := range s.Status() {
		channel := series.Labels{}.With("channel", status.Channel)
		for _, state := range States {
			out.gauge(descSessionState, boolean(status.State == state), channel.With("state", state.String()))
		}
		out.gauge(descRecording, boolean(status.Unrecorded == nil), channel)
		out.gauge(descWaiting, float64(status.Waiting), channel)
		for _, peer := range status.Peers {
			out.peer(channel, peer)
		}
	}
}

// scrape is one answer to a scraper.
type scrape chan<- prometheus.Metric

func (out scrape) gauge(desc *prometheus.Desc, value float64, labels series.Labels) {
	out <- series.Gauge(desc, value, labels)
}

func (out scrape) count(desc *prometheus.Desc, value uint64, labels series.Labels) {
	out <- series.Counter(desc, float64(value), labels)
}

func (out scrape) peer(channel series.Labels, peer *remote.Peer) {
	stats := peer.Stats()
	labels := channel.With("peer", strings.ToValidUTF8(peer.ID(), "�"))
	out.gauge(descPeerState, 1, labels.With("state", stats.State.String()))
	if stats.DTLS != "" {
		out.gauge(descDTLS, 1, labels.With("state", stats.DTLS))
	}
	if !connected(peer) {
		return // nothing moves: all else goes on where it was once the connection is up again, or begins anew with another
	}
	if stats.RoundTripTime > 0 {
		out.gauge(descRTT, stats.RoundTripTime, labels)
	}
	if stats.LocalCandidate != "" {
		out.gauge(descPair, 1, labels.With("local", stats.LocalCandidate).With("remote", stats.RemoteCandidate))
	}
	var requests remote.TrackStats
	kinds := make(map[string]*remote.TrackStats)
	for _, track := range stats.Tracks {
		sum := kinds[track.Kind.String()]
		if sum == nil {
			sum = &remote.TrackStats{}
			kinds[track.Kind.String()] = sum
		}
		sum.Packets += track.Packets
		sum.Bytes += track.Bytes
		sum.Recovered += track.Recovered
		sum.Refused += track.Refused
		sum.Lost += track.Lost
		sum.Jitter = max(sum.Jitter, track.Jitter)
		sum.Bitrate += track.Bitrate
		sum.NACKs += track.NACKs
		requests.PLIs += track.PLIs
		requests.FIRs += track.FIRs
	}
	for kind, sum := range kinds {
		labels := labels.With("kind", kind)
		out.count(descPackets, sum.Packets, labels)
		out.count(descBytes, sum.Bytes, labels)
		out.count(descRecovered, sum.Recovered, labels)
		out.count(descRefused, sum.Refused, labels)
		out.count(descNACKs, sum.NACKs, labels)
		out.gauge(descBitrate, sum.Bitrate, labels)
		out.gauge(descLost, float64(max(sum.Lost, 0)), labels)
		out.gauge(descJitter, sum.Jitter, labels)
	}
	out.count(descRequests, requests.PLIs, labels.With("type", "pli"))
	out.count(descRequests, requests.FIRs, labels.With("type", "fir"))
}

// Describe implements prometheus.Collector.
func (s *Set) Describe(ch chan<- *prometheus.Desc) {
	s.opts.metrics.outages.Describe(ch)
	s.opts.metrics.refused.Describe(ch)
	for _, desc := range []*prometheus.Desc{descSessionState, descRecording, descWaiting, descPeerState, descRTT, descPair, descDTLS,
		descPackets, descBytes, descRecovered, descRefused, descLost, descJitter, descBitrate, descNACKs, descRequests} {
		ch <- desc
	}
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
