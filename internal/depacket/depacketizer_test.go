package depacket

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"testing"

	"recorder/internal/container"
)

// got is what an assembler made of some packets.
type got struct {
	pictures []string // data, with ! before a key picture and ? before a broken one
	drops    int
}

func assemble(f payloadFormat, packets []*Packet, lost map[int]int) (g got) {
	a := newAssembler(f, func(p Frame) {
		text := fmt.Sprintf("%x", p.Data)
		if p.Broken {
			text = "?" + text
		}
		if p.Key {
			text = "!" + text
		}
		g.pictures = append(g.pictures, text)
	}, func(Frame) { g.drops++ })
	for i, p := range packets {
		a.Push(p, lost[i])
	}
	return g
}

// wire is a packet of a picture; a time that ends in ! has the marker.
func wire(rtp uint32, marker bool, payload ...byte) *Packet {
	return &Packet{Timestamp: rtp, Marker: marker, Payload: payload}
}

func TestVP8PicturesAreWhole(t *testing.T) {
	const (
		m     = true
		start = 0x10
	)
	key, delta := fmt.Sprintf("!%x", vp8Key), fmt.Sprintf("%x", vp8Delta)
	first := func(rtp uint32, marker bool, frame []byte) *Packet {
		return wire(rtp, marker, vp8Payload([]byte{start}, frame...)...)
	}
	withID := func(rtp uint32, id byte, frame []byte) *Packet {
		return wire(rtp, m, vp8Payload([]byte{start | 0x80, 0x80, id}, frame...)...)
	}
	rest := func(rtp uint32, marker bool, frame []byte) *Packet {
		return wire(rtp, marker, vp8Payload([]byte{0}, frame...)...)
	}
	tests := []struct {
		name    string
		packets []*Packet
		lost    map[int]int
		want    []string
		drops   int
	}{
		{"two pictures", []*Packet{first(0, m, vp8Key), first(1, m, vp8Delta)}, nil, []string{"!?" + key[1:], delta}, 0},
		{"fragments", []*Packet{first(0, false, vp8Key[:4]), rest(0, m, vp8Key[4:]), first(1, m, vp8Delta)}, nil, []string{"!?" + key[1:], delta}, 0},
		{"second partition starts a fragment", []*Packet{first(0, false, vp8Key), wire(0, m, 0x11, 0xaa)}, nil, []string{"!?" + key[1:] + "aa"}, 0},
		{"no markers at all", []*Packet{first(0, false, vp8Key), first(1, false, vp8Delta), first(2, false, vp8Delta)}, nil, []string{"!?" + key[1:], delta}, 0},
		{"no markers, one time for all", []*Packet{first(0, false, vp8Key), first(0, false, vp8Delta)}, nil, []string{"!?" + key[1:]}, 0},
		{"the packet with the marker is lost",
			[]*Packet{first(0, false, vp8Key[:4]), first(1, m, vp8Delta)}, map[int]int{1: 1}, []string{"?" + delta}, 1},
		{"a middle is lost",
			[]*Packet{first(0, false, vp8Key[:4]), rest(0, m, vp8Key[7:])}, map[int]int{1: 1}, nil, 1},
		{"a start is lost",
			[]*Packet{first(0, m, vp8Key), rest(1, m, vp8Delta), first(2, m, vp8Delta)}, map[int]int{1: 1}, []string{"!?" + key[1:], "?" + delta}, 1},
		{"packets between pictures are lost",
			[]*Packet{first(0, m, vp8Key), first(2, m, vp8Delta)}, map[int]int{1: 1}, []string{"!?" + key[1:], "?" + delta}, 0},
		{"what is lost was padding, as picture IDs prove",
			[]*Packet{withID(0, 127, vp8Key), withID(1, 0, vp8Delta)}, map[int]int{1: 3}, []string{"!?" + key[1:], delta}, 0},
		{"as many as there are picture IDs, less one, were padding",
			[]*Packet{withID(0, 127, vp8Key), withID(1, 0, vp8Delta)}, map[int]int{1: 127}, []string{"!?" + key[1:], delta}, 0},
		{"as many as there are picture IDs may have been pictures",
			[]*Packet{withID(0, 127, vp8Key), withID(1, 0, vp8Delta)}, map[int]int{1: 128}, []string{"!?" + key[1:], "?" + delta}, 0},
		{"as many may have been, with padding that came among them",
			[]*Packet{withID(0, 127, vp8Key), wire(0, false), withID(1, 0, vp8Delta)}, map[int]int{1: 64, 2: 64}, []string{"!?" + key[1:], "?" + delta}, 0},
		{"a picture is missing, as picture IDs prove",
			[]*Packet{withID(0, 5, vp8Key), withID(2, 7, vp8Delta)}, nil, []string{"!?" + key[1:], "?" + delta}, 0},
		{"picture IDs that stand still mean nothing",
			[]*Packet{withID(0, 5, vp8Key), withID(2, 5, vp8Delta)}, nil, []string{"!?" + key[1:], delta}, 0},
		{"padding between fragments",
			[]*Packet{first(0, false, vp8Key[:4]), wire(0, false), rest(0, m, vp8Key[4:])}, nil, []string{"!?" + key[1:]}, 0},
		{"a descriptor and nothing else",
			[]*Packet{first(0, m, vp8Key), wire(1, false, start), first(1, m, vp8Delta)}, nil, []string{"!?" + key[1:], delta}, 0},
		{"a malformed descriptor",
			[]*Packet{first(0, m, vp8Key), wire(1, m, 0x90, 0x80), first(2, m, vp8Delta)}, nil, []string{"!?" + key[1:], "?" + delta}, 1},
		{"a key frame without its start code",
			[]*Packet{first(0, m, []byte{0x10, 0, 0, 1, 2, 3, 16, 0, 16, 0}), first(1, m, vp8Delta)}, nil, []string{"?" + delta}, 1},
		{"a first partition larger than the frame",
			[]*Packet{first(0, m, []byte{0x11, 0xff, 0})}, nil, nil, 1},
		{"joined in the middle",
			[]*Packet{rest(0, false, vp8Delta), rest(0, m, vp8Delta), first(1, m, vp8Key)}, nil, []string{"!?" + key[1:]}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := assemble(new(vp8), tt.packets, tt.lost)
			if !slices.Equal(g.pictures, tt.want) || g.drops != tt.drops {
				t.Errorf("pictures %v, %d dropped\nwant     %v, %d", g.pictures, g.drops, tt.want, tt.drops)
			}
		})
	}
}

