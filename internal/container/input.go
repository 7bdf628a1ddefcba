package container

import (
	"bufio"
	"errors"
	"io"
)

// input is a scanner's view of a file: buffered, counting, and telling a file that ends in the
// middle of a unit (io.ErrUnexpectedEOF) from one that cannot be read.
type input struct {
	*bufio.Reader
	pos int64
}

func newInput(r io.Reader) *input { return &input{Reader: bufio.NewReaderSize(r, 64<<10)} }

// full fills b. It fails with io.EOF only before the first byte.
func (in *input) full(b []byte) error {
	n, err := io.ReadFull(in.Reader, b)
	in.pos += int64(n)
	return err
}

// skip passes over n bytes.
func (in *input) skip(n int64) error {
	m, err := io.CopyN(io.Discard, in.Reader, n)
	in.pos += m
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// peek shows up to n bytes, fewer at the end of the input.
func (in *input) peek(n int64) []byte {
	b, _ := in.Peek(int(min(n, 4096)))
	return b
}

// drain reads to the end, so that pos becomes the input's size.
func (in *input) drain() error {
	n, err := io.Copy(io.Discard, in.Reader)
	in.pos += n
	return err
}

// ended reports whether err means no more than that the input ended.
func ended(err error) bool {
	return err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF)
}
