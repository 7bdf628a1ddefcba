// Package nesting measures how deep JSON goes, which encoding/json does not
// bound below 10,000 levels.
package nesting

import (
	"bytes"
	"encoding/json"
)

// Depth is how deep the objects and lists of valid JSON go: 0 for a bare value.
func Depth(data json.RawMessage) (deepest int) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // as some fit no float64
	for depth := 0; ; {
		token, err := d.Token()
		switch {
		case err != nil: // the end
			return deepest
		case token == json.Delim('{') || token == json.Delim('['):
			depth++
			deepest = max(deepest, depth)
		case token == json.Delim('}') || token == json.Delim(']'):
			depth--
		}
	}
}
