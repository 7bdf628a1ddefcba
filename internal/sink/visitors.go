package sink

import "slices"

// visitors are stays of members that left and never sent a stream. Anybody who may join can make any
// number of them, so the manifest keeps the first and the latest and counts those between.
const (
	maxVisitors     = 128      // that are kept of the first, and as many of the latest
	maxVisitorBytes = 32 << 10 // of what each half says of itself
)

// sends notes that a peer has a stream: its stays are no visits. mu is held.
func (rec *Recording) sends(peerID string) {
	if rec.senders == nil {
		rec.senders = make(map[string]bool)
	}
	rec.senders[peerID] = true
}

// leaveOut keeps the visitors in the manifest within their bounds. mu is held.
func (rec *Recording) leaveOut() {
	m := rec.manifest
	var visits []*ManifestPeer
	for _, p := range m.Peers {
		if p.Left != nil && !rec.senders[p.ID] {
			visits = append(visits, p)
		}
	}
	first := withinBounds(slices.All(visits))
	latest := withinBounds(slices.Backward(visits))
	if first+latest >= len(visits) {
		return
	}
	between := visits[first : len(visits)-latest]
	m.PeersLeftOut += len(between)
	m.Peers = slices.DeleteFunc(m.Peers, func(p *ManifestPeer) bool { return slices.Contains(between, p) })
}

// withinBounds is how many of the visits are within the bounds of one half.
func withinBounds(visits func(yield func(int, *ManifestPeer) bool)) (n int) {
	size := 0
	for _, p := range visits {
		if size += len(p.Metadata); n == maxVisitors || size > maxVisitorBytes {
			break
		}
		n++
	}
	return n
}

// leftOut is how many visits the manifest only counts.
func (rec *Recording) leftOut() int {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.manifest.PeersLeftOut
}
