package depacket

import (
	"testing"
)

func TestRTPHeadersAreReadOrRefused(t *testing.T) {
	plain := rtpPacket(96, true, 7, 8, 9, []byte("media"))
	with := func(first byte, extra ...byte) []byte {
		b := append([]byte{}, plain[:12]...)
		b[0] = first
		return append(append(b, extra...), "media"...)
	}
	tests := []struct {
		name   string
		Packet []byte
		want   string
		ok     bool
	}{
		{"plain", plain, "media", true},
		{"two CSRCs", with(0x82, 1, 2, 3, 4, 5, 6, 7, 8), "media", true},
		{"an extension", with(0x90, 0xbe, 0xde, 0, 1, 0x10, 0xff, 0, 0), "media", true},
		{"an extension that is empty", with(0x90, 0xbe, 0xde, 0, 0), "media", true},
		{"padding", append(with(0xa0), 0, 0, 3), "media", true},
		{"nothing but padding", append(append([]byte{0xa0}, plain[1:12]...), 0, 0, 0, 4), "", true},
		{"no payload", plain[:12], "", true},
		{"cut short", plain[:11], "", false},
		{"version 1", with(0x40), "", false},
		{"more CSRCs than bytes", with(0x8f), "", false},
		{"an extension beyond the end", with(0x90, 0xbe, 0xde, 0xff, 0xff), "", false},
		{"padding of 0", append(with(0xa0), 0), "", false},
		{"padding beyond the payload", append(with(0xa0), 200), "", false},
	}
	for _, tt := range tests {
		p := Packet{Raw: tt.Packet}
		if err := p.Parse(); (err == nil) != tt.ok || err == nil && string(p.Payload) != tt.want {
			t.Errorf("%s: %q, %v", tt.name, p.Payload, err)
		}
	}
}
