package container

import (
	"encoding/binary"
	"errors"
	"io"
)

// errPage is for bytes that are not a whole, intact Ogg page.
var errPage = errors.New("no ogg page")

// oggCRC is the table of RFC 3533 §6's checksum: polynomial 0x04c11db7, bits not reflected, which
// hash/crc32 does not offer.
var oggCRC = func() (t [256]uint32) {
	const poly = 0x04c11db7
	for i := range t {
		r := uint32(i) << 24
		for range 8 {
			if r&(1<<31) != 0 {
				r = r<<1 ^ poly
			} else {
				r <<= 1
			}
		}
		t[i] = r
	}
	return t
}()

// crcOffset is where a page keeps its checksum, which counts as zero while it is computed.
const crcOffset = 22

func checksumOgg(page []byte) uint32 {
	var crc uint32
	update := func(b []byte) {
		for _, v := range b {
			crc = crc<<8 ^ oggCRC[byte(crc>>24)^v]
		}
	}
	update(page[:crcOffset])
	update([]byte{0, 0, 0, 0})
	update(page[crcOffset+4:])
	return crc
}

// setOggCRC puts the checksum of a whole page into it.
func setOggCRC(page []byte) {
	binary.LittleEndian.PutUint32(page[crcOffset:], checksumOgg(page))
}

// oggPage is a page as read. Its slices are valid until the next one is read.
type oggPage struct {
	raw      []byte
	lacing   []byte
	body     []byte
	flags    byte
	granule  int64
	serial   uint32
	sequence uint32
}

// readOggPage reads one page into buf, which holds oggMaxPage bytes.
func readOggPage(in *input, buf []byte) (p oggPage, err error) {
	if err := in.full(buf[:oggHeaderSize]); err == io.EOF {
		return p, err
	} else if err != nil {
		return p, tornPage(err)
	}
	if string(buf[:5]) != "OggS\x00" {
		return p, errPage
	}
	size := oggHeaderSize + int(buf[26])
	if err := in.full(buf[oggHeaderSize:size]); err != nil {
		return p, tornPage(err)
	}
	p.lacing = buf[oggHeaderSize:size]
	body := size
	for _, n := range p.lacing {
		size += int(n)
	}
	if err := in.full(buf[body:size]); err != nil {
		return p, tornPage(err)
	}
	p.raw, p.body = buf[:size], buf[body:size]
	p.flags = buf[5]
	p.granule = int64(binary.LittleEndian.Uint64(buf[6:]))
	p.serial = binary.LittleEndian.Uint32(buf[14:])
	p.sequence = binary.LittleEndian.Uint32(buf[18:])
	if binary.LittleEndian.Uint32(buf[crcOffset:]) != checksumOgg(p.raw) {
		return p, errPage
	}
	return p, nil
}

// tornPage is errPage for an input that ended, err for one that could not be read.
func tornPage(err error) error {
	if ended(err) {
		return errPage
	}
	return err
}
