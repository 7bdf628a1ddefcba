package nesting

import "testing"

func TestDepthCountsOpenObjectsAndLists(t *testing.T) {
	for data, want := range map[string]int{
		`1`: 0, `"[{"`: 0, `{}`: 1, `[1,[2],[3]]`: 2, `{"a":{"b":[{}]}}`: 4, `[1e999,[[]]]`: 3,
	} {
		if got := Depth([]byte(data)); got != want {
			t.Errorf("%s: %d, want %d", data, got, want)
		}
	}
}