func TestVP9LayersMakeOneSuperframe(t *testing.T) {
	// Two spatial layers, 15 bit picture ID, non-flexible mode, with a scalability structure.
	superframes := frames(t, container.VP9, "vp9layers.ivf")
	layer := layers(superframes[0])
	structure := []byte{0x30, 1, 64, 0, 180, 2, 128, 1, 104}
	base := slices.Concat([]byte{0x80 | 0x20 | 0x08 | 0x04 | 0x02, 0x81, 0x02, 0x00, 0x00}, structure, layer[0])
	top1 := append([]byte{0x80 | 0x20 | 0x08, 0x81, 0x02, 0x03, 0x00}, layer[1][:300]...)
	top2 := append([]byte{0x80 | 0x20 | 0x04, 0x81, 0x02, 0x03, 0x00}, layer[1][300:]...)
	var pictures []Frame
	a := newAssembler(new(vp9), func(p Frame) { p.Data = bytes.Clone(p.Data); pictures = append(pictures, p) }, func(Frame) {})
	a.Push(wire(0, false, base...), 0)
	a.Push(wire(0, false, top1...), 0)
	a.Push(wire(0, true, top2...), 0)
	if len(pictures) != 1 {
		t.Fatalf("%d pictures", len(pictures))
	}
	p := pictures[0]
	hidden := bytes.Clone(layer[0])
	hidden[0] &^= 0x02 // show_frame
	want := [][]byte{hidden, layer[1]}
	if got := layers(p.Data); !slices.EqualFunc(got, want, bytes.Equal) || !p.Key || p.Width != 640 || p.Height != 360 {
		t.Errorf("%x\nwant %x\nkey %v, %d×%d", got, want, p.Key, p.Width, p.Height)
	}
	// Without the end of its base layer a picture is not whole.
	g := assemble(new(vp9), []*Packet{wire(0, false, 0x28, 0, 0, 0x86), wire(0, true, 0x2c, 0x02, 0, 0x86)}, nil)
	if len(g.pictures) != 0 || g.drops != 1 {
		t.Errorf("%v, %d dropped", g.pictures, g.drops)
	}
}

