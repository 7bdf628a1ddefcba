package config

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// What a configuration may be at most. Beyond it reading takes longer than it is worth: the YAML parser compares each key of a
// map with all others, and a few lines of aliases stand for more than fits into memory.
const (
	maxDepth  = 32
	maxKeys   = 1000    // of one map
	maxItems  = 10_000  // of one list, channels included
	maxValues = 500_000 // in all, with those that aliases stand for
)

// badByte returns what is wrong with the first byte of text that cannot stand in YAML, which the parser does not place.
func badByte(text []byte) *Fault {
	if bytes.HasPrefix(text, []byte{0xff, 0xfe}) || bytes.HasPrefix(text, []byte{0xfe, 0xff}) {
		return nil // UTF-16, which is YAML too
	}
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		var what string
		switch {
		case r == utf8.RuneError && n == 1:
			what = "no UTF-8"
		case r < ' ' && r != '\t' && r != '\n' && r != '\r', r == 0x7f:
			what = "a control character"
		}
		if what != "" {
			return &Fault{Line: 1 + bytes.Count(text[:i], []byte("\n")), Message: fmt.Sprintf("byte 0x%02x is %s", text[i], what)}
		}
		i += n
	}
	return nil
}

// outOfBounds returns where a document is more than it may be, or says a key twice.
func outOfBounds(root *yaml.Node) *Fault {
	b := bounds{left: maxValues}
	b.check(root, "", 0)
	return b.fault
}

// bounds goes through a document, following aliases, until something is out of bounds.
type bounds struct {
	left  int // values that there may still be
	fault *Fault
}

func (b *bounds) check(node *yaml.Node, path string, depth int) {
	line := node.Line // where the alias stands, if it is one
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	b.left--
	switch {
	case b.fault != nil:
	case b.left < 0:
		b.refuse(path, line, "more than %d values, with those that aliases stand for", maxValues)
	case depth > maxDepth:
		b.refuse(path, line, "nested more than %d deep", maxDepth)
	case node.Kind == yaml.SequenceNode && len(node.Content) > maxItems:
		b.refuse(path, line, "a list of %d, at most %d are allowed", len(node.Content), maxItems)
	case node.Kind == yaml.MappingNode && len(node.Content)/2 > maxKeys:
		b.refuse(path, line, "a map of %d keys, at most %d are allowed", len(node.Content)/2, maxKeys)
	case node.Kind == yaml.SequenceNode:
		for i, item := range node.Content {
			b.check(item, fmt.Sprintf("%s[%d]", shortKey(path), i), depth+1)
		}
	case node.Kind == yaml.MappingNode:
		b.checkMap(node, path, depth)
	}
}

func (b *bounds) checkMap(node *yaml.Node, path string, depth int) {
	lines := make(map[string]int, len(node.Content)/2)
	for i := 0; i+1 < len(node.Content) && b.fault == nil; i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if key.Kind == yaml.ScalarNode {
			if first, ok := lines[key.Value]; ok && key.Tag != "!!merge" {
				b.fault = &Fault{Line: key.Line, Message: fmt.Sprintf("mapping key %.100q already defined at line %d", key.Value, first)}
				return
			}
			lines[key.Value] = key.Line
		} else {
			b.check(key, path, depth+1)
		}
		b.check(value, join(shortKey(path), key.Value), depth+1)
	}
}

func (b *bounds) refuse(path string, line int, format string, args ...any) {
	b.fault = &Fault{Key: shortKey(path), Line: line, Message: fmt.Sprintf(format, args...)}
}

// maxShownKey is how much of a key is shown.
const maxShownKey = 100

// shortKey cuts the path of a key, which a file may make as long as itself.
func shortKey(key string) string {
	if len(key) <= maxShownKey {
		return key
	}
	cut := maxShownKey
	for cut > 0 && !utf8.RuneStart(key[cut]) {
		cut--
	}
	return key[:cut] + "…"
}
