package config

import (
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
)

// Size is a number of bytes, written with its unit: 500MB, 2.5GB, 1TB in powers of 1000, 2GiB in powers of 1024.
type Size int64

var errSize = errors.New("want a size with its unit, such as 500MB, 2GB or 2GiB, or 0")

// parseSize reads a size as people write it.
func parseSize(text string) (Size, error) {
	n, err := humanize.ParseBytes(text)
	if err != nil || n > math.MaxInt64 || n > 0 && !strings.HasSuffix(strings.ToLower(text), "b") {
		return 0, errSize
	}
	return Size(n), nil
}

// String writes s in the largest unit that leaves no remainder.
func (s Size) String() string {
	units := []struct {
		name  string
		bytes Size
	}{{"TB", humanize.TByte}, {"GB", humanize.GByte}, {"MB", humanize.MByte}}
	for _, unit := range units {
		if s != 0 && s%unit.bytes == 0 {
			return strconv.FormatInt(int64(s/unit.bytes), 10) + unit.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
