package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// statusInterval is how often a status is printed where it cannot be rewritten in place.
const statusInterval = 2 * time.Second

// console prints for people: on a terminal with colours and a status line that is rewritten in place, elsewhere plain lines.
// It has one user at a time.
type console struct {
	w        io.Writer
	terminal bool
	colour   bool
	status   bool      // the cursor stands behind a status
	last     time.Time // of the latest status printed as a line
}

func newConsole(w io.Writer) *console {
	c := &console{w: w}
	if f, ok := w.(*os.File); ok && os.Getenv("TERM") != "dumb" {
		info, err := f.Stat()
		c.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
		c.colour = c.terminal && os.Getenv("NO_COLOR") == ""
	}
	return c
}

// Printf prints like fmt.Printf, in the place of the status if there is one.
func (c *console) Printf(format string, args ...any) {
	if c.status {
		fmt.Fprint(c.w, "\r\x1b[K")
		c.status = false
	}
	fmt.Fprintf(c.w, format, args...)
}

// Status shows how things stand at now, in a line that the next output replaces; where lines stay, only now and then.
func (c *console) Status(now time.Time, text string) {
	switch {
	case c.terminal:
		c.Printf("%s", text)
		c.status = true
	case now.Sub(c.last) >= statusInterval:
		c.Printf("%s\n", text)
		c.last = now
	}
}

// Table prints rows in columns, indented. Colours belong in the last column: they would shift what follows.
func (c *console) Table(rows [][]string) {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintf(w, "  %s\n", strings.Join(row, "\t"))
	}
	_ = w.Flush() // a strings.Builder does not fail
	c.Printf("%s", text.String())
}

// Good and Bad return text in green and in red, on a terminal.
func (c *console) Good(text string) string { return c.paint("32", text) }
func (c *console) Bad(text string) string  { return c.paint("31", text) }

func (c *console) paint(code, text string) string {
	if !c.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// plain returns text that came from elsewhere, quoted if it could do something to a terminal.
func plain(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.QuoteToASCII(text)
	}
	return text
}
