package container

import (
	"encoding/binary"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Tag is one user comment of an Ogg file (RFC 7845 §5.2).
type Tag struct{ Name, Value string }

// Bounds on the tags of a file. Together they keep OpusTags within one page.
const (
	maxTags     = 32
	maxTagName  = 64
	maxTagValue = 1024
)

// vendor names the encoder in OpusTags. The packets are the sender's, so it names only us.
const vendor = "recorder"

// appendOpusTags appends the comment header. Values may come from hostile peers: what a comment
// cannot hold is dropped or replaced, what is too much is cut, and nothing is refused.
func appendOpusTags(dst []byte, tags []Tag) []byte {
	dst = append(dst, "OpusTags"...)
	dst = appendString(dst, vendor)
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	var n uint32
	for _, t := range tags {
		name := tagName(t.Name)
		if name == "" || n == maxTags {
			continue
		}
		dst = appendString(dst, name+"="+tagValue(t.Value))
		n++
	}
	binary.LittleEndian.PutUint32(dst[at:], n)
	return dst
}

func appendString(dst []byte, s string) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(s)))
	return append(dst, s...)
}

// tagName keeps the characters a field name may have: ASCII 0x20 to 0x7D without "=".
func tagName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7d || r == '=' {
			return -1
		}
		return r
	}, s)
	return strings.ToUpper(s[:min(len(s), maxTagName)])
}

// tagValue keeps printable UTF-8, on one line so that no listing of tags can be forged.
func tagValue(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
	if len(s) <= maxTagValue {
		return s
	}
	s = s[:maxTagValue]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s
}

// parseOpusTags reads as many tags as we would write; ok is false when b is no comment header.
func parseOpusTags(b []byte) (tags []Tag, ok bool) {
	rest, found := strings.CutPrefix(string(b), "OpusTags")
	if !found {
		return nil, false
	}
	next := func() (s string, ok bool) {
		if len(rest) < 4 {
			return "", false
		}
		n := uint64(binary.LittleEndian.Uint32([]byte(rest[:4])))
		if n > uint64(len(rest)-4) {
			return "", false
		}
		s, rest = rest[4:4+n], rest[4+n:]
		return s, true
	}
	if _, ok := next(); !ok || len(rest) < 4 {
		return nil, false
	}
	count := binary.LittleEndian.Uint32([]byte(rest[:4]))
	rest = rest[4:]
	for range min(count, maxTags) {
		s, ok := next()
		if !ok {
			return tags, false
		}
		if name, value, found := strings.Cut(s, "="); found {
			tags = append(tags, Tag{name, value})
		}
	}
	return tags, true
}
