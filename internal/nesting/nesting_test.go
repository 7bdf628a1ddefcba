package nesting

import (
	"bytes"
	"testing"
)

func TestDepthCountsOpenObjectsAndLists(t *testing.T) {
	for data, want := range map[string]int{
		`1`: 0, `"[{"`: 0, `{}`: 1, `[1,[2],[3]]`: 2, `{"a":{"b":[{}]}}`: 4, `[1e999,[[]]]`: 3,
	} {
		if got := Depth([]byte(data)); got != want {
			t.Errorf("%s: %d, want %d", data, got, want)
		}
	}
}

func FuzzDepth(f *testing.F) {
	f.Add([]byte(`{"a":[[]]}`))
	f.Add([]byte(`[1,{"b":"]"`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if d := Depth(data); d < 0 || d > bytes.Count(data, []byte("["))+bytes.Count(data, []byte("{")) {
			t.Errorf("depth %d", d)
		}
	})
}
