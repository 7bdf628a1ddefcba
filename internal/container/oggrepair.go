package container

import (
	"errors"
	"fmt"
)

// errNotEnded guards appending: a page that fails to read twice is a failing disk.
var errNotEnded = errors.New("last ogg page changed while it was read")

// RepairOgg cuts the tail behind the last whole page and marks that page as the last.
func RepairOgg(f File) (Repaired, error) {
	s, err := scanOgg(wholeFile(f), nil)
	if err != nil {
		return Repaired{}, err
	}
	r, err := cutTorn(f, &s.Info)
	if err != nil || s.EOS {
		return r, err
	}
	if err := setOggFlags(f, s.last, s.last.flags|flagEOS); err != nil {
		return r, fmt.Errorf("set end of stream: %w", err)
	}
	r.EOS, r.Changed = true, true
	return r, nil
}

// ResumeOgg prepares f for more packets and returns a writer that goes on behind its last whole
// page: the same serial, the next page sequence, the granule position where it ended. A torn tail
// is cut and an end of stream undone; the returned Info says where to append (End).
// pagePackets is as in OggOptions.
func ResumeOgg(f File, pagePackets int) (*Ogg, Info, error) {
	s, err := scanOgg(wholeFile(f), nil)
	if err != nil {
		return nil, Info{}, err
	}
	if _, err := cutTorn(f, &s.Info); err != nil {
		return nil, Info{}, err
	}
	next := s.last.sequence + 1
	if s.EOS {
		if s.last.empty {
			err, s.End, next = f.Truncate(s.last.offset), s.last.offset, s.last.sequence
		} else {
			err = setOggFlags(f, s.last, s.last.flags&^flagEOS)
		}
		if err != nil {
			return nil, Info{}, fmt.Errorf("undo end of stream: %w", err)
		}
		s.EOS = false
	}
	o, err := NewOgg(OggOptions{s.Serial, s.Channels, s.PreSkip, s.Tags, pagePackets})
	if err != nil {
		return nil, Info{}, err
	}
	o.sequence, o.granule = next, s.end
	return o, s.Info, nil
}

// setOggFlags rewrites the head of a page: flags, and the checksum that covers them.
func setOggFlags(f File, ref oggPageRef, flags byte) error {
	page := make([]byte, ref.size)
	if _, err := f.ReadAt(page, ref.offset); err != nil {
		return err
	}
	if page[5] != ref.flags {
		return errNotEnded
	}
	page[5] = flags
	setOggCRC(page)
	_, err := f.WriteAt(page[:oggHeaderSize], ref.offset)
	return err
}