func TestVP9DescriptorsAreRead(t *testing.T) {
	tests := []struct {
		name    string
		payload []byte
		begins  begins
		id      int32
		body    int
		ok      bool
	}{
		{"shortest", []byte{0x0c, 1}, surely, 0, 1, true},
		{"picture ID of 7 bits", []byte{0x8c, 0x12, 1}, surely, 0x12, 1, true},
		{"picture ID of 15 bits", []byte{0x8c, 0x92, 0x34, 1}, surely, 0x1234, 1, true},
		{"flexible, three references", []byte{0xdc, 0x01, 0x03, 0x05, 0x06, 1}, surely, 1, 1, true},
		{"flexible, four references", []byte{0xdc, 0x01, 0x03, 0x05, 0x07, 0x08, 1}, never, 1, 0, false},
		{"upper layer", []byte{0xac, 0x01, 0x02, 0x00, 1}, never, 1, 1, true},
		{"structure with a picture group", []byte{0x8e, 0x01, 0x18, 1, 0, 0, 240, 2, 0x14, 1, 0x28, 1, 2, 9, 9}, surely, 1, 2, true},
		{"structure cut short", []byte{0x8e, 0x01, 0x18, 1, 0, 0}, never, 1, 0, false},
		{"nothing behind the descriptor", []byte{0x8c, 0x12}, never, 0x12, 0, true},
		{"picture ID cut short", []byte{0x8c, 0x92}, never, 0, 0, false},
	}
	for _, tt := range tests {
		v := new(vp9)
		f, ok := v.parse(tt.payload)
		if ok != tt.ok || ok && (f.begins != tt.begins || f.id != tt.id || len(v.body) != tt.body) {
			t.Errorf("%s: %+v, %v, body %x", tt.name, f, ok, v.body)
		}
	}
}

func TestVP9KeyFrameSizes(t *testing.T) {
	tests := []struct {
		name          string
		header        []byte
		key, ok       bool
		width, height int
	}{
		{"key frame of 640×360", []byte{0x82, 0x49, 0x83, 0x42, 0x20, 0x27, 0xf0, 0x16, 0x70, 0}, true, true, 640, 360},
		{"delta", []byte{0x86, 0x00}, false, true, 0, 0},
		{"shows an earlier frame", []byte{0x88}, false, true, 0, 0},
		{"wrong sync code", []byte{0x82, 0x49, 0x83, 0x43, 0x20, 0x27, 0xf0, 0x16, 0x70, 0}, false, false, 0, 0},
		{"cut short", []byte{0x82, 0x49, 0x83}, false, false, 0, 0},
		{"no frame marker", []byte{0x42, 0x49}, false, false, 0, 0},
	}
	for _, tt := range tests {
		h, ok := new(vp9Sizes).read(tt.header)
		if ok != tt.ok || ok && (h.key != tt.key || h.key && (h.width != tt.width || h.height != tt.height)) {
			t.Errorf("%s: %+v, %v", tt.name, h, ok)
		}
	}
}

// av1SequenceOBU is the sequence header of libaom for 240×136, realtime, as on the wire.
func av1SequenceOBU(t testing.TB) []byte {
	unit := frames(t, container.AV1, "av1.ivf")[0] // temporal delimiter, sequence header, frame
	return append([]byte{0x08}, unit[4:4+unit[3]]...)
}

