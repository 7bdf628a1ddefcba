package container

import (
	"encoding/binary"
	"io"
)

// The EBML and Matroska elements we write or read (RFC 8794, RFC 9559).
const (
	idEBML            = 0x1A45DFA3
	idEBMLVersion     = 0x4286
	idEBMLReadVersion = 0x42F7
	idEBMLMaxIDLength = 0x42F2
	idEBMLMaxSize     = 0x42F3
	idDocType         = 0x4282
	idDocTypeVersion  = 0x4287
	idDocTypeRead     = 0x4285
	idSegment         = 0x18538067
	idInfo            = 0x1549A966
	idTimestampScale  = 0x2AD7B1
	idDuration        = 0x4489
	idMuxingApp       = 0x4D80
	idWritingApp      = 0x5741
	idTracks          = 0x1654AE6B
	idTrackEntry      = 0xAE
	idTrackNumber     = 0xD7
	idTrackUID        = 0x73C5
	idTrackType       = 0x83
	idFlagLacing      = 0x9C
	idCodecID         = 0x86
	idCodecPrivate    = 0x63A2
	idVideo           = 0xE0
	idPixelWidth      = 0xB0
	idPixelHeight     = 0xBA
	idCluster         = 0x1F43B675
	idTimestamp       = 0xE7
	idSimpleBlock     = 0xA3
	idBlockGroup      = 0xA0
	idBlock           = 0xA1
)

// unknownSize, in a size of eight bytes, is that of an element that ends where its parent does or
// a sibling begins. The Segment and the Clusters have it, so a file is valid wherever it stops.
const unknownSize = 1<<56 - 1

// appendID appends an element ID, whose length its own leading bits tell.
func appendID(dst []byte, id uint32) []byte {
	switch {
	case id > 0xffffff:
		return binary.BigEndian.AppendUint32(dst, id)
	case id > 0xffff:
		return append(dst, byte(id>>16), byte(id>>8), byte(id))
	case id > 0xff:
		return append(dst, byte(id>>8), byte(id))
	}
	return append(dst, byte(id))
}

// appendSize appends a size of four bytes, up to 2^28-2.
func appendSize(dst []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(dst, 1<<28|uint32(n))
}

func appendUnknown(dst []byte, id uint32) []byte {
	return binary.BigEndian.AppendUint64(appendID(dst, id), 1<<56|unknownSize)
}

func appendElement(dst []byte, id uint32, body []byte) []byte {
	return append(appendSize(appendID(dst, id), len(body)), body...)
}

func appendUint(dst []byte, id uint32, v uint64) []byte {
	return appendElement(dst, id, binary.BigEndian.AppendUint64(nil, v))
}

// element reads the head of an element; known is false when its size is unknown.
func (in *input) element() (id uint32, size int64, known bool, err error) {
	v, _, err := in.vint(4, false)
	if err != nil {
		return 0, 0, false, err
	}
	n, width, err := in.vint(8, true)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return uint32(v), int64(n), n != 1<<(7*width)-1, err
}

// vint reads a variable-size integer of at most max bytes, with or without its length marker. A
// longer one is an error like a torn one: what follows cannot be found.
func (in *input) vint(max int, unmark bool) (v uint64, width int, err error) {
	var b [8]byte
	if err := in.full(b[:1]); err != nil {
		return 0, 0, err
	}
	width = 1
	for mask := byte(0x80); b[0]&mask == 0; mask >>= 1 {
		if width++; width > max {
			return 0, 0, io.ErrUnexpectedEOF
		}
	}
	if err := in.full(b[1:width]); err == io.EOF {
		return 0, 0, io.ErrUnexpectedEOF
	} else if err != nil {
		return 0, 0, err
	}
	for _, x := range b[:width] {
		v = v<<8 | uint64(x)
	}
	if unmark {
		v &= 1<<(7*width) - 1
	}
	return v, width, nil
}
