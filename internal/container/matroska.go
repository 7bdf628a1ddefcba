package container

import (
	"encoding/binary"
	"math"
)

// Matroska writes one H.264 track (RFC 9559, codec mapping V_MPEG4/ISO/AVC).
//
// The Segment and its Clusters are of unknown size and nothing points ahead, so the file is valid
// after every block. The timestamp scale is 10 µs, finer than half a tick of 90 kHz: every PTS
// comes back exactly. Blocks reach 327 ms from their Cluster that way; a new one costs 21 bytes.
//
// This is a writer of ours because github.com/at-wat/ebml-go's hands each frame to a goroutine,
// allocates for each, keeps frames until a later one, and cannot go on in an existing file. Tests
// read our files with it.
type Matroska struct {
	header      []byte
	durationAt  int64
	clusterOpen bool
	cluster     int64 // timestamp of the open Cluster, in scaled units
	last        int64 // timestamp of the last block
}

const (
	timestampScale = 10_000 // ns
	trackNumber    = 1
	blockKey       = 0x80 // SimpleBlock: key frame
)

// NewMatroska returns a writer for a new H.264 file. Pictures of another size, and other parameter
// sets in general, need a file of their own. The error wraps ErrParameterSets.
func NewMatroska(a AVC) (*Matroska, error) {
	record, s, err := a.record()
	if err != nil {
		return nil, err
	}
	var ebml []byte
	ebml = appendUint(ebml, idEBMLVersion, 1)
	ebml = appendUint(ebml, idEBMLReadVersion, 1)
	ebml = appendUint(ebml, idEBMLMaxIDLength, 4)
	ebml = appendUint(ebml, idEBMLMaxSize, 8)
	ebml = appendElement(ebml, idDocType, []byte("matroska"))
	ebml = appendUint(ebml, idDocTypeVersion, 4)
	ebml = appendUint(ebml, idDocTypeRead, 2)

	var info []byte
	info = appendUint(info, idTimestampScale, timestampScale)
	info = appendElement(info, idMuxingApp, []byte(vendor))
	info = appendElement(info, idWritingApp, []byte(vendor))
	info = appendElement(info, idDuration, durationBits(nil, 0)) // last, for its offset

	var video []byte
	video = appendUint(video, idPixelWidth, uint64(s.width))
	video = appendUint(video, idPixelHeight, uint64(s.height))
	var track []byte
	track = appendUint(track, idTrackNumber, trackNumber)
	track = appendUint(track, idTrackUID, trackNumber)
	track = appendUint(track, idTrackType, 1)
	track = appendUint(track, idFlagLacing, 0)
	track = appendElement(track, idCodecID, []byte("V_MPEG4/ISO/AVC"))
	track = appendElement(track, idCodecPrivate, record)
	track = appendElement(track, idVideo, video)

	m := new(Matroska)
	m.header = appendElement(m.header, idEBML, ebml)
	m.header = appendUnknown(m.header, idSegment)
	m.header = appendElement(m.header, idInfo, info)
	m.durationAt = int64(len(m.header) - 8)
	m.header = appendElement(m.header, idTracks, appendElement(nil, idTrackEntry, track))
	return m, nil
}

// AppendHeader implements [Video].
func (m *Matroska) AppendHeader(dst []byte) []byte { return append(dst, m.header...) }

// AppendFrame implements [Video]. frame is an access unit: NAL units, each after its length in
// four bytes, big-endian.
func (m *Matroska) AppendFrame(dst []byte, pts int64, key bool, frame []byte) []byte {
	at := scaledTime(pts)
	if offset := at - m.cluster; !m.clusterOpen || key || offset < 0 || offset > math.MaxInt16 {
		dst = appendUnknown(dst, idCluster)
		dst = appendSize(appendID(dst, idTimestamp), 8)
		dst = binary.BigEndian.AppendUint64(dst, uint64(at))
		m.clusterOpen, m.cluster = true, at
	}
	const blockHeader = 4
	dst = appendSize(appendID(dst, idSimpleBlock), blockHeader+len(frame))
	dst = append(dst, 0x80|trackNumber)
	dst = binary.BigEndian.AppendUint16(dst, uint16(at-m.cluster))
	if key {
		dst = append(dst, blockKey)
	} else {
		dst = append(dst, 0)
	}
	m.last = at
	return append(dst, frame...)
}

// Patch implements [Video].
func (m *Matroska) Patch() Patch { return matroskaDuration(m.durationAt, m.last) }

// matroskaDuration is the patch for a Duration element's body.
func matroskaDuration(offset, last int64) Patch {
	p := Patch{Offset: offset, n: 8}
	durationBits(p.data[:0], last)
	return p
}

// durationBits appends a Duration. It has to be above zero, so it counts the last block as one
// unit long: how long its picture stands is not known.
func durationBits(dst []byte, last int64) []byte {
	return binary.BigEndian.AppendUint64(dst, math.Float64bits(float64(last+1)))
}

// scaledTime converts a PTS at 90 kHz to units of timestampScale, rounding to the nearest.
func scaledTime(pts int64) int64 { return (20*pts + 9) / 18 }

// unscaledTime is its inverse.
func unscaledTime(t int64) int64 { return (18*t + 10) / 20 }