func TestAV1UnitsAreInLowOverheadFormat(t *testing.T) {
	sequence := av1SequenceOBU(t)
	keyFrame, delta := []byte{0x30, 0x10, 0xaa, 0xbb}, []byte{0x30, 0x20, 0xcc}
	sized := func(obu []byte) []byte { return append([]byte{obu[0] | 2, byte(len(obu) - 1)}, obu[1:]...) }
	element := func(obu []byte) []byte { return append([]byte{byte(len(obu))}, obu...) }
	key := fmt.Sprintf("!?1200%x%x", sized(sequence), sized(keyFrame))
	plain := fmt.Sprintf("1200%x", sized(delta))
	const m = true
	tests := []struct {
		name    string
		packets []*Packet
		lost    map[int]int
		want    []string
		drops   int
	}{
		{"counted elements", []*Packet{
			wire(0, m, slices.Concat([]byte{0x28}, element(sequence), keyFrame)...), wire(1, m, append([]byte{0x10}, delta...)...)},
			nil, []string{key, plain}, 0},
		{"elements with lengths", []*Packet{wire(0, m, slices.Concat([]byte{0x08}, element(sequence), element(keyFrame))...)}, nil, []string{key}, 0},
		{"OBUs with a size already, and a temporal delimiter",
			[]*Packet{wire(0, m, slices.Concat([]byte{0x38}, element([]byte{0x12, 0}), element(sized(sequence)), sized(keyFrame))...)}, nil, []string{key}, 0},
		{"an OBU over three packets", []*Packet{
			wire(0, false, slices.Concat([]byte{0x68}, element(sequence), keyFrame[:2])...),
			wire(0, false, append([]byte{0xd0}, keyFrame[2])...), wire(0, m, append([]byte{0x90}, keyFrame[3])...)},
			nil, []string{key}, 0},
		{"the middle of an OBU is lost", []*Packet{
			wire(0, false, slices.Concat([]byte{0x68}, element(sequence), keyFrame[:2])...),
			wire(0, m, append([]byte{0x90}, keyFrame[3])...)},
			map[int]int{1: 1}, nil, 1},
		{"goes on with an OBU that had ended", []*Packet{
			wire(0, false, slices.Concat([]byte{0x28}, element(sequence), keyFrame)...), wire(0, m, 0x90, 1)},
			nil, nil, 1},
		{"its start is lost, and nothing says where it is", []*Packet{
			wire(0, m, slices.Concat([]byte{0x28}, element(sequence), keyFrame)...), wire(1, m, append([]byte{0x10}, delta...)...)},
			map[int]int{1: 1}, []string{key}, 1},
		{"a length beyond the packet", []*Packet{wire(0, m, 0x08, 0xff, 0x7f, 1)}, nil, nil, 1},
		{"no frame in it", []*Packet{wire(0, m, append([]byte{0x18}, sequence...)...)}, nil, nil, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := assemble(new(av1), tt.packets, tt.lost)
			if !slices.Equal(g.pictures, tt.want) || g.drops != tt.drops {
				t.Errorf("pictures %v, %d dropped\nwant     %v, %d", g.pictures, g.drops, tt.want, tt.drops)
			}
		})
	}
	s, ok := parseAV1Sequence(sequence[1:])
	if !ok || s.width != 240 || s.height != 136 {
		t.Errorf("sequence header: %+v, %v", s, ok)
	}
}

// What the manifest counts as a key picture of AV1 is what a scan of the file counts.
func TestFileAndManifestAgreeOnAV1KeyPictures(t *testing.T) {
	sequence := av1SequenceOBU(t)
	for name, tt := range map[string]struct {
		sequence []byte
		frame    byte
		key      bool
	}{
		"a key frame":                           {sequence, 0x10, true},
		"a key frame that is not shown":         {sequence, 0x00, false},
		"a key frame without a sequence header": {nil, 0x10, false},
		"an inter frame":                        {sequence, 0x30, false},
	} {
		v, payload := new(av1), []byte{0x10, 0x30, tt.frame, 0xaa, 0xbb}
		if tt.sequence != nil {
			payload = slices.Concat([]byte{0x20, byte(len(tt.sequence))}, tt.sequence, payload[1:])
		}
		v.parse(payload)
		b, whole := v.appendTo(nil)
		pic, ok := v.finish(b)
		if !whole || !ok || pic.Key != tt.key || container.KeyFrame(container.AV1, pic.Data) != tt.key {
			t.Errorf("%s: key %v, by a scan %v, whole %v %v", name, pic.Key, container.KeyFrame(container.AV1, pic.Data), whole, ok)
		}
	}
}

