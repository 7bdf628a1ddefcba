package container

import (
	"encoding/binary"
	"fmt"
)

// OggOptions describes a new Ogg file.
type OggOptions struct {
	Serial      uint32 // of the logical bitstream; random, so that chained files stay apart
	Channels    uint8  // 1 or 2
	PreSkip     uint16 // samples a player drops at the start; see LibopusPreSkip
	Tags        []Tag  // sanitised and bounded on writing
	PagePackets int    // packets a page holds at most; 0 means 50
}

// Ogg writes one Opus stream in the layout of RFC 7845. Packets are gathered into pages of up to
// PagePackets packets or one second, whichever is less; AppendPage sends a page early. The newest
// packet always waits for the next, so that the page that ends the stream has something on it:
// opusinfo takes an empty one for a fault.
//
// pion's oggwriter pins the layout in our tests but does not write it: it has its pre-skip fixed
// at 3840, writes one page per packet, and cannot go on in an existing file.
type Ogg struct {
	options  OggOptions
	sequence uint32 // of the next page
	granule  int64  // samples up to the end of the last packet appended

	// the page in the making
	flags   byte
	lacing  []byte
	body    []byte
	packets int
	samples int
	newest  newestPacket
}

// newestPacket is where the last packet of the page in the making begins, and its duration.
type newestPacket struct{ lacing, body, samples int }

const (
	oggHeaderSize  = 27
	oggMaxSegments = 255
	oggMaxPage     = oggHeaderSize + oggMaxSegments + oggMaxSegments*255
	pagePackets    = 50

	flagContinued = 1
	flagBOS       = 2
	flagEOS       = 4

	// noGranule is the granule position of a page on which no packet ends.
	noGranule = -1
)

// NewOgg returns a writer for a new file.
func NewOgg(o OggOptions) (*Ogg, error) {
	if o.Channels != 1 && o.Channels != 2 {
		return nil, fmt.Errorf("opus in ogg: %d channels, want 1 or 2", o.Channels)
	}
	if o.PagePackets <= 0 {
		o.PagePackets = pagePackets
	}
	return &Ogg{options: o}, nil
}

// AppendHeader appends the identification and comment headers, each on a page of its own.
func (o *Ogg) AppendHeader(dst []byte) []byte {
	head := append(make([]byte, 0, 19), "OpusHead\x01"...)
	head = append(head, o.options.Channels)
	head = binary.LittleEndian.AppendUint16(head, o.options.PreSkip)
	head = binary.LittleEndian.AppendUint32(head, OpusRate)
	head = append(head, 0, 0, 0) // no gain, channel mapping family 0
	o.flags = flagBOS
	for _, packet := range [][]byte{head, appendOpusTags(nil, o.options.Tags)} {
		dst = o.AppendPacket(dst, packet, 0)
		dst = o.appendPage(dst, 0)
	}
	return dst
}

// AppendPacket adds a packet that lasts the given number of samples at 48 kHz, and appends the
// page before it if that is complete now. It keeps no reference to packet.
func (o *Ogg) AppendPacket(dst, packet []byte, samples int) []byte {
	segments := len(packet)/255 + 1
	if o.packets > 0 && (o.packets >= o.options.PagePackets || o.samples+samples > OpusRate ||
		len(o.lacing)+segments > oggMaxSegments) {
		dst = o.appendPage(dst, o.granule)
	}
	// A packet of 65 025 bytes and more begins with pages of its own, on which none ends.
	for ; segments > oggMaxSegments; segments -= oggMaxSegments {
		o.add(packet[:oggMaxSegments*255], oggMaxSegments)
		packet = packet[oggMaxSegments*255:]
		dst = o.appendPage(dst, noGranule)
		o.flags = flagContinued
	}
	o.newest = newestPacket{len(o.lacing), len(o.body), samples}
	o.add(packet, segments-1)
	o.lacing = append(o.lacing, byte(len(packet)%255))
	o.packets++
	o.samples += samples
	o.granule += int64(samples)
	return dst
}

// add puts data on the page, with the lacing of its full segments.
func (o *Ogg) add(data []byte, full int) {
	for range full {
		o.lacing = append(o.lacing, 255)
	}
	o.body = append(o.body, data...)
}

// AppendPage appends the packets gathered so far as a page, without the newest; nothing when there
// are none.
func (o *Ogg) AppendPage(dst []byte) []byte {
	if o.packets < 2 {
		return dst
	}
	n := o.newest
	lacing, body := o.lacing[n.lacing:], o.body[n.body:]
	o.lacing, o.body = o.lacing[:n.lacing], o.body[:n.body]
	dst = o.appendPage(dst, o.granule-int64(n.samples))
	o.lacing, o.body = append(o.lacing, lacing...), append(o.body, body...)
	o.packets, o.samples, o.newest = 1, n.samples, newestPacket{0, 0, n.samples}
	return dst
}

// AppendEOS appends what is left and marks the end of the stream. Nothing may follow it.
func (o *Ogg) AppendEOS(dst []byte) []byte {
	o.flags |= flagEOS
	return o.appendPage(dst, o.granule)
}

// Granule is the position behind the last packet appended, in samples since the file's first.
func (o *Ogg) Granule() int64 { return o.granule }

func (o *Ogg) appendPage(dst []byte, granule int64) []byte {
	start := len(dst)
	dst = append(dst, "OggS\x00"...)
	dst = append(dst, o.flags)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(granule))
	dst = binary.LittleEndian.AppendUint32(dst, o.options.Serial)
	dst = binary.LittleEndian.AppendUint32(dst, o.sequence)
	dst = append(dst, 0, 0, 0, 0, byte(len(o.lacing)))
	dst = append(dst, o.lacing...)
	dst = append(dst, o.body...)
	setOggCRC(dst[start:])
	o.sequence++
	o.flags, o.lacing, o.body = 0, o.lacing[:0], o.body[:0]
	o.packets, o.samples = 0, 0
	return dst
}
