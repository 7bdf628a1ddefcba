package sink

import (
	"errors"
	"syscall"
)

// causeOf is the reason that media is missing for when an error ended its file. What the process may not have, such as
// another open file, is no fault of the disk's.
func causeOf(err error) Reason {
	if exhausted(err) || errors.Is(err, syscall.ENOMEM) || errors.Is(err, ErrManifest) {
		return ReasonCapacity
	}
	return ReasonDisk
}

// refusal reports whether a reason is that media arrived whole and was not written.
func (r Reason) refusal() bool { return r == ReasonDisk || r == ReasonCapacity }

// drop is what a refused frame counts as.
func (r Reason) drop() dropReason {
	switch r {
	case ReasonCapacity:
		return dropCapacity
	case ReasonKeyFrameWait:
		return dropUndecodable
	}
	return dropDisk
}

// refusal is why the file took nothing that has so many bytes at most. What does not fit in an empty queue, no disk is
// fast enough for, and none is to blame while there is no descriptor to open the file with.
func (p *part) refusal(n int) Reason {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return causeOf(p.err)
	}
	if p.starved || n > partQueue {
		return ReasonCapacity
	}
	return ReasonDisk
}

// refuse notes a picture that is not written, and why.
func (w *videoWriter) refuse(r Reason, pos int64) {
	w.gate = r
	w.miss(r, pos)
	w.track.drop(r.drop())
}

// fits reports whether the file at hand, if there is one, holds pictures like those of src.
func (w *videoWriter) fits(src *Source) bool {
	return w.part == nil || w.manifest.Codec == string(src.codec)
}