func h264Sets(t testing.TB) (sps, pps []byte) {
	_, units := accessUnits(load(t, "h264.h264"))
	b := units[0]
	sps = b[4 : 4+b[3]]
	b = b[4+len(sps):]
	return sps, b[4 : 4+b[3]]
}

func TestH264AccessUnitsAreWhole(t *testing.T) {
	sps, pps := h264Sets(t)
	idr, slice := []byte{0x65, 0x88, 1, 2, 3}, []byte{0x41, 0x9a, 4}
	second := []byte{0x41, 0x1a, 5} // a slice that is not the first of its picture
	nal := func(units ...[]byte) string {
		var b []byte
		for _, u := range units {
			b = append(append(b, 0, 0, 0, byte(len(u))), u...)
		}
		return fmt.Sprintf("%x", b)
	}
	stap := func(units ...[]byte) []byte {
		b := []byte{0x78}
		for _, u := range units {
			b = append(append(b, 0, byte(len(u))), u...)
		}
		return b
	}
	const m = true
	key := "!?" + nal(sps, pps, idr)
	start := wire(0, m, stap(sps, pps, idr)...)
	tests := []struct {
		name    string
		packets []*Packet
		lost    map[int]int
		want    []string
		drops   int
	}{
		{"aggregated", []*Packet{start, wire(1, m, slice...)}, nil, []string{key, nal(slice)}, 0},
		{"single units", []*Packet{wire(0, false, sps...), wire(0, false, pps...), wire(0, m, idr...)}, nil, []string{key}, 0},
		{"fragmented", []*Packet{wire(0, false, stap(sps, pps)...),
			wire(0, false, 0x7c, 0x85, 0x88, 1), wire(0, false, 0x7c, 0x05, 2), wire(0, m, 0x7c, 0x45, 3)}, nil, []string{key}, 0},
		{"two slices", []*Packet{start, wire(1, false, slice...), wire(1, m, second...)}, nil, []string{key, nal(slice, second)}, 0},
		{"second slice lost, with the marker", []*Packet{start, wire(1, false, slice...), wire(2, m, slice...)},
			map[int]int{2: 1}, []string{key}, 2},
		{"first slice lost", []*Packet{start, wire(1, m, second...)}, map[int]int{1: 1}, []string{key}, 1},
		{"parameter sets lost", []*Packet{wire(0, m, idr...)}, map[int]int{0: 1}, nil, 1},
		{"a fragment lost", []*Packet{start, wire(1, false, 0x7c, 0x81, 0x9a), wire(1, m, 0x7c, 0x41, 4)},
			map[int]int{2: 1}, []string{key}, 1},
		{"the end of a fragmented unit missing", []*Packet{start, wire(1, false, 0x7c, 0x81, 0x9a), wire(1, m, second...)}, nil, []string{key}, 1},
		{"an aggregated length beyond the packet", []*Packet{start, wire(1, m, 0x78, 0, 9, 0x41, 0x9a)}, nil, []string{key}, 1},
		{"interleaved mode", []*Packet{start, wire(1, m, 0x79, 0, 0, 0, 2, 0x41, 0x9a)}, nil, []string{key}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := assemble(newH264(""), tt.packets, tt.lost)
			if !slices.Equal(g.pictures, tt.want) || g.drops != tt.drops {
				t.Errorf("pictures %v, %d dropped\nwant     %v, %d", g.pictures, g.drops, tt.want, tt.drops)
			}
		})
	}
	// Parameter sets may come by the SDP alone.
	h := newH264("packetization-mode=1;sprop-parameter-sets=" + base64.StdEncoding.EncodeToString(sps) + "," + base64.StdEncoding.EncodeToString(pps))
	if g := assemble(h, []*Packet{wire(0, m, 0x06, 1), wire(1, m, idr...)}, nil); !slices.Equal(g.pictures, []string{"!?" + nal(idr)}) {
		t.Errorf("sets from the SDP: %v", g.pictures)
	}
}
