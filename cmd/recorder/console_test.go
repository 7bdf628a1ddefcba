package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestStatusIsPlainLinesNowAndThenWhereThereIsNoTerminal(t *testing.T) {
	var out bytes.Buffer
	c := newConsole(&out)
	start := time.Unix(0, 0)
	for i := range 9 { // 4 s
		c.Status(start.Add(time.Duration(i)*500*time.Millisecond), string(rune('a'+i)))
	}
	c.Printf("%s\n", c.Good("done"))
	if got, want := out.String(), "a\ne\ni\ndone\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestStatusIsRewrittenInPlaceOnATerminal(t *testing.T) {
	var out bytes.Buffer
	c := &console{w: &out, terminal: true, colour: true}
	c.Status(time.Time{}, "one")
	c.Status(time.Time{}, "two")
	c.Printf("%s\n", c.Bad("over"))
	if got, want := out.String(), "one\r\x1b[Ktwo\r\x1b[K\x1b[31mover\x1b[0m\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFileIsNoTerminal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if c := newConsole(f); c.terminal || c.colour {
		t.Errorf("got %+v", c)
	}
}
