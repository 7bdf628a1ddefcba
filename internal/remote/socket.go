package remote

import (
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// socketBuffer is what the kernel is asked to hold of media that was not
	// read yet, in bytes: a second of 40 members.
	socketBuffer = 8 << 20
	// maxSockets bounds how many sockets share the port where the kernel
	// allows each only a small buffer.
	maxSockets = 64
	// socketSpread is how often socketBuffer such sockets have together: the
	// kernel spreads members over them by chance, and where five of 1 Mbit/s
	// meet on one of 208 KiB a stall of 250 ms loses packets. With 20 members
	// that happens on 16 sockets one time in eight, on 64 one in a thousand.
	socketSpread = 4
	// DefaultReadLag is how long arriving packets are left with the kernel,
	// to be read together.
	DefaultReadLag = 10 * time.Millisecond
)

// mediaSocket is one UDP port for the media of all connections.
//
// Most of what receiving costs is handing packets from goroutine to
// goroutine. So the socket is not read as packets come: once something is
// there it waits for the lag and takes all of it in one system call, and each
// hand-over that follows serves several packets.
type mediaSocket interface {
	// receive waits for datagrams and has those taken that are there, which may
	// be none. They are valid during the call. It is called by one goroutine
	// and returns net.ErrClosed once the socket is closed.
	receive(take func(datagram []byte, from netip.AddrPort)) error
	// send sends a datagram, or drops it if it would have to wait.
	send(datagram []byte, to netip.AddrPort) (int, error)
	// localAddr is the unspecified address of the families it serves, and the port.
	localAddr() *net.UDPAddr
	close() error
	stats() socketStats
	// times is when RTP packets came, nil where the system does not tell.
	times() *arrivals
}

// socketStats are a socket's since it was opened.
type socketStats struct {
	buffer    int    // bytes the kernel granted; it counts its own overhead too
	reads     uint64 // system calls
	datagrams uint64
	dropped   uint64 // datagrams, by the kernel, as the buffer was full
}

// socketCollector exports the statistics of a mux and its socket.
type socketCollector struct{ mux *udpMux }

var (
	descSocketBuffer = prometheus.NewDesc("recorder_remote_socket_receive_buffer_bytes",
		"Receive buffer that the system granted the media port, its own overhead included.", nil, nil)
	descSocketReads = prometheus.NewDesc("recorder_remote_socket_reads_total",
		"System calls that read media.", nil, nil)
	descSocketDatagrams = prometheus.NewDesc("recorder_remote_socket_datagrams_total",
		"Datagrams read from the media port.", nil, nil)
	descSocketDropped = prometheus.NewDesc("recorder_remote_socket_dropped_datagrams_total",
		"Datagrams that the system dropped because the receive buffer of the media port was full.", nil, nil)
	descSocketRefused = prometheus.NewDesc("recorder_remote_socket_refused_datagrams_total",
		"Datagrams read from the media port and dropped: unknown, overflow.", []string{"reason"}, nil)
)

// Describe implements prometheus.Collector.
func (c socketCollector) Describe(to chan<- *prometheus.Desc) {
	prometheus.DescribeByCollect(c, to)
}

// Collect implements prometheus.Collector.
func (c socketCollector) Collect(to chan<- prometheus.Metric) {
	s := c.mux.socket.stats()
	to <- prometheus.MustNewConstMetric(descSocketBuffer, prometheus.GaugeValue, float64(s.buffer))
	to <- prometheus.MustNewConstMetric(descSocketReads, prometheus.CounterValue, float64(s.reads))
	to <- prometheus.MustNewConstMetric(descSocketDatagrams, prometheus.CounterValue, float64(s.datagrams))
	to <- prometheus.MustNewConstMetric(descSocketDropped, prometheus.CounterValue, float64(s.dropped))
	for reason, n := range map[string]uint64{"unknown": c.mux.unknown.Load(), "overflow": c.mux.overflow.Load()} {
		to <- prometheus.MustNewConstMetric(descSocketRefused, prometheus.CounterValue, float64(n), reason)
	}
}
