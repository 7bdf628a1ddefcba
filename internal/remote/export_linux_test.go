//go:build linux && (amd64 || arm64)

package remote

import "time"

// LimitSockets has the system grant each socket no larger a buffer than one
// of size bytes, as for a process that may not ask for more.
func (o *APIOptions) LimitSockets(size int) { o.socketLimit = size }

// Sockets is how many share the port, and how many datagrams the system has
// dropped.
func (a *API) Sockets() (n int, dropped uint64) {
	s := a.mux.socket.(*batchSocket)
	return len(s.fds), s.stats().dropped
}

// Stall lets nothing be read from or written to the port for a while, as if
// the process did not run.
func (a *API) Stall(d time.Duration) {
	s := a.mux.socket.(*batchSocket)
	s.open.Lock()
	defer s.open.Unlock()
	time.Sleep(d)
}
