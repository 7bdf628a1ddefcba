package sink

import (
	"errors"
	"syscall"
)

// causeOf is the reason that media is missing for when an error ended its file. What the process may not have, such as
// another open file, is no fault of the disk's.
func causeOf(err error) Reason {
	for _, limit := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, ErrManifest} {
		if errors.Is(err, limit) {
			return ReasonCapacity
		}
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
// fast enough for.
func (p *part) refusal(n int) Reason {
	if err := p.failed(); err != nil {
		return causeOf(err)
	}
	if n > partQueue {
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
