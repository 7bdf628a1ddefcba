package container

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// oggScan is what reading an Ogg file leaves behind: Info for everyone, the rest for repair and
// resumption.
type oggScan struct {
	Info
	last    oggPageRef // the last page
	end     int64      // samples up to the end of the last packet
	granule int64      // the last granule position, smaller than end if that was trimmed
}

// oggPageRef says where a page stands.
type oggPageRef struct {
	offset   int64
	size     int
	sequence uint32
	flags    byte
	empty    bool
}

// ScanOgg reads an Ogg/Opus file to its end.
func ScanOgg(r io.Reader) (Info, error) {
	s, err := scanOgg(r, nil)
	return s.Info, err
}

func scanOgg(r io.Reader, emit emitter) (oggScan, error) {
	in, buf := newInput(r), make([]byte, oggMaxPage)
	var s oggScan
	if err := s.headers(in, buf); err != nil {
		return s, err
	}
	// A packet that goes on to another page is whole only with the pages it goes on to, so what
	// counts is the state behind the last page that leaves none open.
	whole := s
	open := openPacket{keep: emit != nil}
	for !whole.EOS {
		offset := in.pos
		page, err := readOggPage(in, buf)
		if errors.Is(err, errPage) || err == io.EOF {
			break
		}
		if err != nil {
			return s, err
		}
		if page.serial != s.Serial {
			break // none of our files holds a second stream
		}
		if page.sequence != s.last.sequence+1 || (page.flags&flagContinued != 0) != open.is {
			s.OutOfOrder++
		}
		s.packets(page, &open)
		s.last = oggPageRef{offset, len(page.raw), page.sequence, page.flags, len(page.lacing) == 0}
		if !open.is {
			s.EOS = page.flags&flagEOS != 0
			s.End = in.pos
			whole = s
			if !open.give(emit) {
				return whole, errStopped
			}
		}
	}
	if err := in.drain(); err != nil {
		return s, err
	}
	whole.TornBytes = in.pos - whole.End
	if n := min(whole.granule, whole.end) - int64(whole.PreSkip); n > 0 {
		whole.Duration = ticks(n, OpusRate)
	}
	return whole, nil
}

// headers reads OpusHead and OpusTags, each alone on the pages it takes.
func (s *oggScan) headers(in *input, buf []byte) error {
	page, err := readOggPage(in, buf)
	if err != nil {
		return headerError(err)
	}
	b := page.body
	if page.flags&flagBOS == 0 || len(b) < 19 || string(b[:8]) != "OpusHead" || b[8]>>4 != 0 || b[9] == 0 {
		return fmt.Errorf("%w: no OpusHead", ErrFormat)
	}
	s.Codec, s.ClockRate = Opus, OpusRate
	s.Channels, s.PreSkip = b[9], binary.LittleEndian.Uint16(b[10:])
	s.Serial = page.serial
	sequence := page.sequence

	// OpusTags of a foreign file can hold cover art; what is beyond our own bound is passed over.
	var comment []byte
	for complete := false; !complete; {
		offset := in.pos
		if page, err = readOggPage(in, buf); err != nil {
			return headerError(err)
		}
		sequence++
		if page.serial != s.Serial || page.sequence != sequence || len(page.lacing) == 0 {
			return fmt.Errorf("%w: no OpusTags", ErrFormat)
		}
		if room := oggMaxPage - len(comment); room > 0 {
			comment = append(comment, page.body[:min(room, len(page.body))]...)
		}
		complete = page.lacing[len(page.lacing)-1] < 255
		s.last = oggPageRef{offset, len(page.raw), page.sequence, page.flags, false}
		s.EOS = page.flags&flagEOS != 0
		s.End = in.pos
	}
	var ok bool
	if s.Tags, ok = parseOpusTags(comment); !ok && len(comment) < oggMaxPage {
		return fmt.Errorf("%w: no OpusTags", ErrFormat)
	}
	return nil
}

func headerError(err error) error {
	if errors.Is(err, errPage) || ended(err) {
		return fmt.Errorf("%w: header is not whole", ErrFormat)
	}
	return err
}

// openPacket is a packet that goes on to the next page: what is known of it so far.
type openPacket struct {
	is   bool
	head []byte // its first two bytes, all that tells its duration

	keep  bool    // packets are kept, to be given out once no packet is open
	data  []byte  // what there is of it
	ended []Frame // those before it
}

// give hands out the packets that have ended. It reports false when no more are wanted.
func (o *openPacket) give(emit emitter) bool {
	for _, f := range o.ended {
		if !emit.frame(f) {
			return false
		}
	}
	o.ended = o.ended[:0]
	return true
}

// packets counts the packets that end on a page and checks their time against its granule
// position.
func (s *oggScan) packets(page oggPage, open *openPacket) {
	body, size, fresh := page.body, 0, page.flags&flagContinued == 0
	first := s.Frames
	start := s.end
	if fresh {
		open.head, open.data = open.head[:0], nil
	}
	open.is = false
	for i, n := range page.lacing {
		size += int(n)
		ends := n < 255
		if !ends && i < len(page.lacing)-1 {
			continue
		}
		if missing := 2 - len(open.head); missing > 0 {
			open.head = append(open.head, body[:min(size, missing)]...)
		}
		if open.keep && len(open.data)+size <= maxFrame {
			open.data = append(open.data, body[:size]...)
		}
		body, size = body[size:], 0
		if !ends {
			open.is = true
			break
		}
		if open.keep {
			open.ended = append(open.ended, Frame{PTS: s.end, Key: true, Data: open.data})
			open.data = nil
		}
		s.LastPTS = s.end
		s.end += int64(OpusSamples(open.head))
		s.Frames++
		open.head = open.head[:0]
	}
	if s.Frames == first { // nothing ends here
		if page.granule != noGranule && page.granule != s.end {
			s.OutOfOrder++
		}
		return
	}
	s.granule = page.granule
	switch {
	case first == 0 && page.granule > s.end && page.granule>>62 == 0:
		// A stream may begin at any position.
		shift := page.granule - s.end
		s.FirstPTS, s.LastPTS, s.end = shift, s.LastPTS+shift, page.granule
		for i := range open.ended {
			open.ended[i].PTS += shift
		}
	case page.flags&flagEOS != 0 && page.granule >= start && page.granule < s.end:
		// The end may be trimmed (RFC 7845 §4.4).
	case page.granule != s.end:
		s.OutOfOrder++
		if page.granule > s.end && page.granule>>62 == 0 {
			s.end = page.granule
		}
	}
}
